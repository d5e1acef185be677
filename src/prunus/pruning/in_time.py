"""A time as the target: which share of MACs, or of weights, makes a network as fast as asked.

What a runtime makes of narrower layers, or of zeros, is measured, not modelled: networks along the
method's own path, from dense to narrow, are exported and timed beside the dense one until one is as
fast as asked. Time falls with them, but by steps and never in proportion, so the share is found by
regula falsi on the measured points. Where a step of some layers is worth more than is left to the
time asked for, these keep the narrower width, and the others are widened.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from prunus.criteria import L1
from prunus.deploy.progress import Tell, still_bar
from prunus.deploy.stopwatch import Reading
from prunus.errors import TargetError
from prunus.pruning.plan import Plan
from prunus.selectors import Decision, TopK, innermost
from prunus.space import Branches
from prunus.space.masked import apply_mask
from prunus.space.remove import copy_sliced, mend
from prunus.space.shrink import shrink
from prunus.types import Example, Keep

NEAR = 0.025
"""How near, as a share of the time asked for, a measured network must be to end the search."""

NEAR_ENOUGH = 0.05
"""How near the best of all tries must be."""

_log = logging.getLogger(__name__)

_TRIES = 8  # networks that are timed at most; as many again where a step was worth too much
_NARROW = 0.005  # of the MACs: below that, shares lead to the same network


def aim(
    plan: Plan,
    model: nn.Module,
    example: Example,
    decide: Callable[[], Decision],
    *,
    share_only: bool = False,
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
        share_only: The share is what is wanted: other decisions will be made with it.
        progress: Draw on standard error how many networks have been timed.

    Returns:
        The decision of that share, whose network was timed.

    Raises:
        TargetError: No network that was tried is within 5 % of the time; the message says how near
            it came. Or the dense network is as fast already.
        ExportError: A network cannot be exported, so it cannot be timed.
    """
    with still_bar(shown=progress) as tell:
        search = _Search(plan, model, example, decide, tell)
        nearest = search.along()
        if nearest.off > NEAR_ENOUGH and not share_only and (held := search.worth_too_much()):
            nearest = search.along(held)
    if nearest.decision is None or nearest.off > NEAR_ENOUGH:
        raise search.error(nearest) from search.refused
    plan.target = plan.partial(nearest.share if share_only else search.left(nearest))
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

    @property
    def off(self) -> float:
        """How far its time is from what was asked for, as a share of that."""
        return abs(self.excess - 1)


