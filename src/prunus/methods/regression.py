"""Channels by LASSO regression on the next layer's output, which is then fitted anew.

Source: He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017,
arXiv:1707.06168, section 3.
Deviation: channels that several residual blocks read stay, where the paper puts a sampler before
the first layer of a branch; the branch's last layer does make up for what has changed in the
shortcut. The choice looks at single outputs drawn at random, not at all outputs of fewer positions.
Least squares is given a ridge of 1e-6, which holds weights where samples leave them open. How many
channels a layer keeps is one share for all unless `ratios` says otherwise; the authors set it by
hand.
"""

from collections.abc import Mapping

from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import Regression, TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def regression(
    *,
    coupled: bool = False,
    ratios: Mapping[str, float] | None = None,
    samples: int = 10,
    skip: tuple[str, ...] = (),
    round_to: int = 8,
    min_keep: int = 1,
) -> Method:
    """Remove layer by layer the channels that a LASSO drops, and refit what reads the others.

    Args:
        coupled: Also prune channels that several layers write into, such as residual sums.
        ratios: Shell pattern of layer names -> share of channels removed there, whatever the
            target; given, there is no target unless one is asked for.
        samples: Outputs that are drawn of each sample for the choice, and positions for the fit.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Channels that every layer keeps at least.
    """
    amounts = TopK(scope="layer", ratios=ratios or {}, round_to=round_to, min_keep=min_keep)
    return Method(
        name="regression",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=None,
        selector=Regression(amounts=amounts, samples=samples),
        target=None if ratios else Target(macs=0.5),
    )
