"""Filters whose feature maps have a low rank.

Source: Lin, Ji, Wang, Zhang, Zhang, Tian and Shao, "HRank", CVPR 2020, arXiv:2002.10179, section 3.
Deviation: maps are looked at where the next layer reads them (before flattening, where that is a
linear layer), and the network is pruned at once, not layer by layer with fine-tuning between.
"""

from typing import Literal

from prunus.criteria import Rank
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def hrank(
    *,
    coupled: bool = True,
    scope: Literal["layer", "stage", "global"] = "layer",
    skip: tuple[str, ...] = (),
    round_to: int = 8,
    min_keep: int = 1,
) -> Method:
    """Remove in every layer the filters whose maps have the lowest average rank, once.

    Args:
        coupled: Also prune filters that several layers write into, such as residual sums.
        scope: Filters compete within a layer, a stage or the whole network.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Filters that every layer keeps at least.
    """
    return Method(
        name="hrank",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=Rank(),
        selector=TopK(scope=scope, round_to=round_to, min_keep=min_keep),
        target=Target(macs=0.5),
    )
