"""Filters near the geometric median of their layer.

Source: He, Liu, Wang, Hu and Yang, "Filter Pruning via Geometric Median for Deep Convolutional
Neural Networks Acceleration", CVPR 2019, arXiv:1811.00250, section 3.3.
Deviation: filters go once, after training; the paper prunes softly after every epoch (see
`soft_filter`). Widths are rounded to multiples of 8.
"""

from typing import Literal

from prunus.criteria import MedianDistance
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def fpgm(
    *,
    coupled: bool = True,
    scope: Literal["layer", "stage", "global"] = "layer",
    skip: tuple[str, ...] = (),
    round_to: int = 8,
    min_keep: int = 1,
) -> Method:
    """Remove in every layer the filters that the others can best replace, once.

    Args:
        coupled: Also prune filters that several layers write into, such as residual sums.
        scope: Filters compete within a layer, a stage or the whole network.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Filters that every layer keeps at least.
    """
    return Method(
        name="fpgm",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=MedianDistance(),
        selector=TopK(scope=scope, round_to=round_to, min_keep=min_keep),
        target=Target(macs=0.5),
    )
