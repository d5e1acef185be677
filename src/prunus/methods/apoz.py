"""Filters that are mostly zero after their activation.

Source: Hu, Peng, Tai and Tang, "Network Trimming", 2016, arXiv:1607.03250, section 3.
Deviation: zeros are counted where the next layer reads them, and one pass replaces the paper's
alternation of trimming and training.
"""

from typing import Literal

from prunus.criteria import ActiveShare
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def apoz(
    *,
    coupled: bool = True,
    scope: Literal["layer", "stage", "global"] = "layer",
    skip: tuple[str, ...] = (),
    round_to: int = 8,
    min_keep: int = 1,
) -> Method:
    """Remove the filters with the largest average percentage of zeros, once.

    Args:
        coupled: Also prune filters that several layers write into, such as residual sums.
        scope: Filters compete within a layer, a stage or the whole network.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Filters that every layer keeps at least.
    """
    return Method(
        name="apoz",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=ActiveShare(),
        selector=TopK(scope=scope, round_to=round_to, min_keep=min_keep),
        target=Target(macs=0.5),
    )
