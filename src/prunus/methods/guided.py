"""Guided pruning: as much goes of each stage as a method left of the stages of another network.

Source: Liu, Sun, Zhou, Huang and Darrell, "Rethinking the Value of Network Pruning", ICLR 2019,
arXiv:1810.05270, section 5: the network is built by the pattern and trained from scratch.
Deviation: see `prunus.criteria.pattern`; `scaled` is not in the paper.
"""

from prunus.criteria import Pattern
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import Selector, Threshold, TopK
from prunus.space import Granularity, Structured


@naming
def guided(
    pattern: Pattern, *, granularity: Granularity | None = None, scaled: bool = False
) -> Method:
    """Keep what a pattern keeps, channels or weights drawn at random; then train from scratch.

    In no table of methods, since it needs a pattern: `prunus.criteria.pattern` of a decision.

    Args:
        pattern: Shares by stage; of channels, or of weights by their place in the kernel.
        granularity: The units, of the kind that the pattern has been found on; all channels by
            default.
        scaled: All shares times one factor, so that a target is met. False takes them as they are,
            as the paper does, and has no target.
    """
    chosen: Selector = TopK(scope="global") if scaled else Threshold(q=1.0)
    return Method(
        name="guided",
        granularity=granularity or Structured(),
        criterion=pattern,
        selector=chosen,
        before_training=True,
    )
