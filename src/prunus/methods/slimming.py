"""Network slimming: channels whose batch norm scale an L1 penalty has made small.

Source: Liu, Li, Shen, Huang, Yan and Zhang, "Learning Efficient Convolutional Networks through
Network Slimming", ICCV 2017, arXiv:1708.06519, section 3.
Deviation: the count of channels is exact (the authors' code removes all that are tied with the
threshold), every layer keeps a channel, and channels that a residual sum couples go together (the
authors select them where they are read). Channels without a batch norm go last.
"""

from typing import Literal

from prunus.criteria import Scale
from prunus.methods.base import Method
from prunus.recovery import ScaleL1
from prunus.schedules import Schedule
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


def slimming(
    *,
    strength: float = 1e-4,
    begin: str = "0it",
    coupled: bool = True,
    scope: Literal["layer", "stage", "global"] = "global",
    skip: tuple[str, ...] = (),
    round_to: int = 1,
    min_keep: int = 1,
) -> Method:
    """Remove the channels of smallest batch norm scale, after training with a penalty on it.

    Args:
        strength: Of the penalty: 1e-4 for VGG, 1e-5 for residual networks in the paper.
        begin: When training with the penalty ends and the channels go, such as "160ep"; "0it" for a
            network that was trained so already.
        coupled: Also prune channels that several layers write into, such as residual sums.
        scope: Channels compete within a layer, a stage or the whole network (the paper).
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Channels that every layer keeps at least.

    Raises:
        ValueError: The strength is not above zero.
    """
    return Method(
        name="slimming",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=Scale(),
        selector=TopK(scope=scope, round_to=round_to, min_keep=min_keep),
        penalty=ScaleL1(strength),
        schedule=Schedule(begin=begin),
        target=Target(sparsity=0.7),
    )
