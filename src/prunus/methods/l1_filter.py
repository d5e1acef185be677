"""L1-norm filter pruning.

Source: Li, Kadav, Durdanovic, Samet and Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017,
arXiv:1608.08710, section 3.
Deviation: with neither `preset` nor `ratios`, every layer gives the share that meets the target
(the paper lists the ratio of each stage by hand), and widths are rounded to multiples of 8, which
real runtimes need.
"""

from collections.abc import Mapping

from prunus.criteria import L1
from prunus.methods.base import Method
from prunus.methods.l1_presets import PRESETS, OnlyFor
from prunus.names import did_you_mean, naming
from prunus.selectors import Selector, TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def l1_filter(
    *,
    preset: str | None = None,
    ratios: Mapping[str, float] | None = None,
    skip: tuple[str, ...] = (),
    coupled: bool = False,
    round_to: int | None = None,
    min_keep: int = 1,
) -> Method:
    """Remove in every layer the filters with the smallest sum of absolute weights, once.

    Args:
        preset: The paper's own ratios and sensitive layers for one network: "vgg16-a",
            "resnet56-a", "resnet56-b", "resnet110-a", "resnet110-b", "resnet34-a" or "resnet34-b";
            instead of `ratios`, `skip`, `coupled` and a target. Another network is refused.
        ratios: Shell pattern of layer names -> share of filters removed there, such as
            {"layer1.*": 0.6, "layer2.*": 0.3}: the paper's stages. The first match wins; layers
            that match none meet the target, or stay whole when none is given.
        skip: Shell patterns of layer names to leave whole: the paper's sensitive layers.
        coupled: Also prune filters that write into a residual sum. The paper prunes only the first
            convolution of each block, which leaves the sum untouched.
        round_to: Widths are multiples of this; 1 for the paper's exact widths. None for 1 with a
            preset and 8 without.
        min_keep: Filters that every layer keeps at least.

    Raises:
        ValueError: A ratio is outside [0, 1], or the preset is unknown or not alone.
    """
    if round_to is None:
        round_to = 8 if preset is None else 1
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(
                f"preset {preset!r} is unknown.{did_you_mean(preset, PRESETS)} Known are "
                f"{', '.join(PRESETS)}."
            )
        if ratios or skip or coupled:
            raise ValueError(
                f"preset {preset!r} decides ratios, skip and coupled; leave these or it out."
            )
        ratios = PRESETS[preset].ratios
    selector: Selector = TopK(
        scope="layer", ratios=ratios or {}, round_to=round_to, min_keep=min_keep
    )
    return Method(
        name="l1_filter",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=L1(),
        selector=selector if preset is None else OnlyFor(preset, PRESETS[preset], selector),
        target=None if ratios else Target(macs=0.5),
    )
