"""Reach a cost: how wide each group must be for the network to cost what was asked."""

from collections.abc import Callable, Mapping, Sequence
from math import gcd

import numpy as np
import torch

from prunus.errors import TargetError
from prunus.selectors.rank import lowest
from prunus.space import Space, UnitGroup
from prunus.types import Keep, Scores, Target

Widths = dict[str, int]


def reach(
    space: Space,
    pools: Sequence[Sequence[UnitGroup]],
    scores: Scores,
    target: Target,
    *,
    settled: Keep,
    round_to: int = 8,
    min_keep: int = 1,
) -> Keep:
    """Choose units so that the cost lands on the target.

    Every pool gives the same share of its units, lowest scores first; the share is bisected, since
    the cost falls with it. Widths are then rounded up or down, the dearest first, so that each
    makes up for the error of those before it, and at last moved by single steps, no further from
    their share than 1 % needs. The result is within 1 % of the target, or within one unit (one
    step of one group) where a unit is larger.

    Args:
        space: Prices widths.
        pools: Channel groups that compete with each other.
        scores: Group name -> float32, shape (units,).
        target: A fraction of the dense macs, params or bytes.
        settled: Decisions already made for other groups.
        round_to: Widths are multiples of this many channels; groups not wider are left whole.
        min_keep: Units that every group keeps at least.

    Returns:
        `settled` and the decision for every group in `pools`.

    Raises:
        TargetError: Even the narrowest network costs more.
    """
    cost = space.cost(target.metric)
    groups = {group.name: group for pool in pools for group in pool}
    base = {
        g.name: int(settled[g.name].sum()) if g.name in settled else g.size for g in space.removable
    }
    wanted = target.value * cost.dense

    def price(widths: Widths) -> float:
        everything = base | widths
        return float(cost.at(torch.tensor([everything[g.name] for g in space.removable])))

    steps = {name: step(group, round_to) for name, group in groups.items()}
    narrowest = {
        name: nearest_width(group, 0, steps[name], min_keep) for name, group in groups.items()
    }
    floor = price(narrowest)
    path = _path(pools, scores, narrowest)
    shares = _bisect(path, price, wanted)
    widths = _round_off(shares, groups, steps, min_keep, price, wanted)
    furthest, widest = max(steps.values(), default=1), max(shares.values(), default=0)
    while furthest <= widest and abs(price(widths) - wanted) > 0.001 * wanted:
        furthest *= 2
        widths = _refine(widths, shares, groups, steps, min_keep, price, wanted, furthest)
        if abs(price(widths) - wanted) <= 0.01 * wanted:
            break
    if price(widths) > wanted * 1.01 and price(widths) <= floor * (1 + 1e-9):
        at_least = (
            "without any of these branches"
            if all(group.may_vanish for group in groups.values())
            else "with every layer at its narrowest"
        )
        raise TargetError(
            f"{target.metric} {target.value:g} cannot be reached: {at_least} the network still has "
            f"{floor / cost.dense:.3f} of the dense {target.metric}. "
            + _held(space, groups, steps, min_keep)
        )
    if price(widths) < wanted * 0.99 and all(w == groups[n].size for n, w in widths.items()):
        raise TargetError(
            f"{target.metric} {target.value:g} cannot be reached: the method's own ratios alone "
            f"leave {price(widths) / cost.dense:.3f} of the dense {target.metric}; lower them."
        )
    return {**settled, **{name: top(scores[name], widths[name]) for name in groups}}


def step(group: UnitGroup, round_to: int) -> int:
    """Return by how many units a width changes at least, for its channels to be a multiple."""
    return 1 if group.may_vanish else round_to // gcd(round_to, group.channels)


