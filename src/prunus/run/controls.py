"""What a ticket is compared with: random masks and draws, and how fast each level learned."""

from collections.abc import Iterator, Sequence
from typing import Any

from prunus.recipe import Recipe, digest
from prunus.recovery import Rewinding, shuffled
from prunus.recovery.controls import Spread
from prunus.space import Granularity, Space
from prunus.training import Record, early_stop, trainings
from prunus.types import Mask

NAMES = {
    "scratch_e": "scratch-E",
    "scratch_b": "scratch-B",
    "scratch_b_2x": "scratch-B, at most 2x",
    "random": "random units",
    "small_dense": "equal-size dense",
    "unpruned": "unpruned",
    "reinit": "re-initialised",
    "random_mask": "random mask",
    "shuffle_all": "shuffled over all",
    "shuffle_even": "shuffled evenly",
}
"""Arm of a recipe -> its name in results."""

_ONCE = ("scratch_e", "scratch_b", "scratch_b_2x", "small_dense", "unpruned")
_SPREADS: dict[str, Spread] = {
    "random": "layer",
    "random_mask": "layer",
    "shuffle_all": "all",
    "shuffle_even": "even",
}


def arms(recipe: Recipe) -> Iterator[tuple[str, str, int]]:
    """Yield for each network trained as a control its stage, its arm and the number of its draw."""
    for arm in recipe.arms:
        for draw in range(1, 1 + (1 if arm in _ONCE else recipe.draws)):
            yield arm if draw == 1 else f"{arm}-{draw}", arm, draw


def draw_seed(seed: int, arm: str, draw: int) -> int:
    """Return a seed for a draw, the same in every run and unlike the seeds of recipes."""
    return int(digest([seed, arm, draw]), 16)


def random_mask(space: Space, granularity: Granularity, mask: Mask, arm: str, seed: int) -> Mask:
    """Return a random mask of single weights that keeps as many as `mask`, spread as `arm` says."""
    keep = {group.name: mask[group.name].reshape(-1) for group in granularity.groups(space)}
    return granularity.mask(space, shuffled(keep, _SPREADS[arm], seed))


def levels(rewinding: Rewinding, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return for each training what was left and how fast it learned, from the records of all."""
    found = []
    for density, own in zip(
        rewinding.densities, trainings(records, rewinding.begins()), strict=True
    ):
        best, last = early_stop(own), own[-1]
        found.append(
            {
                "density": density,
                "early_stop": best and best["step"],
                "early_stop_accuracy": best and best["val_accuracy"],
                "final_accuracy": last["val_accuracy"],
            }
        )
    return found
