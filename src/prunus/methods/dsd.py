"""Dense, sparse, dense: a phase with few weights, for a better dense network in the end.

Source: Han, Pool, Narang, Mao, Gong, Tang, Elsen, Vajda, Paluri, Tran, Catanzaro and Dally, "DSD:
Dense-Sparse-Dense Training for Deep Neural Networks", ICLR 2017, arXiv:1607.04381, section 2.
Deviation: none in the mask. The learning rate is the trainer's: a tenth of it from `end` on, as in
the paper, is the schedule "milestones" with the milestone `end`.
"""

from prunus.criteria import L1
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import Lifted, TopK
from prunus.space import Unstructured


@naming
def dsd(
    *,
    share: float = 0.3,
    begin: str = "0it",
    end: str = "1000it",
    skip: tuple[str, ...] = (),
) -> Method:
    """Train without the smallest weights of each layer for a while, then with all of them.

    The result is dense. Weights that were gone start again at zero, with fresh optimizer state.

    Args:
        share: Of each layer's weights, what is gone in between; 0.25 to 0.5 in the paper.
        begin: When the smallest weights go: the end of the first dense phase.
        end: When they return; training should go on for a while after it, at a tenth of the
            learning rate.
        skip: Shell patterns of parameter names to leave whole; the paper leaves the first layer.

    Raises:
        ValueError: The share is outside [0, 1].
    """
    return Method(
        name="dsd",
        granularity=Unstructured(skip=skip),
        criterion=L1(),
        selector=Lifted(of=TopK(ratios={"*": share})),
        schedule=Schedule(curve="constant", begin=begin, end=end, every=end),
        temporary=True,
    )
