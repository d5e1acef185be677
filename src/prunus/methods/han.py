"""Learning weights and connections: prune below a threshold, retrain, and do so again.

Source: Han, Pool, Tran and Dally, "Learning both Weights and Connections for Efficient Neural
Networks", NeurIPS 2015, arXiv:1506.02626, section 3.
Deviation: a threshold is q standard deviations of the weights that are left, so that an unchanged q
prunes on from round to round, unless `std` says otherwise; with a target all thresholds move
together to meet its count exactly. Dead neurons go with each decision (the authors leave them to
retraining), and what they emit moves into the biases behind them. Layers whose turn it is not stay
fixed until the last round, in which all are pruned and retrained. The lower learning rate of
retraining is the trainer's.
"""

from collections.abc import Mapping
from typing import Literal

from prunus.criteria import Deviations
from prunus.masking import Retrain
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import InTurn, Selector, Sweep, Threshold
from prunus.space import Unstructured


@naming
def han(
    *,
    q: float | Mapping[str, float] = 1.0,
    std: Literal["remaining", "original"] = "remaining",
    begin: str = "0it",
    end: str = "1000it",
    every: str = "250it",
    curve: Literal["geometric", "linear", "cubic", "constant"] = "geometric",
    cycles: int = 0,
    sweep: bool = True,
    dropout: bool = True,
    skip: tuple[str, ...] = (),
) -> Method:
    """Remove the weights below q standard deviations of their layer, retrain, and repeat.

    Args:
        q: The quality parameter of every layer, or shell pattern of parameter names -> its own (as
            `prunus.pruning.sensitivity` finds it); layers that no pattern fits stay whole. With a
            target only their ratios count.
        std: The deviations that q counts: of the weights "remaining" at each round, or of the
            layer before its first round ("original"), with which an unchanged q removes only what
            retraining has made small.
        begin: First round of pruning.
        end: Last one; training should go on for a while after it.
        every: How long the network is retrained between rounds.
        curve: How sparsity grows towards a target; without a target every round uses q.
        cycles: Prune and retrain linear layers and convolutions in turn, so often each, while the
            others stay fixed; 0 for all together. With a target each kind reaches it by itself.
        sweep: Whether neurons without input or output lose their other connections.
        dropout: Whether the rates of dropout modules fall with the root of the connections left.
        skip: Shell patterns of parameter names to leave whole.

    Raises:
        ValueError: A threshold is below 0, or `std` is neither.
    """
    selector: Selector = Threshold(q=q)
    if cycles:
        selector = InTurn(of=selector, by="kind", cycles=cycles, curve=curve)
    return Method(
        name="han",
        granularity=Unstructured(skip=skip),
        criterion=Deviations(of=std),
        selector=Sweep(of=selector) if sweep else selector,
        masking=Retrain(dropout=dropout, local=cycles > 0),
        schedule=Schedule(curve="constant" if cycles else curve, begin=begin, end=end, every=every),
    )
