"""A time as the target: which share of MACs, or of weights, makes a network as fast as asked.

What a runtime makes of narrower layers, or of zeros, is measured, not modelled: networks along the
method's own path, from dense to narrow, are exported and timed beside the dense one until one is as
fast as asked. Time falls with them, but by steps and never in proportion, so the share is found by
regula falsi on the measured points.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from prunus.criteria import L1
from prunus.deploy.progress import Tell, still_bar
from prunus.deploy.stopwatch import Reading
from prunus.errors import TargetError
from prunus.pruning.plan import Plan
from prunus.selectors import Decision, TopK
from prunus.space import Branches
from prunus.space.check import apply_mask
from prunus.space.remove import copy_sliced, mend
from prunus.space.shrink import shrink
from prunus.types import Example

NEAR = 0.025
"""How near, as a share of the time asked for, a measured network must be to end the search."""

NEAR_ENOUGH = 0.05
"""How near the best of all tries must be."""

_log = logging.getLogger(__name__)

_TRIES = 8  # networks that are timed at most
_NARROW = 0.005  # of the MACs: below that, shares lead to the same network


def aim(
    plan: Plan,
    model: nn.Module,
    example: Example,
    decide: Callable[[], Decision],
    *,
    progress: bool = False,
) -> Decision:
    """Set the plan's target to the share with which the network is as fast as asked.

    The share is of MACs, or of the weights where the method prunes single ones.

    Every network that is timed is told to the log, at level INFO.

    Args:
        plan: Its target was a time.
        model: The network.
        example: An input.
        decide: Makes the plan's decision.
        progress: Draw on standard error how many networks have been timed.

    Returns:
        The decision of that share, whose network was timed.

    Raises:
        TargetError: No network that was tried is within 5 % of the time; the message says how near
            it came. Or the dense network is as fast already.
        ExportError: A network cannot be exported, so it cannot be timed.
    """
    with still_bar(shown=progress) as tell:
        return _search(plan, model, example, decide, tell)


def _search(
    plan: Plan, model: nn.Module, example: Example, decide: Callable[[], Decision], tell: Tell
) -> Decision:
    assert plan.asked is not None and plan.stopwatch is not None
    asked, stopwatch = plan.asked, plan.stopwatch
    tell("timing the dense network", 0, _TRIES)
    dense_ms = stopwatch.time(model).dense_ms if asked.metric == "latency_ms" else 0.0
    excess = dense_ms / asked.value if dense_ms else asked.value
    if excess <= 1:
        told = f" ({dense_ms:.3g} ms)" if dense_ms else ""
        raise TargetError(
            f"{asked.metric} {asked.value:g} is met without pruning{told}; ask for more."
        )
    dense = _Point(1.0, excess)
    kind = "MACs" if plan.method.structured else "weights"
    tried: list[_Point] = []
    readings: dict[tuple[int, ...], Reading] = {}  # by widths: which channels go is no matter
    refused: TargetError | None = None
    too_small, again = 0.0, False
    while len(readings) < _TRIES:
        share = _next([dense, *tried], too_small, halve=again)
        if share is None:
            break
        plan.target = plan.partial(share)
        try:
            decision = decide()
        except TargetError as error:
            too_small, refused = share, error
            continue
        widths = tuple(int(kept.sum()) for kept in decision.keep.values())
        again = widths in readings
        if not again:
            tell(f"timing {share:.3f} of the {kind}", len(readings), _TRIES)
            readings[widths] = stopwatch.time(_small(plan, model, example, decision))
        reading = readings[widths]
        excess = reading.pruned_ms / asked.value if dense_ms else reading.ratio * asked.value
        tried.append(_Point(share, excess, reading, decision))
        _log.info(
            "%.3f of the %s: %.3g ms, %.3g times as fast%s; asked: %s %g",
            share,
            kind,
            reading.pruned_ms,
            1 / reading.ratio,
            " (timed before)" if again else "",
            asked.metric,
            asked.value,
        )
        if abs(excess - 1) <= NEAR:
            return decision
    nearest = min(tried, key=lambda point: abs(point.excess - 1), default=dense)
    if nearest.decision is None or abs(nearest.excess - 1) > NEAR_ENOUGH:
        raise TargetError(
            f"{asked.metric} {asked.value:g} cannot be reached within {NEAR_ENOUGH:.0%}: "
            f"{_told(nearest, len(readings), kind)}{f' Below that: {refused}' if refused else ''}"
            f"{plan.hint}"
        ) from refused
    plan.target = plan.partial(nearest.share)
    return nearest.decision


@dataclass(frozen=True)
class _Point:
    """A network that was timed.

    Args:
        share: Of the MACs or weights.
        excess: How many times as long it takes as it may.
        reading: What was measured; None for the dense network.
        decision: What it keeps; None for the dense network.
    """

    share: float
    excess: float
    reading: Reading | None = None
    decision: Decision | None = None


def _told(nearest: _Point, count: int, kind: str) -> str:
    """Say how near the nearest of all networks came."""
    read = nearest.reading
    if read is None:
        return "no narrower network can be had."
    return (
        f"the nearest of {count} networks that were timed takes {read.pruned_ms:.3g} ms where the "
        f"dense one takes {read.dense_ms:.3g} ms ({1 / read.ratio:.3g} times as fast), with "
        f"{nearest.share:.3f} of the {kind}."
    )


def stand_in(plan: Plan) -> Plan:
    """Return the plan with the smallest filters instead, for a method that decides in training."""
    other = copy.copy(plan)
    multiple = getattr(plan.method.selector, "round_to", 1)
    least = getattr(plan.method.selector, "min_keep", 1)
    if isinstance(plan.method.granularity, Branches):
        criterion, selector = L1(reduce="mean"), TopK(scope="global")
    else:
        criterion, selector = L1(), TopK(scope="layer", round_to=multiple, min_keep=least)
    other.method = replace(plan.method, criterion=criterion, selector=selector, rounds=1)
    return other


def _next(points: list[_Point], too_small: float, *, halve: bool) -> float | None:
    """Return the share to be tried next: where the line through two points comes to 1.

    Args:
        points: What is known, the dense network among them.
        too_small: A share that no network can have.
        halve: Take the middle between the two points instead: the line led where it led before.

    Returns:
        None where all shares that are left lead to the same network.
    """
    above = min((p for p in points if p.excess > 1), key=lambda p: p.share)
    below = max((p for p in points if p.excess <= 1), key=lambda p: p.share, default=None)
    if below is not None and below.share > above.share:  # time does not fall with MACs there
        above = min((p for p in points if p.excess > 1 and p.share > below.share), key=_share)
    floor = too_small if below is None else below.share
    if above.share - floor <= _NARROW:
        return None
    if below is None and not too_small:  # time falls slower than MACs
        return above.share / float(above.excess**1.1)
    if below is None or halve:
        return (floor + above.share) / 2
    part = (1 - below.excess) / (above.excess - below.excess)
    margin = 0.1 * (above.share - floor)  # so that both ends move
    share = floor + part * (above.share - floor)
    return min(max(share, floor + margin), above.share - margin)


def _share(point: _Point) -> float:
    return point.share


def _small(plan: Plan, model: nn.Module, example: Example, decision: Decision) -> nn.Module:
    """Return the network of a decision, to be timed, not proved."""
    if decision.patch:
        model = copy_sliced(model, {})
        mend(model, decision.patch)
    if plan.method.structured:
        return shrink(model, plan.space, decision.keep, example, check=False).model
    small = copy_sliced(model, {})
    apply_mask(small, plan.mask(decision.keep))
    return small
