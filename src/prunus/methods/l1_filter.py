"""L1-norm filter pruning.

Source: Li, Kadav, Durdanovic, Samet and Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017,
arXiv:1608.08710, section 3.
Deviation: with no `ratios`, every layer gives the share that meets the target (the paper lists the
ratio of each stage by hand); widths are rounded to multiples of 8, which real runtimes need.
"""

from collections.abc import Mapping

from prunus.criteria import L1
from prunus.methods.base import Method
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


def l1_filter(
    *,
    ratios: Mapping[str, float] | None = None,
    skip: tuple[str, ...] = (),
    coupled: bool = False,
    round_to: int = 8,
    min_keep: int = 1,
) -> Method:
    """Remove in every layer the filters with the smallest sum of absolute weights, once.

    Args:
        ratios: Shell pattern of layer names -> share of filters removed there, such as
            {"layer1.*": 0.6, "layer2.*": 0.3}: the paper's stages. The first match wins; layers
            that match none meet the target, or stay whole when none is given.
        skip: Shell patterns of layer names to leave whole: the paper's sensitive layers.
        coupled: Also prune filters that write into a residual sum. The paper prunes only the first
            convolution of each block, which leaves the sum untouched.
        round_to: Widths are multiples of this; 1 for the paper's exact widths.
        min_keep: Filters that every layer keeps at least.

    Raises:
        ValueError: A ratio is outside [0, 1].
    """
    return Method(
        name="l1_filter",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=L1(),
        selector=TopK(scope="layer", ratios=ratios or {}, round_to=round_to, min_keep=min_keep),
        target=None if ratios else Target(macs=0.5),
    )
