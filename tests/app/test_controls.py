"""The controls of a recipe: what a ticket is compared with."""

import sys

import pytest
import torch
from torch import nn

import prunus
from prunus.errors import RecipeError
from prunus.files import read_tensors
from prunus.recipe import load
from prunus.run import run

RECIPE = """
name = "ticket"
[model]
name = "lenet300"
[data]
name = "fashion-mnist-embedded"
batch_size = 50
[method]
name = "lottery"
training = "12it"
rounds = 2
[finetune]
length = "12it"
lr = 0.05
eval_every = "4it"
checkpoint_every = "3it"
[export]
onnx = false
"""
SIZES = (784 * 300, 300 * 100, 100 * 10)


def arms(finished):
    return {arm["name"]: arm for arm in finished.document["arms"]}


def tensors(finished, stage, file="weights"):
    return read_tensors(finished.directory / stage / f"{file}.safetensors")[0]


def kept(finished, stage):
    return {n: w != 0 for n, w in tensors(finished, stage).items() if w.ndim == 2}


@pytest.fixture
def ticket(tiny):
    """The path of a recipe for a lottery ticket that runs in a few seconds."""
    tiny.write_text(RECIPE)
    return tiny


def test_random_masks_keep_as_many_weights_as_the_ticket(ticket, tmp_path):
    changes = ["arms=['reinit', 'random_mask', 'shuffle_all', 'shuffle_even']", "draws=2"]
    finished = run(load(ticket, [*changes, "method.rewind=4it"]), tmp_path / "runs")
    names = ("re-initialised", "random mask", "shuffled over all", "shuffled evenly")
    assert list(arms(finished))[2:] == [n for name in names for n in (name, f"{name} 2")]

    levels = finished.document["levels"]
    assert [round(level["density"], 3) for level in levels] == [1, 0.8, 0.641]
    records = finished.document["curves"]["pruned"]
    assert levels[0]["final_accuracy"] == records[2]["val_accuracy"]
    assert all(arm["early_stop"] in (4, 8, 12) for arm in list(arms(finished).values())[1:])

    mask = {n: m for n, m in tensors(finished, "prune", "mask").items() if n.endswith("weight")}
    count = [int(m.sum()) for m in mask.values()]
    masks = {
        stage: kept(finished, stage)
        for arm in ("reinit", "random_mask", "shuffle_all", "shuffle_even")
        for stage in (arm, f"{arm}-2")
    }
    counts = {stage: [int(m.sum()) for m in found.values()] for stage, found in masks.items()}
    assert counts["reinit"] == counts["random_mask"] == count
    assert {sum(found) for found in counts.values()} == {sum(count)}
    shares = [n / size for n, size in zip(counts["shuffle_even"], SIZES, strict=True)]
    assert shares == pytest.approx([sum(count) / sum(SIZES)] * 3, abs=1e-3)
    for stage, found in masks.items():
        assert torch.equal(found["fc1.weight"], mask["fc1.weight"]) == stage.startswith("reinit")
    assert not torch.equal(masks["shuffle_all"]["fc1.weight"], masks["shuffle_all-2"]["fc1.weight"])


def test_controls_at_every_level_are_drawn_beside_the_ticket(ticket, tmp_path):
    changes = ["arms=['reinit', 'random_mask']", "draws=2", "every_level=true"]
    finished = run(load(ticket, changes), tmp_path / "runs")
    found = finished.document["tickets"]
    assert [(row["arm"], row["level"]) for row in found if row["draw"] == 1] == [
        ("winning ticket", 0), ("winning ticket", 1), ("winning ticket", 2),
        ("re-initialised", 1), ("random mask", 1), ("re-initialised", 2), ("random mask", 2),
    ]  # fmt: skip
    assert len(found) == 3 + 2 * 2 * 2
    assert list(arms(finished))[2:] == [  # the table has those of the last level alone
        "re-initialised", "re-initialised 2", "random mask", "random mask 2",
    ]  # fmt: skip
    first = kept(finished, "random_mask-2-level-1")
    mask = tensors(finished, "prune", "mask-1")
    assert int(first["fc1.weight"].sum()) == int(mask["fc1.weight"].sum())
    page = (finished.directory / "report.html").read_text(encoding="utf-8")
    assert page.count('data-chart="early_stop"') == 1


def test_levels_are_a_lotterys(ticket):
    for changes in (["every_level=true"], ["every_level=true", "arms=['unpruned']"]):
        with pytest.raises(RecipeError, match="every_level is for the arms reinit, random_mask"):
            load(ticket, changes)


def test_a_pattern_designs_networks_of_the_same_cost(tiny, tmp_path):
    changes = ["arms=['scratch_e', 'uniform', 'guided', 'transferred']", "source.model.name=lenet5"]
    finished = run(load(tiny, changes), tmp_path / "runs")
    found = arms(finished)
    assert list(found)[3:] == ["scratch-E", "uniform", "guided", "transferred"]
    for name in ("uniform", "guided", "transferred"):
        assert found[name]["macs"] == pytest.approx(found["scratch-E"]["macs"], rel=0.02)
        assert found[name]["epochs"] == found["dense"]["epochs"]
    assert list((tmp_path / "runs").glob("tiny-source-*/seed-0/prune/mask.safetensors"))


