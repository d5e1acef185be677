"""Network slimming: channels whose batch norm scale an L1 penalty has made small.

Source: Liu, Li, Shen, Huang, Yan and Zhang, "Learning Efficient Convolutional Networks through
Network Slimming", ICCV 2017, arXiv:1708.06519, sections 3 and 4.
Deviation: the count of channels is exact (the authors' code removes all that are tied with the
threshold), every layer keeps a channel, and channels that a residual sum couples go together (the
authors select them where they are read). Channels without a batch norm go last. Between two passes
the network is not fine-tuned without the penalty first: the next training with it is that. The
authors begin with batch norm scales of 0.5, which is the network's own affair: `bn_gamma` of those
of `prunus.zoo`, or `prunus.recovery.reinitialise(model, seed, norm_weight=0.5)` for any other.
"""

from typing import Literal

from prunus.criteria import BatchNormScale
from prunus.methods.base import Method
from prunus.names import naming
from prunus.recovery import ScaleL1
from prunus.recovery.rewind import Rewind
from prunus.schedules import Schedule, lasts, repeated
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.types import Target


@naming
def slimming(
    *,
    strength: float = 1e-4,
    begin: str = "1000it",
    passes: int = 1,
    from_scratch: bool = False,
    coupled: bool = True,
    scope: Literal["layer", "stage", "global"] = "global",
    skip: tuple[str, ...] = (),
    round_to: int = 1,
    min_keep: int = 1,
) -> Method:
    """Remove the channels of smallest batch norm scale, after training with a penalty on it.

    Args:
        strength: Of the penalty: 1e-4 for VGG, 1e-5 for residual networks in the paper, where it
            acts for 160 epochs on CIFAR, from scratch; what trains with it for less needs more.
        begin: When training with the penalty ends and the channels go, such as "160ep"; "0it" for a
            network that was trained so already, which `prunus.prune` then takes.
        passes: How often the network is trained with the penalty and pruned, each time as long and
            with the learning rate from its start again; each takes the same share of what is left,
            half of it in each of two passes to a sparsity of 0.75. A last training, of the same
            length and without the penalty, is the fine-tuning.
        from_scratch: The penalty acts from the first step of training on (the paper), so that a
            recipe has no dense training before it.
        coupled: Also prune channels that several layers write into, such as residual sums.
        scope: Channels compete within a layer, a stage or the whole network (the paper).
        skip: Shell patterns of layer names to leave whole.
        round_to: Widths are multiples of this.
        min_keep: Channels that every layer keeps at least.

    Raises:
        ValueError: The strength is not above zero, or passes are too few or too short.
    """
    if passes < 1:
        raise ValueError(f"passes must be at least 1, got {passes}.")
    if passes > 1 and not lasts(begin):
        raise ValueError(
            f"several passes have training between them; let begin be the length of one, such as "
            f"'160ep', got {begin!r}."
        )
    again = Schedule(curve="geometric", begin=begin, every=begin, end=repeated(begin, passes))
    return Method(
        name="slimming",
        granularity=Structured(coupled=coupled, skip=skip),
        criterion=BatchNormScale(),
        selector=TopK(scope=scope, round_to=round_to, min_keep=min_keep),
        penalty=ScaleL1(strength),
        schedule=again if passes > 1 else Schedule(begin=begin),
        target=Target(sparsity=0.7),
        before_training=from_scratch,
        rewind=Rewind(weights="keep") if passes > 1 else None,
    )
