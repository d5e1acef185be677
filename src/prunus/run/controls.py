"""What a pruned network is compared with: which stages train controls, and how masks are drawn."""

from collections.abc import Iterator

from prunus.recipe import LEVELLED, SHAPES, Recipe, digest
from prunus.recovery import shuffled
from prunus.recovery.controls import Spread
from prunus.space import Granularity, Space
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
    "uniform": "uniform",
    "guided": "guided",
    "transferred": "transferred",
}
"""Arm of a recipe -> its name in results."""

_ONCE = ("scratch_e", "scratch_b", "scratch_b_2x", "small_dense", "unpruned", *SHAPES)
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


def earlier(recipe: Recipe) -> Iterator[tuple[str, str, int, int]]:
    """Yield the same for each level before the last, where the recipe has them, and the level."""
    last = recipe.method.build().trainings - 1
    for stage, arm, draw in arms(recipe):
        if recipe.every_level and arm in LEVELLED:
            for level in range(1, last):
                yield f"{stage}-level-{level}", arm, draw, level


def draw_seed(seed: int, arm: str, draw: int) -> int:
    """Return a seed for a draw, the same in every run and unlike the seeds of recipes."""
    return int(digest([seed, arm, draw]), 16)


def random_mask(space: Space, granularity: Granularity, mask: Mask, arm: str, seed: int) -> Mask:
    """Return a random mask of single weights that keeps as many as `mask`, spread as `arm` says."""
    keep = {group.name: mask[group.name].reshape(-1) for group in granularity.groups(space)}
    return granularity.mask(space, shuffled(keep, _SPREADS[arm], seed))
