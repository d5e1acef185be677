"""What the reader of a report should know besides its numbers."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from prunus.methods import METHODS, Method
from prunus.selectors import AboveZero, ColumnSweep, Rows, innermost
from prunus.selectors.rows import unfitting
from prunus.space import Branches, Frozen, Structured, UnitGroup, Unstructured, WholeGroups
from prunus.space.space import Space
from prunus.types import Keep, Scores, Target

_MANY = 4  # channels that a layer, fallen to one, would have kept at the share of all layers
_SHOWN = 4  # layers are named at most
_COARSE = {Branches: "residual branches", WholeGroups: "the groups of convolutions"}


def unfit(method: Method, groups: Sequence[UnitGroup]) -> list[Frozen]:
    """Return the weights that stay whole because the method's pattern N:M does not fit them."""
    chooser = innermost(method.selector)
    pattern = chooser.pattern if isinstance(chooser, Rows | ColumnSweep) else None
    return [] if pattern is None else unfitting(groups, pattern)


def notes(
    method: Method,
    space: Space,
    asked: Target | None,
    reached: float | None,
    whole: Sequence[Frozen] = (),
    spared: Sequence[Frozen] = (),
) -> list[str]:
    """Return one line for each thing that did not go as asked.

    Args:
        method: What was applied.
        space: What could go.
        asked: The target.
        reached: The same metric of the result.
        whole: What the method's pattern does not fit.
        spared: What the method cannot judge.
    """
    found = []
    if (
        asked is not None
        and reached is not None
        and (whole or abs(reached - asked.value) > (0.05 if asked.timed else 0.03) * asked.value)
    ):
        multiple = 1 if asked.timed else getattr(innermost(method.selector), "round_to", 1)
        why = f": widths are multiples of {multiple}; round_to=1 comes nearer" * (multiple > 1)
        if coarse := _COARSE.get(type(method.granularity)):
            why = f": {coarse} go as a whole"
        if whole:
            names = ", ".join(
                [*(one.name for one in whole[:_SHOWN]), *["..."] * (len(whole) > _SHOWN)]
            )
            why = f": {names} stay whole, whose inputs are no multiple of the pattern"
        found.append(f"asked {asked.value:g}, reached {reached:.3g}{why}")
    granularity = method.granularity
    inside = isinstance(granularity, Structured) and granularity.inside_heads
    if inside and not space.recording.tracer.labels.any_yielding_free():
        found.append("inside_heads=True found no attention whose heads could lose width")
    if not method.structured:
        found += _unjudged(space, spared)
    if space.unseen:
        found.append(not_seen(space))
    return found


def _unjudged(space: Space, spared: Sequence[Frozen]) -> Iterator[str]:
    """Say which weights stay because the method cannot judge them: targets are of the others."""
    every = sum(prod(weight.shape) for weight in space.weights)
    for reason in dict.fromkeys(one.reason for one in spared):
        those = [one for one in spared if one.reason == reason]
        names = ", ".join([*(one.name for one in those[:_SHOWN]), *["..."] * (len(those) > _SHOWN)])
        share = sum(one.channels for one in those) / every
        yield f"{share:.0%} of the weights stay whole and do not count ({names}): each {reason}"


def nothing_went(method: Method, keep: Keep, asked: Target | None, learned: Scores) -> str:
    """Return that nothing goes although something was to, and the way out; empty otherwise.

    Args:
        method: What was applied.
        keep: The decision.
        asked: The target.
        learned: What the masking has learned of each unit.
    """
    wanted = asked is None or asked.value != (0.0 if asked.metric == "sparsity" else 1.0)
    if method.temporary or not wanted or any(not kept.all() for kept in keep.values()):
        return ""
    if asked is not None:
        return f"nothing went: {asked.metric} {asked.value:g} is less than a step; ask for more"
    if not isinstance(method.selector, AboveZero) or not learned:
        return "nothing went: the method's own amounts take nothing here; give a target"
    name = min(learned, key=lambda one: float(learned[one].min()))
    return (
        f"nothing went: only what comes to 0 does, and the smallest of what was learned is "
        f"{float(learned[name].min()):.3g} (of {name}); raise strength, train longer, or give a "
        "target"
    )


def thin(method: Method, groups: Sequence[Mapping[str, Any]]) -> str:
    """Return which layers fall to one channel while others keep many; empty if none does.

    Args:
        method: What was applied.
        groups: The groups of a report.
    """
    kept = sum(group["after"] for group in groups) / max(1, sum(g["before"] for g in groups))
    found = [
        f"{group['name']} keeps 1 of {group['before']} channels"
        for group in groups
        if group["after"] == 1 and group["before"] * kept >= _MANY
    ]
    if not found:
        return ""
    makes = METHODS.get(method.name)
    known = inspect.signature(makes).parameters if makes else {}
    ways = ["a larger min_keep"] * ("min_keep" in known)
    if "scope" in known and getattr(innermost(method.selector), "scope", "layer") != "layer":
        ways.append("scope='layer'")
    more = [f"{len(found) - _SHOWN} more layers keep 1"] * (len(found) > _SHOWN)
    return ", ".join(found[:_SHOWN] + more) + f"; {' or '.join(ways)} keeps more" * bool(ways)


def not_seen(space: Space) -> str:
    """Return what it means that some parameters were met by no run."""
    return (
        f"not seen: {len(space.unseen)} parameters that no run has met, such as "
        f"{space.unseen[0]}; where an input leads there, the small network fails or is wrong: pass "
        "such inputs as also="
    )


def no_such_unit(method: Method, space: Space) -> str:
    """Return that the network has no unit of the method's kind, and which it has; empty if not."""
    makes = METHODS.get(method.name)
    settings = inspect.signature(makes).parameters if makes else {}
    granularity = method.granularity
    if isinstance(granularity, Branches) and not space.branches:
        other = "unit='channel'" if "unit" in settings else "Structured()"
        return f"it has no residual branches, y = x + f(x); for channels take {other}"
    if isinstance(granularity, WholeGroups) and not any(g.grouped for g in space.groups):
        other = "unit='channel'" if "unit" in settings else "Structured()"
        return f"it has no grouped convolutions whose groups may go; for channels take {other}"
    kernels = any(len(weight.shape) > 2 for weight in space.weights)
    if isinstance(granularity, Unstructured) and granularity.unit == "kernel" and not kernels:
        other = "hamiltonian='weight'" if "hamiltonian" in settings else "Unstructured()"
        return f"it has no convolution kernels; for single weights take {other}"
    return ""


def way_to_couple(method: Method) -> str:
    """Return how channels that several layers write into are pruned by a method; empty if not."""
    granularity = method.granularity
    makes = METHODS.get(method.name)
    if not isinstance(granularity, Structured) or granularity.coupled or makes is None:
        return ""
    if "coupled" not in inspect.signature(makes).parameters:
        return ""
    return (
        f" To prune channels that several layers write into as well, pass "
        f"method=prunus.methods.{method.name}(coupled=True)."
    )
