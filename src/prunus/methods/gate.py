"""Trainable gates: channels are switched off by gradient descent while the network trains.

Source: Kim, Park, Jung and Choe, "Plug-in, Trainable Gate for Streamlining Arbitrary Neural
Networks", AAAI 2020, arXiv:1904.10921, section 3.
Deviation: a gate acts where its channel is read, which is the same as on the feature map and serves
all layers that write into a residual sum; the gate function is the limit of infinitely fine teeth
unless `sawtooth` is given; every layer keeps its channel of largest u. What goes at the end are the
channels of smallest u, as many as the target asks for: the closed ones, but for the few by which
the gates are off.
"""

from typing import Literal

from prunus.criteria import Learned
from prunus.masking import Gate
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def gate(
    *,
    begin: str = "1000it",
    strength: float = 10.0,
    shape: Literal["constant", "bump"] = "constant",
    one_sided: bool = False,
    initial: float = 0.05,
    momentum: float = 0.9,
    speed: float = 0.1,
    tolerance: float = 0.01,
    sawtooth: float | None = None,
    coupled: bool = True,
    skip: tuple[str, ...] = (),
    round_to: int = 1,
    min_keep: int = 1,
) -> Method:
    """Train gates and weights together until the cost is what was asked for.

    Args:
        begin: When the channels of closed gates go for good, such as "8ep".
        strength: Of the distance from the target in the loss; 1 to 10.
        shape: The derivative that a gate pretends to have: "constant", or a "bump" around zero.
        one_sided: Let the loss only see costs above the target.
        initial: u of every gate at the beginning, in (0, 1].
        momentum: Of the steps of u.
        speed: Learning rate of u, as a multiple of the optimizer's.
        tolerance: How near to the target the gates are final, as a fraction of the dense cost.
        sawtooth: Teeth per unit of u, for the function as it is in the paper.
        coupled: Also gate channels that several layers write into, such as residual sums.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this at the end.
        min_keep: Channels that every layer keeps at least.

    Raises:
        ValueError: A number is out of range.
    """
    return Method(
        name="gate",
        granularity=Structured(coupled=coupled, gated=True, skip=skip),
        criterion=Learned(),
        selector=TopK(round_to=round_to, min_keep=min_keep),
        masking=Gate(
            strength=strength,
            shape=shape,
            one_sided=one_sided,
            initial=initial,
            momentum=momentum,
            speed=speed,
            tolerance=tolerance,
            sawtooth=sawtooth,
        ),
        schedule=Schedule(begin=begin),
        target=Target(macs=0.5),
    )
