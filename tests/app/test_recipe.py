import dataclasses
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from prunus.errors import RecipeError
from prunus.recipe import Recipe, leaves, load, override, parse, to_toml
from prunus.run.fits import check_schedule
from prunus.types import Target

ROOT = Path(__file__).resolve().parents[2]

MINIMAL = """
name = "small"
[model]
name = "lenet300"
[data]
name = "fashion-mnist-embedded"
[method]
name = "l1_filter"
[train]
length = "2ep"
lr = 0.1
[target]
macs = 0.5
"""

MAGNITUDE = {"method": {"name": "magnitude"}, "target": {"sparsity": 0.9}}
LOTTERY = {
    "method": {"name": "lottery", "training": "2ep"},
    "target": None,
    "finetune": {"length": "2ep", "lr": 0.1},
}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(MINIMAL)
    return file


RUNS = [
    path
    for path in sorted((ROOT / "recipes").glob("*.toml"))
    if not {"[study]", "[tune]", "[clients]"} & {*path.read_text(encoding="utf-8").split()}
]


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_every_recipe_of_the_repository_is_valid_and_named_after_its_file(file):
    assert load(file).name == file.stem


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("method.name=l1_fitler", "method 'l1_fitler' is unknown. Did you mean 'l1_filter'"),
        ("method.round=8", "method 'l1_filter' has no 'round'. Did you mean 'round_to'?"),
        ("method.ratios={conv1=60.0}", "must be in [0, 1], got 60. Did you mean 0.6?"),
        ("target.sparsity=90", "sparsity must be in [0, 1), got 90. Did you mean 0.9?"),
        ("target.macs=-0.5", "macs must be in (0, 1], got -0.5."),
        ("target.mac=0.5", "recipe key 'target.mac' is unknown. Did you mean 'macs'"),
        ("target={macs=0.5, params=0.5}", "exactly one of"),
        (
            "target={speedup=2.0, runtime='onnx'}",
            "runtime 'onnx' is unknown; there are onnxruntime",
        ),
        (
            "bench.runtime=openvin",
            "runtime 'openvin' is unknown; there are onnxruntime, openvino, ",
        ),
        ("target={speedup=2.0, runtime='torch', precision='int8'}", "does not compute in int8"),
        ("target={speedup=2.0, precision='int4'}", "precision must be one of fp32, bf16, int8"),
        ("target.macs=half", "'target.macs' must be a number, got 'half'."),
        ("model.name=lenet55", "network 'lenet55' is unknown. Did you mean 'lenet5'"),
        ("model.name=torchvision:resnet19", "torchvision has no model 'resnet19'. Did you mean"),
        ("model.factory=nets:build", "either a name or a factory"),
        ("data.name=cifar11", "dataset 'cifar11' is unknown. Did you mean 'cifar10'"),
        ("data.batch_size=0", "'data.batch_size' must be at least 1, got 0."),
        ("train.lenght=3ep", "recipe key 'train.lenght' is unknown. Did you mean 'length'?"),
        ("train.length='3'", "must be a number with its unit, '500it' or '12ep', got '3'."),
        ("train.length=3", "'train.length' must be text, got 3."),
        ("train.lr=fast", "'train.lr' must be a number, got 'fast'."),
        ("train.lr=-1.0", "'train.lr' must be above 0, got -1.0."),
        ("train.optimizer=sdg", "must be 'sgd', 'adam' or 'adamw', got 'sdg'. Did you mean 'sgd'"),
        ("traim.lr=0.1", "recipe key 'traim' is unknown. Did you mean 'train'?"),
        ("name=a/b", "'name' must be text that matches"),
        ("seed=1.5", "'seed' must be a whole number, got 1.5."),
        ('arms=["scratch_f"]', "'guided' or 'transferred', got 'scratch_f'."),
        ("bench.rounds=many", "'bench.rounds' must be a whole number, got 'many'."),
        ("distil.temprature=4.0", "recipe key 'distil.temprature' is unknown. Did you mean"),
        ("distil.temperature=inf", "'distil.temperature' must be"),
        ("distil.temperature=0.0", "temperature must be above 0, got 0.0."),
        ("distil.hard_weight=-0.5", "hard_weight must be at least 0 and finite, got -0.5."),
        ("distil.combine=median", "must be 'arithmetic' or 'geometric', got 'median'."),
        ("distil.temperature=4.0", "[distil] says how [finetune] learns; add that table."),
        ("method={name='distil'}", "method 'distil' says how [finetune] learns; add that table."),
        ("method={name='distil', temperature=inf}", "temperature must be finite, got inf."),
        ("data=cifar10", "'data' must be a table, got 'cifar10'."),
        ("name.x=1", "'name' is a value, not a table"),
        ("method.min_keep=few", "recipe key 'method.min_keep' must be a whole number, got 'few'."),
        ("method.skip=conv1", "recipe key 'method.skip' must be a list, got 'conv1'."),
        ("method={name='han', q={fc1='x'}}", "recipe key 'method.q.fc1' must be a number, got 'x'"),
        ("train.length=0ep", "length must be above 0, got '0ep'; leave the table out."),
        ("train={length='3ep', lr=0.1, schedule='step', step='0it'}", "step must be above 0, got"),
        ("train.eval_every=0ep", "eval_every must be above 0, got '0ep'."),
        ("seed", "--set must be table.key=value, got 'seed'."),
    ],
)
def test_a_mistake_is_named_with_a_way_out(path, change, said):
    with pytest.raises(RecipeError) as caught:
        load(path, [change])
    assert said in str(caught.value)