def nearest_width(group: UnitGroup, width: int, step: int, least: int) -> int:
    """Return the multiple of `step` nearest to `width`, at least `least`, or the whole size.

    A group that is not wider than one step is left whole, unless all of it may go.
    """
    size = group.size
    if group.may_vanish:
        return min(width, size)
    if size <= step:
        return size
    low = max(step * -(-max(least, 1) // step), step)
    near = max(low, step * round(width / step))
    return size if near >= size or abs(size - width) < abs(near - width) else near


def _path(
    pools: Sequence[Sequence[UnitGroup]], scores: Scores, narrowest: Widths
) -> Callable[[float], Widths]:
    """Return the widths, not rounded, as a function of the share removed from each pool."""
    ranked = []
    for pool in pools:
        owner = np.repeat(np.arange(len(pool)), [group.size for group in pool])
        values = np.concatenate([scores[group.name].numpy() for group in pool])
        ranked.append((pool, owner[np.argsort(values, kind="stable")]))

    def widths(share: float) -> Widths:
        found: Widths = {}
        for pool, order in ranked:
            gone = np.bincount(order[: round(share * len(order))], minlength=len(pool))
            for group, count in zip(pool, gone, strict=True):
                found[group.name] = max(group.size - int(count), narrowest[group.name])
        return found

    return widths


def _bisect(
    path: Callable[[float], Widths], price: Callable[[Widths], float], wanted: float
) -> Widths:
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if price(path(middle)) > wanted else (low, middle)
    return min((path(low), path(high)), key=lambda widths: abs(price(widths) - wanted))


def _round_off(
    shares: Widths,
    groups: dict[str, UnitGroup],
    steps: Mapping[str, int],
    least: int,
    price: Callable[[Widths], float],
    wanted: float,
) -> Widths:
    """Round each width up or down, whichever brings the whole nearer; the dearest step first."""
    widths = dict(shares)

    def dearness(name: str) -> float:
        return price(shares | {name: shares[name] + steps[name]}) - price(shares)

    for name in sorted(groups, key=dearness, reverse=True):
        size, width, step = groups[name].size, widths[name], steps[name]
        options = {
            nearest_width(groups[name], w, step, least)
            for w in (width // step * step, min(size, -(-width // step) * step))
        }
        widths[name] = min(options, key=lambda w: abs(price(widths | {name: w}) - wanted))
    return widths


def _refine(
    widths: Widths,
    shares: Widths,
    groups: dict[str, UnitGroup],
    steps: Mapping[str, int],
    least: int,
    price: Callable[[Widths], float],
    wanted: float,
    furthest: int,
) -> Widths:
    """Move one width by one step, up to `furthest` from its share, while the cost comes nearer."""
    gap = abs(price(widths) - wanted)
    while gap > 0.001 * wanted:
        moves = []
        for name, width in widths.items():
            size, step = groups[name].size, steps[name]
            below, above = (width - 1) // step * step, min(size, (width // step + 1) * step)
            nearby = {nearest_width(groups[name], max(0, w), step, least) for w in (below, above)}
            for near in nearby - {width}:
                if abs(near - shares[name]) <= furthest:
                    moves.append((abs(price(widths | {name: near}) - wanted), name, near))
        best = min(moves, default=(gap, "", 0))
        if best[0] >= gap:
            break
        gap, widths = best[0], widths | {best[1]: best[2]}
    return widths


def top(scores: torch.Tensor, width: int) -> torch.Tensor:
    """Mark the `width` highest scores, shape (units,), True = kept; ties in order of index."""
    (low,) = lowest([scores], len(scores) - min(width, len(scores)))
    return ~low


def _held(
    space: Space, groups: dict[str, UnitGroup], steps: Mapping[str, int], min_keep: int
) -> str:
    """Say what stopped the search."""
    if groups and all(group.may_vanish for group in groups.values()):
        left = len(space.branches) - len(groups)
        return f"{left} more branches are skipped." if left else "There are no more branches."
    narrow = sum(1 < steps[name] >= group.size for name, group in groups.items())
    excluded = [group.name for group in space.groups if group.name not in groups]
    parts = []
    if excluded:
        names = ", ".join(repr(name) for name in excluded[:3])
        parts.append(
            f"{len(excluded)} groups were left out by the method (such as {names}; coupled=True "
            "takes in those that several layers write)"
        )
    if min_keep > 1:
        parts.append(f"min_keep={min_keep} keeps so many channels everywhere")
    if narrow:
        parts.append(f"{narrow} groups are too narrow to be rounded (round_to=1 would cut them)")
    if space.frozen:
        names = ", ".join(repr(frozen.name) for frozen in space.frozen[:3])
        parts.append(f"some layers may not lose channels (such as {names})")
    return " and ".join(parts) + "." if parts else "Every group keeps at least one step."
