"""PruneFL: adaptive pruning by risk reduction per second.

Source: Jiang, Wang, Valls, Ko, Lee, Leung and Tassiulas, "Model Pruning Enables Efficient Federated
Learning on Edge Devices", IEEE TNNLS 2022, arXiv:1909.12326, section IV and algorithm 1.
Deviation: grown weights begin at zero unless `grown` is "resume", which takes the value that they
went with, as the authors' code does; what may go decays with the schedule's progress rather than
from round 0. In a federation gradients are summed up by the clients of the deciding round, in it
alone, unless the recipe's `rounds.evidence` is "all", where the paper sums up since the last one.
"""

from typing import Literal

from prunus.criteria import RiskReduction
from prunus.masking import Hard, Remember
from prunus.methods.base import Method
from prunus.names import did_you_mean, naming
from prunus.schedules import Schedule
from prunus.selectors import TIME_MODELS, RatioGreedy, TimeModel
from prunus.space import Unstructured


@naming
def prunefl(
    *,
    begin: str = "50it",
    end: str = "10000it",
    every: str = "50it",
    share: float = 0.3,
    halvings: float = 1.0,
    grown: Literal["zero", "resume"] = "zero",
    time: str | TimeModel = "by_macs",
    curve: Literal["constant", "linear"] = "constant",
    initial: float = 0.0,
    skip: tuple[str, ...] = (),
) -> Method:
    """Keep the weights that lower the risk fastest per second of a round; the size is an outcome.

    In a federation, whose recipes know it by name, the lengths count rounds. A training loop of
    your own takes `Pruner(model, example, prunefl(...))`, where they count optimizer steps; it is
    not among the names of `prunus.methods.METHODS`, whose methods meet a target: here a target is
    the highest density.

    Args:
        begin: First reconfiguration.
        end: Last one; the network it leaves is trained on.
        every: Rounds, or steps, between reconfigurations.
        share: Share of a layer's weights that may go at once, in (0, 1).
        halvings: How often that share halves until the end.
        grown: What weights that return begin with: zero, or the value that they went with.
        time: A name of `prunus.selectors.TIME_MODELS`, or a model of your own.
        curve: "linear" lowers the highest density from 1 - `initial` to the target, "constant" has
            it from the beginning.
        initial: Sparsity at which a linear curve begins.
        skip: Shell patterns of parameter names to leave whole.

    Raises:
        ValueError: A value is out of range, or there is no such time model.
    """
    if grown not in ("zero", "resume"):
        raise ValueError(f"grown must be 'zero' or 'resume', got {grown!r}.")
    if curve not in ("constant", "linear"):
        raise ValueError(f"curve must be 'constant' or 'linear', got {curve!r}.")
    return Method(
        name="prunefl",
        granularity=Unstructured(skip=skip),
        criterion=RiskReduction(),
        selector=RatioGreedy(time=time_model(time), share=share, halvings=halvings),
        masking=Hard if grown == "zero" else Remember,
        schedule=Schedule(curve=curve, begin=begin, end=end, every=every, initial=initial),
    )


def time_model(time: str | TimeModel) -> TimeModel:
    """Return a time model by its name.

    Raises:
        ValueError: There is none of that name.
    """
    if isinstance(time, TimeModel):
        return time
    if time not in TIME_MODELS:
        raise ValueError(
            f"time {time!r} is unknown; there are {', '.join(TIME_MODELS)}."
            + did_you_mean(time, TIME_MODELS)
        )
    return TIME_MODELS[time]
