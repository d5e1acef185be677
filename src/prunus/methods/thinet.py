"""Filters by how well the next layer's output is rebuilt without them.

Source: Luo, Wu and Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network
Compression", ICCV 2017, arXiv:1707.06342, section 3.
Deviation: the network is fine-tuned after the last layer only, not also for an epoch or two after
each; pairs are drawn from the calibration as it comes, not ten images of each class.
"""

from collections.abc import Mapping

from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import Greedy, TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def thinet(
    *,
    coupled: bool = False,
    ratios: Mapping[str, float] | None = None,
    samples: int = 10,
    refit: bool = True,
    skip: tuple[str, ...] = (),
    round_to: int = 8,
    min_keep: int = 1,
) -> Method:
    """Remove layer by layer the filters whose sum the next layer misses least, and rescale it.

    Args:
        coupled: Also prune filters that several layers write into, such as residual sums; the paper
            prunes the inner layers of residual blocks only.
        ratios: Shell pattern of layer names -> share of filters removed there, whatever the target;
            given, there is no target unless one is asked for.
        samples: Outputs of the next layer that are drawn of each sample.
        refit: Scale the next layer's weights by least squares.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Filters that every layer keeps at least.
    """
    amounts = TopK(scope="layer", ratios=ratios or {}, round_to=round_to, min_keep=min_keep)
    return Method(
        name="thinet",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=None,
        selector=Greedy(amounts=amounts, samples=samples, refit=refit),
        target=None if ratios else Target(macs=0.5),
    )
