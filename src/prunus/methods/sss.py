"""Sparse structure selection: scale factors of whole structures that training brings to zero.

Source: Huang and Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", ECCV
2018, arXiv:1707.01213, section 3.
Deviation: the factor of a channel, or group, acts where it is read, which is the same. With a
target the structures of smallest factors go, as many as it asks for; the paper has no target.
"""

from typing import Literal

from prunus.criteria import Learned
from prunus.masking import Scale
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import AboveZero, TopK
from prunus.space import Branches, Granularity, Structured, WholeGroups


@naming
def sss(
    *,
    unit: Literal["branch", "group", "channel"] = "branch",
    strength: float = 0.01,
    momentum: float = 0.9,
    begin: str = "1000it",
    coupled: bool = True,
    skip: tuple[str, ...] = (),
    round_to: int = 1,
    min_keep: int = 1,
) -> Method:
    """Train with a penalty on scale factors, then remove what has the factor zero.

    Args:
        unit: Whole residual branches, whole groups of grouped convolutions, or channels (the
            paper's neurons).
        strength: Of the penalty; larger gives smaller networks.
        momentum: Of the steps of the factors.
        begin: When training with factors ends, such as "100ep", and zeros go.
        coupled: Also channels that several layers write into, such as residual sums.
        skip: Shell patterns of names of branches, or layers, to leave whole.
        round_to: Widths are multiples of this, where there is a target.
        min_keep: Channels that every layer keeps at least.

    Raises:
        ValueError: A number is out of range.
    """
    units: dict[str, Granularity] = {
        "branch": Branches(skip=skip),
        "group": WholeGroups(skip=skip),
        "channel": Structured(coupled=coupled, gated=True, skip=skip),
    }
    if unit not in units:
        raise ValueError(f"unit must be 'branch', 'group' or 'channel', got {unit!r}.")
    return Method(
        name="sss",
        granularity=units[unit],
        criterion=Learned(),
        selector=AboveZero(TopK(round_to=round_to, min_keep=min_keep)),
        masking=Scale(strength=strength, momentum=momentum),
        schedule=Schedule(begin=begin),
    )