def test_the_unpruned_arm_is_the_first_training_of_the_lottery(ticket, tmp_path):
    finished = run(load(ticket, ["arms=['unpruned']"]), tmp_path / "runs")
    curves = finished.document["curves"]
    assert curves["unpruned"] == curves["pruned"][:3]
    assert arms(finished)["unpruned"]["nonzero"] == arms(finished)["unpruned"]["params"]
    assert arms(finished)["dense"]["accuracy"] is None
    assert "the dense network was pruned as it was drawn, not trained" in finished.document["notes"]
    page = (finished.directory / "report.html").read_text(encoding="utf-8")
    assert "<td>64.1 %</td>" in page


def test_a_small_dense_network_costs_its_own_macs_beside_single_weights(tiny, tmp_path):
    tiny.write_text(tiny.read_text().replace("macs = 0.5", "sparsity = 0.9"))
    changes = ["method={name='magnitude'}", "arms=['small_dense']"]
    found = arms(run(load(tiny, changes), tmp_path / "runs"))
    dense, small = found["dense"], found["equal-size dense"]
    assert small["macs"] / dense["macs"] == pytest.approx(
        small["params"] / dense["params"], abs=0.01
    )


def test_random_masks_begin_from_the_weights_that_were_rewound_to(ticket, tmp_path):
    changes = ["arms=['random_mask', 'reinit']", "finetune.lr=1e-9", "finetune.momentum=0"]
    finished = run(load(ticket, [*changes, "method.rewind=4it"]), tmp_path / "runs")
    start = tensors(finished, "prune", "start")["fc1.weight"]
    control, other = (tensors(finished, arm)["fc1.weight"] for arm in ("random_mask", "reinit"))
    assert torch.allclose(control, start * (control != 0), atol=1e-6)
    assert not torch.allclose(other, start * (other != 0), atol=1e-6)
    # Its first four of twelve steps were those of the first training; eight make an epoch.
    assert arms(finished)["random mask"]["epochs"] == 1
    assert arms(finished)["re-initialised"]["epochs"] == 1.5


def test_a_smaller_network_is_drawn_anew_as_the_first_was(tiny, tmp_path):
    finished = run(load(tiny, ["arms=['reinit']", "draws=2"]), tmp_path / "runs")
    found = arms(finished)
    assert list(found)[2:] == ["not fine-tuned", "re-initialised", "re-initialised 2"]
    assert found["re-initialised"]["params"] == found["fine-tuned"]["params"]
    assert found["re-initialised"]["epochs"] == found["dense"]["epochs"]
    drawn = [tensors(finished, stage)["fc1.weight"] for stage in ("reinit", "reinit-2")]
    assert not torch.equal(*drawn)


def normed():
    layers = (nn.Conv2d(1, 16, 5, stride=4), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(576, 10))
    nn.init.constant_(model[1].weight, 0.5)
    return model


def test_arms_from_scratch_begin_with_the_batch_norms_of_the_dense_training(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "test_controls", sys.modules[__name__])
    changes = [
        f"{table}.{key}" for table in ("train", "finetune") for key in ("lr=1e-9", "momentum=0")
    ]
    changes += ["arms=['scratch_e', 'small_dense']", "method.round_to=1"]
    tiny.write_text(
        tiny.read_text().replace('name = "lenet300"', 'factory = "test_controls:normed"')
    )
    finished = run(load(tiny, changes), tmp_path / "runs")
    for stage in ("scratch_e", "small_dense"):
        scale = tensors(finished, stage)["1.weight"]
        assert 0 < len(scale) < 16
        assert torch.allclose(scale, torch.full_like(scale, 0.5), atol=1e-6)


def grouped():
    layers = (nn.Conv2d(1, 16, 5, stride=4), nn.ReLU(), nn.Conv2d(16, 32, 3, groups=4), nn.ReLU())
    return nn.Sequential(*layers, nn.Conv2d(32, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_whole_groups_are_rebuilt_from_their_mask_in_every_stage(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_controls", sys.modules[__name__])
    tiny.write_text(
        tiny.read_text()
        .replace('name = "lenet300"', 'factory = "test_controls:grouped"')
        .replace('name = "l1_filter"', 'name = "sss"\nunit = "group"\nbegin = "4it"')
        .replace("macs = 0.5", "sparsity = 0.5")
    )
    finished = run(load(tiny, ["arms=['scratch_e']"]), tmp_path / "runs")
    (group,) = (group for group in finished.document["groups"] if group["before"] == 4)
    assert group["after"] == 2
    for stage in ("prune", "scratch_e"):
        assert tensors(finished, stage)["2.weight"].shape == (16, 4, 3, 3)
    small = prunus.load(next(finished.directory.rglob("pruned.safetensors")))
    assert [m.groups for m in small.modules() if isinstance(m, nn.Conv2d)] == [1, 2, 1]