class _Search:
    """What has been tried on the way to a time; the dense network is timed at once.

    Args:
        plan: Its target is set to each share that is tried.
        model: The network.
        example: An input.
        decide: Makes the plan's decision.
        tell: Told what is timed.

    Raises:
        TargetError: The dense network is as fast as asked.
    """

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        example: Example,
        decide: Callable[[], Decision],
        tell: Tell,
    ) -> None:
        assert plan.asked is not None and plan.stopwatch is not None
        self._plan, self._model, self._example = plan, model, example
        self._decide, self._tell = decide, tell
        self._asked, self._stopwatch = plan.asked, plan.stopwatch
        self._kind = "MACs" if plan.method.structured else "weights"
        # What was timed, by widths: which channels they are is no matter.
        self._readings: dict[tuple[int, ...], Reading] = {}
        self._tried: list[_Point] = []
        self.refused: TargetError | None = None
        tell("timing the dense network", 0, _TRIES)
        excess, told = self._asked.value, ""
        if self._asked.metric == "latency_ms":
            dense_ms = self._stopwatch.time(model).dense_ms
            excess, told = dense_ms / self._asked.value, f" ({dense_ms:.3g} ms)"
        if excess <= 1:
            raise TargetError(
                f"{self._asked.metric} {self._asked.value:g} is met without pruning{told}; ask for "
                "more."
            )
        self._dense = _Point(1.0, excess)

    def along(self, held: Keep | None = None) -> _Point:
        """Time networks, from dense to narrow, until one is as fast as asked.

        Args:
            held: What some groups keep whatever is decided: those of the widest network so far
                that is fast enough, with which this path begins.

        Returns:
            The nearest of all that have been timed.
        """
        points = [self._dense]
        if held and (begin := _ends(self._tried)[0]):
            points.append(begin)
        too_small, again, most = 0.0, False, len(self._readings) + _TRIES
        for _ in range(2 * _TRIES):
            share = _next(points, too_small, halve=again)
            if share is None or len(self._readings) >= most:
                break
            self._plan.target = self._plan.partial(share)
            try:
                decision = self._decide()
            except TargetError as error:
                too_small, self.refused = share, error
                continue
            if held:
                decision = Decision(decision.keep | held)
            widths = tuple(int(kept.sum()) for kept in decision.keep.values())
            again = widths in self._readings
            if not again:
                self._tell(f"timing {share:.3f} of the {self._kind}", len(self._readings), most)
                small = _small(self._plan, self._model, self._example, decision)
                self._readings[widths] = self._stopwatch.time(small)
            points.append(self._point(share, decision, self._readings[widths], again))
            self._tried.append(points[-1])
            if points[-1].off <= NEAR:
                return points[-1]
        return min(self._tried, key=lambda point: point.off, default=self._dense)

    def _point(self, share: float, decision: Decision, reading: Reading, again: bool) -> _Point:
        asked, value = self._asked.metric, self._asked.value
        excess = reading.pruned_ms / value if asked == "latency_ms" else reading.ratio * value
        point = _Point(share, excess, reading, decision)
        _log.info(
            "%.3f of the %s: %.3g ms, %.3g times as fast%s; asked: %s %g",
            self.left(point),
            self._kind,
            reading.pruned_ms,
            1 / reading.ratio,
            " (timed before)" if again else "",
            asked,
            value,
        )
        return point

    def left(self, point: _Point) -> float:
        """Return the share that a network has: with what some groups keep it is not the path's."""
        if point.decision is None or not self._plan.method.structured:
            return point.share
        cost, space = self._plan.space.cost("macs"), self._plan.space
        return float(cost.at(space.widths(point.decision.keep))) / cost.dense

    def worth_too_much(self) -> Keep:
        """Return what the groups keep whose step leads past the time, in the network beyond it."""
        fast, slow = (end.decision if end else None for end in _ends(self._tried))
        if not (fast and slow and self._plan.method.structured) or fast.patch or slow.patch:
            return {}
        wide = slow.keep
        held = {name: kept for name, kept in fast.keep.items() if kept.sum() < wide[name].sum()}
        return held if len(held) < len(fast.keep) else {}  # else there is nothing to widen

    def error(self, nearest: _Point) -> TargetError:
        """Say how near the nearest of all networks came."""
        read = nearest.reading
        came = "no narrower network can be had."
        if read is not None:
            came = (
                f"the nearest of {len(self._readings)} networks that were timed takes "
                f"{read.pruned_ms:.3g} ms where the dense one takes {read.dense_ms:.3g} ms "
                f"({1 / read.ratio:.3g} times as fast), with {self.left(nearest):.3f} of the "
                f"{self._kind}."
            )
        below = f" Below that: {self.refused}" if self.refused else ""
        return TargetError(
            f"{self._asked.metric} {self._asked.value:g} cannot be reached within "
            f"{NEAR_ENOUGH:.0%}: {came}{below}{self._plan.hint}"
        )


def stand_in(plan: Plan) -> Plan:
    """Return the plan with the smallest filters instead, for a method that decides in training."""
    other = copy.copy(plan)
    amounts = innermost(plan.method.selector)
    multiple, least = getattr(amounts, "round_to", 1), getattr(amounts, "min_keep", 1)
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
    below, above = _ends(points)
    assert above is not None
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


def _ends(points: Sequence[_Point]) -> tuple[_Point | None, _Point | None]:
    """Return the widest network that is fast enough, and the narrowest above it that is not."""
    below = max((p for p in points if p.excess <= 1), key=_share, default=None)
    least = 0.0 if below is None else below.share  # time may not fall with MACs below that
    above = min((p for p in points if p.excess > 1 and p.share > least), key=_share, default=None)
    return below, above


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
