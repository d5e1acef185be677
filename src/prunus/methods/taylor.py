"""Filters by a first-order estimate of the loss without them.

Source: Molchanov, Mallya, Tyree, Frosio and Kautz, "Importance Estimation for Neural Network
Pruning", CVPR 2019, arXiv:1906.10771, section 3.1.
Deviation: the estimate is averaged over the calibration's batches at once (the paper averages while
it fine-tunes and removes filters little by little), and coupled filters are scored together.
"""

from typing import Literal

from prunus.criteria import Taylor
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def taylor(
    *,
    coupled: bool = True,
    scope: Literal["layer", "stage", "global"] = "global",
    skip: tuple[str, ...] = (),
    round_to: int = 8,
    min_keep: int = 1,
) -> Method:
    """Remove the filters with the smallest estimated effect on the loss, once.

    Args:
        coupled: Also prune filters that several layers write into, such as residual sums.
        scope: Filters compete within a layer, a stage or the whole network.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Filters that every layer keeps at least.
    """
    return Method(
        name="taylor",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=Taylor(),
        selector=TopK(scope=scope, round_to=round_to, min_keep=min_keep),
        target=Target(macs=0.5),
    )
