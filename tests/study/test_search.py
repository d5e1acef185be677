"""The [tune] table: what may be searched, and what is refused."""

from pathlib import Path

import pytest

from prunus import recipe
from prunus.errors import RecipeError
from prunus.study import load_search, parse_search
from prunus.study.axes import Choice, Range
from prunus.study.search import Tune
from tiny import SEARCH

ROOT = Path(__file__).resolve().parents[2]
SEARCHES = [
    path
    for path in sorted((ROOT / "recipes").glob("*.toml"))
    if "[tune]" in path.read_text(encoding="utf-8")
]
WEIGHTS = {"method": {"name": "magnitude"}}
SPARSE = {"target.sparsity": {"low": 0.5, "high": 0.9}}


@pytest.mark.parametrize("file", SEARCHES, ids=lambda file: file.stem)
def test_every_search_of_the_repository_is_valid_and_named_after_its_file(file):
    assert load_search(file).name == file.stem
    with pytest.raises(RecipeError, match="give it to `prunus tune`"):
        recipe.load(file)


def test_there_is_a_search_in_the_repository():
    assert SEARCHES


@pytest.mark.parametrize(
    ("searched", "said"),
    [
        ({"target.mac": {"low": 0.2, "high": 0.8}}, "tune.search: recipe key 'target.mac' is unkn"),
        ({"tragets.macs": [0.5]}, "recipe key 'tragets' is unknown"),
        ({"method.strenght": [1e-4]}, "method 'l1_filter' has no 'strenght'"),
        ({"method.name": ["l1_filter", "fpmg"]}, "'fpmg' is unknown. Did you mean 'fpgm'"),
        ({"target.macs": {"low": 0.5, "high": 1.5}}, "macs must be in (0, 1], got 1.5"),
        ({"finetune.lr": {"low": 0, "high": 1.0}}, "'finetune.lr' must be above 0, got 0"),
        ({"finetune.lr": {"low": 0.0, "high": 1.0, "log": True}}, "above 0 for a logarithmic"),
        ({"finetune.lr": {"low": 1.0, "high": 0.1}}, "'finetune.lr': low must be below high"),
        ({"finetune.lr": {"low": 0.1}}, "'finetune.lr': a range needs low and high, and high is"),
        ({"finetune.lr": {"low": 0.1, "high": "1"}}, "high must be a number, got '1'"),
        ({"finetune.lr": {"low": 0.1, "high": True}}, "high must be a number, got True"),
        ({"finetune.lr": {"low": 0.1, "high": 1.0, "lgo": True}}, "a range has no 'lgo'. Did you"),
        ({"finetune.lr": {"low": 0.1, "high": 1.0, "step": 0.1, "log": True}}, "step must be"),
        ({"finetune.lr": 0.1}, "'finetune.lr': it must be a range or a list of choices, got 0.1"),
        ({"finetune.lr": []}, "'finetune.lr': a list of choices must not be empty"),
        ({"finetune.lr": [0.1, 0.1]}, "choices must differ"),
        ({"finetune.lr": [0.1], "finetune": {"lr": [0.2]}}, "'finetune.lr' is searched twice"),
        ({"method.ratios.layer1.*": [0.1]}, "is no key of TOML; quote a part that has other than"),
        ({"seed": [0, 1, 2]}, "'seed' must be the same in all trials, or they cannot be compared"),
        ({"data.val_size": [10, 20]}, "'data.val_size' must be the same in all trials"),
        ({"bench.threads": [1, 2]}, "'bench.threads' must be the same in all trials"),
        ({"name.x": ["a"]}, "'name.x' must be the same"),
        ({}, "tune.search"),
    ],
)  # fmt: skip
def test_a_key_or_range_that_cannot_be_is_refused(search, searched, said):
    with pytest.raises(RecipeError) as caught:
        search(search=searched)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("tune", "other", "said"),
    [
        ({"objectives": ["speed"]}, {}, "'tune.objectives.0"),
        ({"objectives": ["macs", "params"]}, {}, "one cost or both, got macs, params; put the oth"),
        ({"objectives": ["accuracy", "perplexity"]}, {}, "must be the metric of the data"),
        ({"objectives": []}, {}, "got none"),
        ({"objectives": ["macs"]}, {}, "the least macs is found by pruning everything; add a metr"),
        ({"limits": {"accuracy": 90}}, {}, "limits.accuracy must be in (0, 1], got 90. Did you me"),
        ({"limits": {"latency_ms": 0}}, {}, "limits.latency_ms must be above 0, got 0"),
        ({"trails": 3}, {}, "recipe key 'tune.trails' is unknown. Did you mean 'trials'"),
        ({"trials": 0}, {}, "'tune.trials' must be at least 1"),
        ({"minutes": 0}, {}, "'tune.minutes' must be above 0"),
        ({"sampler": "tpa"}, {}, "got 'tpa'. Did you mean 'tpe'"),
        ({"objectives": ["accuracy", "latency_ms"]}, {"bench": {"rounds": 0}}, "latency_ms is not"),
        ({"objectives": ["accuracy", "latency_ms"]}, {"export": {"onnx": False}}, "not measured"),
        ({"limits": {"latency_ms": 1.0}}, {"bench": {"rounds": 0}}, "latency_ms is not measured"),
        ({"objectives": ["accuracy", "bytes"], "search": SPARSE}, WEIGHTS, "leaves bytes as they"),
        ({}, {"data": SEARCH["data"] | {"val_size": 0}}, "data.val_size is 0; hold some out"),
        ({"search": {"target.macs": [0.5]}}, {"data": None, "train": None, "finetune": None},
         "there is no [data] table"),
    ],
)  # fmt: skip
def test_what_is_not_measured_or_makes_no_sense_is_refused(search, tune, other, said):
    with pytest.raises(RecipeError) as caught:
        search(other=other, **tune)
    assert said in str(caught.value)


