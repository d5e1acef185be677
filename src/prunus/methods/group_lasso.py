"""Structured sparsity: a group lasso makes whole filters zero while the network trains.

Source: Wen, Wu, Wang, Chen and Li, "Learning Structured Sparsity in Deep Neural Networks", NIPS
2016, arXiv:1608.03665, section 3.
Deviation: the penalty acts as a proximal step, and what goes at the end is an exact share, not what
is below a threshold.
"""

from typing import Literal

from prunus.criteria import L2
from prunus.methods.base import Method
from prunus.names import naming
from prunus.recovery import GroupLasso
from prunus.schedules import Schedule
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def group_lasso(
    *,
    strength: float = 1e-3,
    begin: str = "1000it",
    coupled: bool = True,
    scope: Literal["layer", "stage", "global"] = "global",
    skip: tuple[str, ...] = (),
    round_to: int = 1,
    min_keep: int = 1,
) -> Method:
    """Shrink all filters while the network trains, then remove the smallest.

    Args:
        strength: Of the penalty.
        begin: When the filters go and the penalty ends, such as "100ep".
        coupled: Also prune filters that several layers write into, such as residual sums.
        scope: Filters compete within a layer, a stage or the whole network.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Filters that every layer keeps at least.

    Raises:
        ValueError: The strength is not above zero.
    """
    return Method(
        name="group_lasso",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=L2(reduce="mean"),
        selector=TopK(scope=scope, round_to=round_to, min_keep=min_keep),
        penalty=GroupLasso(strength),
        schedule=Schedule(begin=begin),
        target=Target(macs=0.5),
    )
