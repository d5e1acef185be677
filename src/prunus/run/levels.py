"""The levels of a method that rewinds: their masks, and how fast each learned.

Source: Frankle and Carbin, ICLR 2019, arXiv:1803.03635, sections 1 and 2: curves of the early-stop
iteration and of accuracy against the share of weights left, for the winning ticket and controls.
Deviation: accuracy at the early stop is that on the validation split; test samples are looked at
once, when a network is trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from prunus.files import write_tensors
from prunus.pruning import Pruner
from prunus.ranks import first
from prunus.recipe import LEVELLED, Recipe
from prunus.recovery import Rewinding
from prunus.run.controls import NAMES, arms, earlier
from prunus.training import Record, early_stop, trainings

Row = dict[str, Any]

MEASURES = ("early_stop", "early_stop_accuracy", "final_accuracy")
"""What is known of a training beside its density: an iteration, and two validation accuracies."""

TICKET = "winning ticket"


class Levels:
    """A training hook: a pruner that rewinds, with the mask of each level kept as a file.

    Args:
        pruner: Acts.
        directory: Where `mask-<level>.safetensors` go; a resumed training writes them again.
    """

    def __init__(self, pruner: Pruner, directory: Path) -> None:
        self._pruner = pruner
        self._directory = directory
        self.penalty, self.state, self.load_state = pruner.penalty, pruner.state, pruner.load_state
        self.hold, self.total, self.described = pruner.hold, pruner.total, pruner.described

    @property
    def rewinds(self) -> bool:
        """Whether `update` now sends training back."""
        return self._pruner.rewinds

    @property
    def rewound(self) -> int | None:
        """The step to which the last `update` sent training back, or None."""
        return self._pruner.rewound

    @property
    def mended(self) -> bool:
        """Whether the last step may have given weights new values, beside zeros."""
        return self._pruner.mended

    def step(self, optimizer: Optimizer) -> None:
        """Act after an optimizer step."""
        self.hold(optimizer)
        self.update(optimizer)

    def update(self, optimizer: Optimizer) -> None:
        """Let the pruner update, and keep the mask where training goes back."""
        self._pruner.update(optimizer)
        if self.rewound is not None and first():
            level = len(self._pruner.rewinding.densities) - 1
            write_tensors(self._directory / f"{mask_name(level)}.safetensors", self._pruner.mask)


def mask_name(level: int | None) -> str:
    """Return the name of the file with the mask of a level; None for the last."""
    return "mask" if level is None else f"mask-{level}"


def levels(rewinding: Rewinding, records: Sequence[Record]) -> list[Row]:
    """Return for each training what was left and how fast it learned, from the records of all."""
    own = trainings(records, rewinding.begins())
    return [
        {"density": density, **learned(records)}
        for density, records in zip(rewinding.densities, own, strict=True)
    ]


def learned(records: Sequence[Record]) -> Row:
    """Return the `MEASURES` of one training."""
    best, last = early_stop(records), records[-1]
    return {
        "early_stop": best and best["step"],
        "early_stop_accuracy": best and best["val_accuracy"],
        "final_accuracy": last["val_accuracy"],
    }


def tickets(recipe: Recipe, results: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return how fast the ticket and its controls learned at each level.

    Args:
        recipe: Of the run.
        results: What its stages found.

    Returns:
        One per training: arm, draw, level, density and the `MEASURES`; none for a method that does
        not rewind.
    """
    own = results["prune"].get("levels") or []
    rows = [{"arm": TICKET, "draw": 1, "level": k, **level} for k, level in enumerate(own)]
    controls = [*earlier(recipe), *((*one, len(own) - 1) for one in arms(recipe))]
    for stage, arm, draw, level in controls:
        if own and arm in LEVELLED and stage in results:
            density, found = own[level]["density"], learned(results[stage]["curve"])
            rows.append(
                {"arm": NAMES[arm], "draw": draw, "level": level, "density": density, **found}
            )
    return rows
