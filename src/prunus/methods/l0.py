"""L0 regularisation: stochastic gates whose chance of being open is part of the loss.

Source: Louizos, Welling and Kingma, "Learning Sparse Neural Networks through L0 Regularization",
ICLR 2018, arXiv:1712.01312, sections 2.2, 2.3 and 4.
Deviation: a gate acts where its channel is read, which is the same and serves all layers that write
into a residual sum; the penalty is the expected cost instead of the expected number of gates. With
a target the channels of smallest log alpha go, as many as it asks for; the paper has no target.
"""

from prunus.criteria import Learned
from prunus.masking import HardConcrete
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import AboveZero, TopK
from prunus.space import Structured


@naming
def l0(
    *,
    strength: float = 1.0,
    dropped: float = 0.1,
    speed: float = 1.0,
    begin: str = "1000it",
    coupled: bool = True,
    skip: tuple[str, ...] = (),
    round_to: int = 1,
    min_keep: int = 1,
) -> Method:
    """Train with stochastic gates on channels, then remove those that are shut.

    Args:
        strength: Of the penalty on the expected cost: that of the target, or parameters.
        dropped: How far from open gates are at the beginning, in (0, 1).
        speed: Learning rate of log alpha, as a multiple of the optimizer's.
        begin: When training with gates ends, such as "100ep", and shut channels go.
        coupled: Also gate channels that several layers write into, such as residual sums.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this, where there is a target.
        min_keep: Channels that every layer keeps at least.

    Raises:
        ValueError: A number is out of range.
    """
    return Method(
        name="l0",
        granularity=Structured(coupled=coupled, gated=True, skip=skip),
        criterion=Learned(),
        selector=AboveZero(TopK(round_to=round_to, min_keep=min_keep)),
        masking=HardConcrete(strength=strength, dropped=dropped, speed=speed),
        schedule=Schedule(begin=begin),
    )
