"""The demo: one small network, pruned in two ways, as two ordinary recipes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunus.recipe import Recipe, parse
from prunus.run import Announce, Finished, run

_COMMON: dict[str, Any] = {
    "model": {"name": "lenet5"},
    "data": {"name": "fashion-mnist-embedded", "batch_size": 64},
    "train": {"length": "5ep", "lr": 0.02, "weight_decay": 5e-4, "schedule": "cosine"},
    "bench": {"rounds": 30},
}


def recipes() -> list[Recipe]:
    """Return the demo's recipes: 90 % of the weights gradually, half of the MACs by filters."""
    weights = {
        "name": "lenet5-gradual",
        "method": {"name": "gradual", "end": "2ep", "every": "20it"},
        "target": {"sparsity": 0.9},
        "finetune": {"length": "4ep", "lr": 0.02, "schedule": "cosine"},
    }
    filters = {
        "name": "lenet5-l1-filter",
        "method": {"name": "l1_filter", "round_to": 1},
        "target": {"macs": 0.5},
        "finetune": {"length": "2ep", "lr": 0.01, "schedule": "cosine"},
        "arms": ["scratch_e"],
    }
    return [parse(_COMMON | weights), parse(_COMMON | filters)]


def demo(
    root: Path | str = Path("prunus-demo"),
    *,
    announce: Announce = lambda name, result, seconds: None,
    progress: bool = False,
) -> list[Finished]:
    """Run the demo's recipes.

    Args:
        root: The folder of the runs; what is done there already is not done again.
        announce: Told of each stage that is done.
        progress: Draw a bar while training.
    """
    return [run(recipe, root, announce=announce, progress=progress) for recipe in recipes()]


def side_by_side(finished: Sequence[Finished]) -> Mapping[str, Any]:
    """Return a result document with the networks of several runs, the dense one once."""
    first = finished[0].document["arms"][0]
    arms = [
        arm | {"name": f"{one.document['method']} {arm['name']}"}
        for one in finished
        for arm in one.document["arms"][1:]
    ]
    return {"title": "LeNet-5 on Fashion-MNIST", "arms": [first, *arms]}
