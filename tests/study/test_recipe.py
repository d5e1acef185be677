from pathlib import Path

import pytest

from prunus import recipe
from prunus.errors import RecipeError
from prunus.study import load, parse_study

ROOT = Path(__file__).resolve().parents[2]


STUDIES = [
    path
    for path in sorted((ROOT / "recipes").glob("*.toml"))
    if "[study]" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_study_of_the_repository_is_valid_and_named_after_its_file(file):
    assert load(file).name == file.stem
    with pytest.raises(RecipeError, match="give it to `prunus study`"):
        recipe.load(file)


@pytest.mark.parametrize(
    ("grid", "other", "said"),
    [
        ({"select": "test"}, {}, "select must be 'val', got 'test': an accuracy by which"),
        ({}, {"data": {"name": "cifar10", "val_size": 0}}, "data.val_size is 0; hold some out"),
        ({"methods": ["l1_filter", {"name": "taylor", "finetune": {"length": "9it", "lr": 0.1}}]},
         {}, "different lengths in all, .* l1_filter 12it, taylor 17it. Give them equal ones, or"),
        ({"methods": ["l1_filter", {"name": "lottery", "training": "8it", "rounds": 2,
                                    "targets": {}}]}, {}, "l1_filter 12it, lottery 24it"),
        ({"methods": ["l1_filter", "l1_filter"]}, {}, "'l1_filter' 2 times; give each its own"),
        ({"methods": ["l1_fitler"]}, {}, "'l1_fitler' is unknown. Did you mean 'l1_filter'"),
        ({"methods": [{"name": "l1_filter", "round": 8}]}, {}, "Did you mean 'round_to'"),
        ({"methods": ["magnitude"]}, {}, "method 'magnitude' of the study: .*macs is a cost of"),
        ({"targets": {"macs": [50.0]}}, {}, "targets of method 'l1_filter': macs must be in"),
        ({"targets": {"mac": [0.5]}}, {}, "'study.targets.mac"),
        ({"arms": ["scratch_f"]}, {}, "got 'scratch_f'"),
        ({"arms": ["scratch_e"]}, {"train": None}, "weights or a .train. table"),
        ({}, {"finetune": None}, "fine-tuning needs a .finetune. table"),
        ({"seed": 3}, {}, "recipe key 'study.seed' is unknown. Did you mean 'seeds'"),
        ({"methods": []}, {}, "study.methods' must be a list of at least 1, got"),
        ({"targets": {"macs": [0.5, 0.5]}}, {}, "macs has 0.5 2 times; leave one"),
        ({"methods": [{"name": "fpgm", "targets": {"macs": [0.3, 0.3]}}]}, {}, "has 0.3 2 times"),
        ({"arms": ["pruned", "pruned"]}, {}, "arms has pruned 2 times; leave one"),
        ({"methods": ["snip"], "targets": {"sparsity": [0.9]}},
         {"finetune": {"length": "1ep", "lr": 0.1}}, "give both one unit, got '8it' and '1ep'"),
    ],
)  # fmt: skip
def test_what_is_not_honest_or_not_understood_is_refused(tables, grid, other, said):
    with pytest.raises(RecipeError, match=said):
        parse_study(tables(other=other, **grid))


def test_a_wrong_method_is_one_mistake(tables):
    with pytest.raises(RecipeError, match=r"^recipe table 'study\.methods\.0'.*sparsegpt\.$"):
        parse_study(tables(methods=["l1_fitler"]))


def test_unequal_budgets_may_be_said(tables):
    long = {"name": "taylor", "finetune": {"length": "9it", "lr": 0.1}}
    study = parse_study(tables(methods=["l1_filter", long], unequal_budgets=True))
    assert study.member(study.study.methods[1], None, 0).finetune.length == "9it"


def test_parts_of_epochs_that_add_up_to_the_same_are_equal_budgets(tables):
    methods = ["magnitude", {"name": "snip", "finetune": {"length": "0.30ep", "lr": 0.1}}]
    lengths = {"train": {"length": "0.1ep", "lr": 0.1}, "finetune": {"length": "0.2ep", "lr": 0.1}}
    study = parse_study(
        tables(methods=methods, targets={"sparsity": [0.9]}, arms=["fine_tuned"], other=lengths)
    )
    assert [str(study.lengths(one)["ep"]) for one in study.study.methods] == ["0.3", "0.30"]


def test_a_method_that_prunes_before_training_gets_the_same_budget(tables):
    study = parse_study(tables(methods=["snip"], targets={"sparsity": [0.9]}))
    (snip,) = study.study.methods
    member = study.member(snip, *study.targets(snip), seed=1)
    assert (member.train, member.finetune.length, member.finetune.lr) == (None, "12it", 0.05)
    assert study.lengths(snip) == {"it": 12}


def test_targets_of_its_own_and_labels(tables):
    methods = [
        {"name": "l1_filter", "label": "exact", "round_to": 1},
        {"name": "magnitude", "targets": {"sparsity": [0.5, 0.9]}},
    ]
    study = parse_study(tables(methods=methods))
    assert [m.title for m in study.study.methods] == ["exact", "magnitude"]
    assert [[t.metric for t in study.targets(m)] for m in study.study.methods] == [
        ["macs"], ["sparsity", "sparsity"],
    ]  # fmt: skip
    assert study.study.methods[0].arguments == {"round_to": 1}


def test_a_run_is_not_a_study(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('name = "run"\n')
    with pytest.raises(RecipeError, match="give it to `prunus run`"):
        load(path)


def test_text_form_reads_back_and_set_changes_it(tables, tmp_path):
    study = parse_study(tables(methods=["l1_filter", {"name": "taylor", "label": "t"}]))
    path = tmp_path / "study.toml"
    path.write_text(study.to_toml())
    assert load(path).model_dump() == study.model_dump()
    changed = load(path, ["study.targets.macs=[0.3]", "study.seeds=5"])
    assert (changed.study.targets, changed.study.seeds) == ({"macs": (0.3,)}, 5)
