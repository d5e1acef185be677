"""The arms of a study: what is trained of each method at each size.

Source: Liu, Sun, Zhou, Huang and Darrell, "Rethinking the Value of Network Pruning", ICLR 2019,
arXiv:1810.05270, sections 3 to 6.
"""

from dataclasses import dataclass
from typing import Literal

from prunus.recipe import Recipe

StudyArm = Literal[
    "pruned",
    "fine_tuned",
    "distilled",
    "scratch_e",
    "scratch_b",
    "scratch_b_2x",
    "random",
    "reinit",
    "random_mask",
    "small_dense",
    "uniform",
    "guided",
    "transferred",
]


@dataclass(frozen=True)
class Arm:
    """One arm.

    Args:
        title: What it is called in tables.
        about: What it is, for the captions.
        control: Whether fine-tuning has to be better for pruning to be worth it.
    """

    title: str
    about: str
    control: bool = True


ARMS: dict[str, Arm] = {
    "unpruned": Arm("unpruned", "the whole network, trained", control=False),
    "pruned": Arm("pruned only", "what is left, as it was, without training", control=False),
    "fine_tuned": Arm("fine-tuned", "what is left, trained on", control=False),
    "distilled": Arm("distilled", "fine-tuned, taught by the unpruned network", control=False),
    "scratch_e": Arm("scratch-E", "fresh weights, for the unpruned network's epochs"),
    "scratch_b": Arm("scratch-B", "fresh weights, for the unpruned network's MACs"),
    "scratch_b_2x": Arm("scratch-B, 2x", "scratch-B for at most twice the epochs"),
    "random": Arm("random units", "as many gone in each layer, at random; then fine-tuned"),
    "reinit": Arm("re-initialised", "the same units left, drawn anew as the first were, trained"),
    "random_mask": Arm("random mask", "as many single weights at random, from the first weights"),
    "small_dense": Arm(
        "equal-size dense", "an ordinary network of this size, trained from scratch"
    ),
    "uniform": Arm("uniform", "the same share of every layer, at random, trained from scratch"),
    "guided": Arm("guided", "in each stage the method's mean share, trained from scratch", False),
    "transferred": Arm("transferred", "guided by what it leaves of the network of [source]", False),
}
"""Arm -> what it is. All but "unpruned", which is always there, may be named in study.arms."""


def stage_of(recipe: Recipe, arm: str) -> str:
    """Return the stage of a run that gives an arm its result.

    Args:
        recipe: Of the run, with the arm among its arms if it is one of a recipe's.
        arm: A key of `ARMS`.
    """
    if arm == "unpruned":
        return "dense"
    if arm in ("fine_tuned", "distilled"):
        return "prune" if recipe.prunes_in_training else "recover"
    return "prune" if arm == "pruned" else arm


def lacking(recipe: Recipe, arm: str) -> str:
    """Return why a method has no such arm; "" if it has.

    Args:
        recipe: Of a run with the method.
        arm: A key of `ARMS`.
    """
    method = recipe.method.build()
    if arm == "pruned" and recipe.prunes_in_training:
        return "prunes while it trains, so there is nothing before training"
    if arm == "distilled" and method.before_training:
        return "prunes before training, so there is no trained network to teach"
    return ""
