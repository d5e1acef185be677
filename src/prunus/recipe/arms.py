"""The controls that a recipe may train, and which of them its method can have."""

from typing import TYPE_CHECKING, Literal

from prunus.methods import Method
from prunus.space import Branches, Unstructured, WholeGroups

if TYPE_CHECKING:
    from prunus.recipe.tables import Recipe

Arm = Literal[
    "scratch_e",
    "scratch_b",
    "scratch_b_2x",
    "random",
    "small_dense",
    "unpruned",
    "reinit",
    "random_mask",
    "shuffle_all",
    "shuffle_even",
    "uniform",
    "guided",
    "transferred",
]
"""A control that a recipe may train beside the pruned network."""

SHAPES = ("uniform", "guided", "transferred")
"""Arms whose widths, or masks, are not the method's own."""

LEVELLED = ("reinit", "random_mask", "shuffle_all", "shuffle_even")
"""Arms that may be trained for every level of a method that rewinds."""


def check_arms(recipe: "Recipe", method: Method) -> None:
    """Refuse arms that the recipe's method or tables do not allow.

    Raises:
        ValueError: Naming the arms, why, and the way out.
    """
    arms = recipe.arms
    repeating = [arm for arm in arms if arm != "random" and recipe.starting is None]
    if repeating:
        raise ValueError(
            f"arms {', '.join(repeating)} repeat the dense network's training; "
            "add the [train] table that describes it."
        )
    if "unpruned" in arms and not method.before_training:
        raise ValueError(
            "the arm unpruned is the dense network, which is trained anyway; leave it out."
        )
    if "random" in arms and recipe.finetune is None:
        raise ValueError("the arm random trains as [finetune] says; add that table.")
    drawing = [arm for arm in arms if arm in ("random", *SHAPES)]
    unit = method.granularity
    kernels = isinstance(unit, Unstructured) and unit.unit == "kernel"
    whole = isinstance(unit, Branches | WholeGroups)
    if drawing and (kernels or whole or method.temporary):
        raise ValueError(
            f"the arm {drawing[0]} draws single weights or channels, but method "
            f"'{method.name}' removes other units, or none in the end; leave it out."
        )
    drawn = [arm for arm in arms if arm in LEVELLED and arm != "reinit"]
    if drawn and not (isinstance(unit, Unstructured) and unit.unit == "weight"):
        raise ValueError(
            f"arms {', '.join(drawn)} draw single weights, but method '{method.name}' "
            "removes larger units; take reinit or scratch_e."
        )
    if drawn and recipe.model.weights and not method.before_training:
        raise ValueError(
            f"arms {', '.join(drawn)} begin from the first weights, which are not known of "
            "model.weights; train the dense network here, or take reinit."
        )
    if recipe.every_level and (method.rewind is None or not {*arms} & {*LEVELLED}):
        raise ValueError(
            f"every_level is for the arms {', '.join(LEVELLED)} of a method that rewinds, such as "
            "lottery; take both, or leave it out."
        )
    if ("transferred" in arms) != (recipe.source is not None):
        raise ValueError(
            "the arm transferred takes its pattern from the network of a [source] table; give "
            "both or neither."
        )
