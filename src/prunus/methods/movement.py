"""Movement pruning: weights that training moves towards zero go, for fine-tuning a trained network.

Source: Sanh, Wolf and Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", NeurIPS 2020,
arXiv:2005.07683, sections 4 and 5.
Deviation: the mask of the highest scores is decided every few steps instead of at each.
"""

from typing import Literal

from prunus.criteria import Learned
from prunus.masking import Movement
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import AboveZero, TopK
from prunus.space import Unstructured
from prunus.types import Target


@naming
def movement(
    *,
    begin: str = "0it",
    end: str = "1000it",
    every: str = "10it",
    threshold: float | None = None,
    strength: float = 1.0,
    speed: float = 1.0,
    scope: Literal["global", "layer"] = "layer",
    skip: tuple[str, ...] = (),
) -> Method:
    """Learn a score per weight while the network is fine-tuned, and keep the highest.

    Args:
        begin: First update of the mask, such as "1ep"; scores learn from the start.
        end: Last update; training should go on for a while after it.
        every: Steps between updates; sparsity grows along a cubic.
        threshold: Of sigmoid(score) in the soft variant, such as 0.1: weights below it take no
            part, from the first step on, and without a target it decides at the end; `begin` and
            `every`, which it has no use for, are left out then.
        strength: Of the soft variant's penalty on scores; larger gives fewer weights.
        speed: Learning rate of the scores, as a multiple of the optimizer's.
        scope: The same sparsity in every layer, or one threshold over all.
        skip: Shell patterns of parameter names to leave whole.

    Raises:
        ValueError: A number is out of range, or begin or every is given beside a threshold.
    """
    if threshold is not None and (begin, every) != ("0it", "10it"):
        raise ValueError(
            "with a threshold the mask follows the scores at every step; leave out begin and "
            f"every, got {begin!r} and {every!r}."
        )
    gradual = Schedule(curve="cubic", begin=begin, end=end, every=every)
    return Method(
        name="movement",
        granularity=Unstructured(skip=skip),
        criterion=Learned(),
        selector=AboveZero(TopK(scope=scope)),
        masking=Movement(threshold=threshold, strength=strength, speed=speed),
        schedule=gradual if threshold is None else Schedule(begin=end),
        target=Target(sparsity=0.85) if threshold is None else None,
    )
