import json
import sys

import pytest
import torch
from torch import nn

import prunus
from prunus.demo import recipes, side_by_side
from prunus.errors import RecipeError
from prunus.files import read_tensors
from prunus.recipe import load
from prunus.run import modules, run
from prunus.zoo import network


def arms(finished):
    return {arm["name"]: arm for arm in finished.document["arms"]}


def weights(finished, stage):
    return read_tensors(finished.directory / stage / "weights.safetensors")[0]


def test_filters_with_every_stage(tiny, tmp_path):
    changes = ["arms=['scratch_e', 'scratch_b']", "export.onnx=true", "bench.rounds=6"]
    finished = run(load(tiny, changes), tmp_path / "runs")
    found = arms(finished)
    assert list(found) == ["dense", "fine-tuned", "not fine-tuned", "scratch-E", "scratch-B"]
    dense, small = found["dense"], found["fine-tuned"]
    assert small["macs"] == pytest.approx(0.5 * dense["macs"], rel=0.01)
    assert small["params"] < 0.6 * dense["params"]
    assert small["file_bytes"] < 0.6 * dense["file_bytes"]
    assert small["latency_ms"]["low"] <= small["latency_ms"]["median"]
    assert small["speedup"]["median"] > 0
    rows = {(row["network"], row["precision"]): row for row in finished.document["delivered"]}
    assert list(rows) == [
        ("dense", "fp32"), ("dense", "int8"), ("pruned", "fp32"), ("pruned", "int8")
    ]  # fmt: skip
    assert rows["pruned", "int8"]["bytes"] < 0.4 * rows["pruned", "fp32"]["bytes"]
    assert rows["dense", "int8"]["agreement"] > 0.9
    assert (finished.directory / "quantise" / "pruned-int8.onnx").is_file()
    again = modules(finished.directory)
    recovered = weights(finished, "recover")
    for name, tensor in again["pruned"].model.state_dict().items():
        assert torch.equal(tensor, recovered[name])
    assert small["epochs"] == pytest.approx(6 / 8)
    # Equal epochs, and equal multiply-accumulates: half of them per sample, twice as long.
    assert found["scratch-E"]["epochs"] == dense["epochs"] == 12 / 8
    assert found["scratch-B"]["epochs"] == pytest.approx(24 / 8, abs=1 / 8)
    assert finished.document["verification"]["passed"]
    assert set(finished.document["curves"]) == {"dense", "fine-tuned", "scratch-E", "scratch-B"}

    saved = prunus.load(finished.directory / "export" / "pruned.safetensors", network("lenet300"))
    recovered = weights(finished, "recover")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(tensor, recovered[name])
    scratch = weights(finished, "scratch_e")
    assert not any(torch.equal(scratch[name], recovered[name]) for name in recovered)
    assert not list(finished.directory.rglob("*.checkpoint.*"))


@pytest.mark.parametrize(
    ("method", "last"),
    [(["method.name=magnitude"], "recover"),
     (["method={name='gradual', end='4it', every='2it'}"], "prune")],
    ids=["at once", "gradually"],
)  # fmt: skip
def test_weights_stay_zero_while_the_others_recover(tiny, tmp_path, method, last):
    changes = [*method, "target.sparsity=0.75", "arms=['scratch_e']", "finetune.momentum=0.9"]
    finished = run(load(tiny, changes), tmp_path / "runs")
    mask = read_tensors(finished.directory / "prune" / "mask.safetensors")[0]
    dropped = sum(int((~kept).sum()) for kept in mask.values())
    assert dropped == pytest.approx(0.75 * (784 * 300 + 300 * 100 + 100 * 10), abs=3)
    for stage in (last, "scratch_e"):
        for name, tensor in weights(finished, stage).items():
            if name in mask:
                assert not tensor[~mask[name]].any()
    assert finished.document["target"]["reached"] == pytest.approx(0.75, abs=1e-4)
    assert (finished.directory / "recover").exists() == (last == "recover")


def test_recipes_that_train_the_same_dense_network_train_it_once(tiny, tmp_path):
    told = []

    def announce(name, result, seconds):
        told.append((name, seconds is None))

    root = tmp_path / "runs"
    run(load(tiny), root, announce=announce)
    run(load(tiny, ["target.macs=0.7"]), root, announce=announce)
    assert told == [
        ("dense", False), ("prune", False), ("recover", False), ("export", False),
        ("dense", True), ("prune", False), ("recover", False), ("export", False),
    ]  # fmt: skip


def test_a_recipe_written_by_a_run_repeats_it(tiny, tmp_path):
    first = run(load(tiny, ["target.macs=0.7", "seed=2"]), tmp_path / "first")
    again = run(load(first.directory / "recipe.toml"), tmp_path / "again")
    assert again.directory.relative_to(tmp_path / "again") == first.directory.relative_to(
        tmp_path / "first"
    )
    assert arms(again) == arms(first)


def test_a_schedule_that_outlasts_training_is_refused_before_it_starts(tiny, tmp_path):
    recipe = load(tiny, ["method={name='gradual', end='7it'}", "target.sparsity=0.5"])
    with pytest.raises(
        RecipeError, match=r"schedule, 7 steps, got 6it \(6 steps\).*begin for a method"
    ):
        run(recipe, tmp_path / "runs")
    assert not [*tmp_path.rglob("weights.safetensors")]  # not even the dense network's


def convolutional(width):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4, 3)
    )


def test_a_network_of_ones_own_without_data(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\nexport = { onnx = false }\ntarget = { macs = 0.5 }\n'
        'method = { name = "l1_filter" }\n[model]\ninput = [3, 12, 12]\n'
        'factory = "own_networks:convolutional"\noptions = { width = 64 }\n'
    )
    finished = run(load(path), tmp_path / "runs")
    assert arms(finished)["dense"]["accuracy"] is None
    assert [group["after"] for group in finished.document["groups"]] == [32]
    assert json.loads((finished.directory / "result.json").read_text()) == finished.document
    assert "<html" in (finished.directory / "report.html").read_text(encoding="utf-8")[:200]


def test_the_demo_is_two_recipes_that_share_the_dense_network():
    gradual, filters = recipes()
    assert (gradual.train, gradual.data, gradual.model) == (
        filters.train, filters.data, filters.model
    )  # fmt: skip
    assert gradual.target.sparsity == 0.9
    assert filters.target.macs == 0.5
    assert filters.arms == ("scratch_e",)


def test_side_by_side_names_the_dense_network_once(tiny, tmp_path):
    finished = [run(load(tiny, [f"target.macs={share}"]), tmp_path) for share in (0.5, 0.7)]
    names = [arm["name"] for arm in side_by_side(finished)["arms"]]
    assert names.count("dense") == 1
    assert len(names) == 5