def test_a_recipe_that_is_missing_or_not_toml(tmp_path):
    with pytest.raises(
        RecipeError, match=r"recipe must be a readable TOML file, got .*No such file"
    ):
        load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(RecipeError, match=r"bad\.toml is not valid TOML"):
        load(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"train": None}, "the dense network needs weights or a .train. table"),
        ({"data": None}, "need a .data. table"),
        ({"train": None, "model": {"name": "lenet300", "weights": "w"}, "arms": ["scratch_e"]},
         "arms scratch_e repeat the dense network's training"),
        ({"method": {"name": "gradual"}}, "needs a .finetune. table"),
        ({"finetune": {"length": "1it", "lr": 0.1, "label_smoothing": 0.1}, "distil": {"combine":
         "geometric"}}, "finetune.label_smoothing exclude each other"),
        ({"train": None, "method": {"name": "snip"}, "target": {"sparsity": 0.5}, "distil":
          {"hard_weight": 1.0}, "finetune": {"length": "1it", "lr": 0.1}},
         "needs a trained teacher, but the unpruned network is not trained"),
        ({"arms": ["reinit", "shuffle_all"]}, "arms shuffle_all draw single weights"),
        ({"arms": ["unpruned"]}, "the arm unpruned is the dense network"),
        ({"train": None, "model": {"name": "lenet300", "weights": "w"}, "arms": ["reinit"]},
         "arms reinit repeat the dense network's training"),
        (MAGNITUDE | {"model": {"name": "lenet300", "weights": "w"}, "arms": ["random_mask"]},
         "arms random_mask begin from the first weights, which are not known"),
        (LOTTERY | {"finetune": {"length": "3ep", "lr": 0.1}},
         "is one training of method 'lottery' and must be its '2ep', got '3ep'"),
        (LOTTERY | {"finetune": {"length": "2ep", "lr": 0.1, "early_stop": 1}}, "leave early_stop"),
        (LOTTERY | {"finetune": {"length": "2ep", "lr": 0.1, "start": "1ep"}}, "leave finetune.st"),
        ({"method": {"name": "gradual"}, "finetune": {"length": "2ep", "lr": 0.1, "early_stop": 1}},
         "until its schedule ends; leave early_stop out"),
        ({"train": None, "arms": ["scratch_e"], "model": {"name": "lenet300", "weights": "w"}},
         "arms scratch_e repeat the dense network's training"),
        ({"arms": ["random"]}, "the arm random trains as"),
        (LOTTERY | {"target": {"sparsity": 0.9}, "method": {"rate": 0.5, **LOTTERY["method"]}},
         "sparsity 0.9 takes 3 rounds at a rate of 0.5, got rounds=5"),
        ({"name": None}, "recipe key 'name' is missing"),
    ],
)  # fmt: skip
def test_what_must_come_together(tables, said):
    import tomllib

    given = {key: value for key, value in (tomllib.loads(MINIMAL) | tables).items() if value}
    with pytest.raises(RecipeError, match=said):
        parse(given)


