"""Soft filter pruning: filters are set to zero after every epoch and may come back.

Source: He, Kang, Dong, Fu and Yang, "Soft Filter Pruning for Accelerating Deep Convolutional Neural
Networks", IJCAI 2018, arXiv:1808.06866, section 3.
Deviation: at the end batch norm entries are zeroed with their filters, so that the network without
them computes the same; filters of a residual sum stay unless `coupled`, since they cannot go one
layer at a time.
"""

from prunus.criteria import L2
from prunus.masking import Soft
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def soft_filter(
    *,
    end: str = "200ep",
    every: str = "1ep",
    coupled: bool = False,
    skip: tuple[str, ...] = (),
    round_to: int = 1,
    min_keep: int = 1,
) -> Method:
    """Zero in every layer the filters of smallest L2 norm, again and again during training.

    Args:
        end: The last time, after which they stay zero.
        every: How long they train freely in between.
        coupled: Also prune filters that write into a residual sum.
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Filters that every layer keeps at least.
    """
    return Method(
        name="soft_filter",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=L2(),
        selector=TopK(scope="layer", round_to=round_to, min_keep=min_keep),
        masking=Soft,
        schedule=Schedule(curve="constant", end=end, every=every),
        target=Target(sparsity=0.3),
    )