def test_keys_with_dots_written_out_and_quoted(search):
    searched = {
        'method.ratios."conv.*"': [0.1, 0.2],
        "method": {"ratios": {"fc1": {"low": 0, "high": 0.5, "step": 0.25}}},
        "finetune.length": ["1it", "2it"],
    }
    found = search(search=searched)
    layers, fc1, length = found.tune.axes
    assert (layers, fc1) == (("method", "ratios", "conv.*"), ("method", "ratios", "fc1"))
    assert found.tune.axes[fc1] == Range(0, 0.5, step=0.25)
    member = found.member({layers: 0.2, fc1: 0.25, length: "2it"})
    assert member.method.arguments["ratios"] == {"conv.*": 0.2, "fc1": 0.25}
    assert member.finetune.length == "2it"


def test_a_target_that_is_searched_replaces_the_recipes(search):
    found = search(other={"target": {"params": 0.5}}, search={"target.macs": [0.3, 0.4]})
    assert found.member({("target", "macs"): 0.4}).target.macs == 0.4


def test_whole_tables_are_choices_and_come_before_their_keys(search):
    methods = [{"name": "l1_filter", "round_to": 8}, {"name": "taylor"}]
    found = search(search={"method.round_to": [1, 4], "method": methods})
    member = found.member({("method", "round_to"): 4, ("method",): methods[1]})
    assert (member.method.name, member.method.arguments) == ("taylor", {"round_to": 4})


class Trial:
    """Answers as Optuna's does, with what is given."""

    def __init__(self, value):
        self.value = value

    def suggest_int(self, name, low, high, *, step, log):
        return self.value

    def suggest_float(self, name, low, high, *, step, log):
        return self.value

    def suggest_categorical(self, name, choices):
        return choices[self.value]


def test_values_are_of_their_kind_and_can_be_read():
    assert Range(1, 8).suggest(Trial(3), "k") == 3
    assert Range(1e-5, 1e-3, log=True).suggest(Trial(1.234567e-4), "k") == 1.235e-4
    # Rounding does not leave the range.
    assert Range(0.2, 0.84321).suggest(Trial(0.84321), "k") == 0.8432
    assert Range(0.2, 0.84325).suggest(Trial(0.843249), "k") == 0.8432
    assert Range(0.123456, 0.5).suggest(Trial(0.1234561), "k") == 0.1235
    assert Range(0.12342, 0.5).suggest(Trial(0.12342), "k") == 0.12342
    values = (True, 1, "1", [1, 2], {"name": "taylor"})
    assert [Choice(values).suggest(Trial(k), "k") for k in range(5)] == list(values)


def test_text_form_reads_back_and_only_what_trials_depend_on_names_the_folder(search, tmp_path):
    found = search(limits={"macs": 0.5}, search={'method.ratios."conv.*"': [0.1], **SPARSE})
    path = tmp_path / "search.toml"
    path.write_text(found.to_toml())
    again = load_search(path)
    assert (again.recipe, again.tune) == (found.recipe, found.tune)
    same = load_search(path, ["tune.trials=99", "tune.minutes=5", "name=other"])
    assert (same.tune.trials, same.tune.minutes, same.hash8) == (99, 5, found.hash8)
    for change in ("tune.limits.macs=0.4", "tune.seed=1", "finetune.momentum=0.5", "seed=1"):
        assert load_search(path, [change]).hash8 != found.hash8


def test_a_run_is_not_a_search(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('name = "run"\n')
    with pytest.raises(RecipeError, match=r"no .tune. table, so nothing is searched"):
        load_search(path)


def test_a_recipe_that_stands_alone_finds_its_files_from_elsewhere(tmp_path):
    weights = {"model": {"name": "lenet300", "weights": "own.safetensors"}}
    (tmp_path / "own.safetensors").write_bytes(b"")
    found = parse_search(SEARCH | weights, tmp_path)
    recipe = found.standing_alone({("target", "macs"): 0.5, ("finetune", "lr"): 0.1}, "best")
    assert recipe.model.weights == str(tmp_path / "own.safetensors")
    assert (recipe.name, recipe.target.macs, recipe.finetune.lr) == ("best", 0.5, 0.1)


def test_what_moves_the_evaluations_is_seen_inside_of_whole_tables():
    lengths = [{"length": "1ep"}, {"length": "9ep"}]
    for searched in ({"finetune": lengths}, {"finetune.length": ["1ep", "9ep"]}):
        assert Tune(objectives=["accuracy"], search=searched).uneven
    assert not Tune(objectives=["accuracy"], search={"finetune.lr": [0.1, 0.2]}).uneven