def test_overrides_are_toml_values_and_text_needs_no_quotes(path):
    recipe = load(path, ["train.length=7ep", "train.lr=0.5", "seed=3", "method.skip=['conv*']"])
    assert recipe.train.length == "7ep"
    assert recipe.train.lr == 0.5
    assert recipe.seed == 3
    assert recipe.method.arguments == {"skip": ["conv*"]}


def test_a_key_with_a_pattern_is_quoted_as_in_toml(path):
    assignment = 'method.ratios."layer1.*"=0.6'
    recipe = load(path, ["method.name=l1_filter", assignment])
    assert recipe.method.arguments["ratios"] == {"layer1.*": 0.6}
    ((key, value),) = leaves({"method": recipe.method.arguments})
    assert f"{key}={value}" == assignment
    with pytest.raises(RecipeError, match=r"is no key of TOML; quote a part that has other than"):
        load(path, ["method.ratios.layer1.*=0.6"])


def test_what_is_none_is_left_out_of_the_text():
    import tomllib

    text = to_toml({"method": {"name": "drop", "p_in": None}, "of": [{"a": None, "b": 1}]})
    assert tomllib.loads(text) == {"method": {"name": "drop"}, "of": [{"b": 1}]}


def test_a_schedule_must_end_in_the_steps_that_a_late_start_leaves():
    import tomllib

    tables = tomllib.loads(MINIMAL) | MAGNITUDE | {"method": {"name": "gradual", "end": "8it"}}
    for start in (4, 6):
        finetune = {"length": "12it", "lr": 0.1, "start": f"{start}it"}
        recipe = parse(tables | {"finetune": finetune})
        with nullcontext() if start == 4 else pytest.raises(RecipeError, match="6 steps from st"):
            check_schedule(recipe, SimpleNamespace(steps_per_epoch=8))


def test_a_target_given_on_the_command_line_replaces_the_recipes(path):
    target = load(path, ["target.params=0.3"]).target
    assert (target.metric, target.value) == ("params", 0.3)


def test_where_time_is_measured_is_no_other_target(path):
    target = load(path, ["target.speedup=2.0", "target.threads=2"]).target
    assert (target.metric, target.value, target.threads) == ("speedup", 2.0, 2)
    path.write_text(MINIMAL.replace("macs = 0.5", "speedup = 2.0\nthreads = 4"))
    assert load(path, ["target.macs=0.3"]).target == Target(macs=0.3)


def test_override_leaves_its_input_alone():
    tables = {"target": {"macs": 0.5}}
    override(tables, ["target.macs=0.1"])
    assert tables == {"target": {"macs": 0.5}}


def test_hash_is_of_the_choices_not_of_how_they_are_written(path):
    same = load(path, ["data.batch_size=128", "seed=5"])  # a default, and the seed
    assert load(path).hash8 == same.hash8
    assert load(path).hash8 != load(path, ["target.macs=0.4"]).hash8
    assert load(path).hash8 != load(path, ["method.min_keep=2"]).hash8


def test_text_form_reads_back_as_the_same_recipe(path, tmp_path):
    recipe = load(
        path,
        [
            "method.ratios={'layer1.*' = 0.5}",
            "arms=['scratch_b']",
            "bench.rounds=7",
            "distil={}",
            "finetune={length='1it', lr=0.1}",
        ],
    )
    again = tmp_path / "again.toml"
    again.write_text(recipe.to_toml())
    assert load(again) == recipe
    assert load(again).hash8 == recipe.hash8


def test_weights_are_found_beside_the_recipe_then_here_then_in_the_data_folder(
    path, tmp_path, monkeypatch
):
    here, data = tmp_path / "here", tmp_path / "data"
    for folder in (here, data):
        folder.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PRUNUS_DATA", str(data))
    recipe = load(path, ["model.weights=w.safetensors"])
    with pytest.raises(RecipeError, match=r"which is in none of .*PRUNUS_DATA"):
        recipe.locate("w.safetensors")
    for folder in (data, here, tmp_path):
        (folder / "w.safetensors").touch()
        assert os.path.samefile(recipe.locate("w.safetensors"), folder / "w.safetensors")


def test_a_recipe_cannot_be_changed(path):
    recipe: Recipe = load(path)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.target.macs = 0.1
