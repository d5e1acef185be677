"""Whether the small network's forward makes the calls of the dense one, on what is left of each.

A forward may compute sizes anew, as `h[:, :h.shape[1] // 2]` does. In the small network its half is
another one, and no comparison of numbers is sure to show it. So the calls are compared themselves:
each must give the shapes that the labels leave over, and be given the numbers that a rewritten
graph would have.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from torch import fx

from prunus.errors import EquivalenceError
from prunus.space.recording import Applied, Recording, Seen
from prunus.space.sizes import After, follow, subscripts

_DECIDED_BY_SHAPES = ("split", "split_with_sizes", "chunk", "tensor_split", "repeat_interleave")
"""Calls whose numbers follow from the shapes of what they take and give."""

_ROUNDING, _NOTHING = 1e-6, 1e-12  # relative, and beside sums that come to 0

_AROUND = 4  # what is given is shown so far on both sides of the first difference

_NAMED = {
    "affine_grid": ("theta", "align_corners"),
    "narrow": ("input", "dim", "start", "length"),
    "pad": ("input", "pad", "mode", "value"),
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d"),
        ("input", "weight", "bias", "stride", "padding", "dilation"),
    ),
}
"""What else decides calls, by name: sizes and groups follow from the shapes."""


def another_call(dense: Recording, after: After, small: Recording) -> str:
    """Return the first call in which the small network differs from what stays of the dense one.

    Args:
        dense: Calls of the dense network, with labels; its graph is rewritten on the way.
        after: What stays of it.
        small: Calls of the small network.

    Returns:
        What differs; "" where nothing does.
    """
    ours, theirs = _Calls(dense, after), _Calls(small)
    for (node, target), (other, called) in zip(ours, theirs, strict=False):
        if target != called:
            return f"it calls {_text(called)} where the dense network calls {_text(target)}"
        wanted, found = ours.shapes(node), theirs.shapes(other)
        if wanted != found:
            return f"its {_text(target)} gives {found} where {wanted} is left of the dense one's"
        wanted, found = ours.given(node), theirs.given(other)
        if len(wanted) != len(found) or not all(map(_same, wanted, found)):
            found, wanted = _shown(found, wanted)
            return f"its {_text(target)} is given {found} where the removal leaves {wanted}"
    return ""


class _Calls:
    """The calls of a recording, but for those that compute sizes, with what they take and give.

    Args:
        recording: The calls.
        after: What stays of them; nothing where they are already those of the small network.
    """

    def __init__(self, recording: Recording, after: After | None = None) -> None:
        self._recording = recording
        self._after = after
        self._number: dict[fx.Node, int] = {}

    def __iter__(self) -> Iterator[tuple[fx.Node, Any]]:
        for node in list(self._recording.graph.nodes):
            target = node.target.function if isinstance(node.target, Applied) else node.target
            if self._after is not None:
                with suppress(EquivalenceError):  # its numbers are then compared as they are
                    follow(node, self._after)
            if "size" not in node.meta:
                self._number[node] = len(self._number)
                yield node, target

    def shapes(self, node: fx.Node) -> Any:
        """Return the shapes of what a call gives, nested as that is."""

        def look(seen: Any) -> Any:
            if isinstance(seen, Seen):
                return self._shape(seen)
            if isinstance(seen, dict):
                return {key: look(part) for key, part in seen.items()}
            return list(map(look, seen)) if isinstance(seen, list) else None

        return look(self._recording.seen.get(node.name))

    def given(self, node: fx.Node) -> list[Any]:
        """Return the numbers, texts and calls that a call is given, in order."""
        name = _text(node.target).strip("_")
        arguments: list[Any] = [*node.args, *node.kwargs.items()]
        if name in _NAMED:
            named = dict(zip(_NAMED[name], node.args, strict=False)) | dict(node.kwargs)
            arguments = [named.get(key) for key in _NAMED[name]]
        elif name in ("getitem", "setitem"):
            arguments = self._subscripted(node)
        elif name in _DECIDED_BY_SHAPES:
            arguments = list(node.all_input_nodes)[:1]
        return list(self._leaves(arguments))

    def _subscripted(self, node: fx.Node) -> list[Any]:
        """Return what a call between brackets is given, slices as the positions they take."""
        source, index, *value = node.args
        seen = self._recording.seen.get(getattr(source, "name", ""))
        if not isinstance(seen, Seen):
            return [*node.args]
        shape, items, dim = self._shape(seen), subscripts(index, len(seen.shape)), 0
        for k, item in enumerate(items):
            if isinstance(item, slice) and dim < len(shape):
                bounds = (item.start, item.stop, item.step)
                if not any(x in self._number for x in bounds):  # a tensor's value is no size
                    items[k] = range(*slice(*map(self._value, bounds)).indices(shape[dim]))
            dim += item is not None
        return [source, *items, *value]

    def _leaves(self, value: Any) -> Iterator[Any]:
        if isinstance(value, list | tuple):
            for part in value:
                yield from self._leaves(part)
        elif isinstance(value, dict):
            yield from self._leaves([*value.items()])
        elif isinstance(value, slice):
            yield from self._leaves((value.start, value.stop, value.step))
        elif isinstance(value, fx.Node) and value in self._number:
            yield f"call {self._number[value]}"
        elif isinstance(value, fx.Node | int | float | complex | str | range | None):
            yield self._value(value)

    def _value(self, number: Any) -> Any:
        if self._after is not None:
            return self._after.value(number)
        return number.meta["size"] if isinstance(number, fx.Node) else number

    def _shape(self, seen: Seen) -> tuple[int, ...]:
        return seen.shape if self._after is None else self._after.shape(seen)


def _same(wanted: Any, found: Any) -> bool:
    """Say whether two things that a call is given are the same.

    A fraction that was read from a tensor is so up to rounding: sums of what is left may be made in
    another order. One that follows from sizes is apart by more.
    """
    if isinstance(wanted, float) and isinstance(found, float):
        both_nan = math.isnan(wanted) and math.isnan(found)
        return both_nan or math.isclose(wanted, found, rel_tol=_ROUNDING, abs_tol=_NOTHING)
    return bool(wanted == found)


def _shown(found: list[Any], wanted: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return what two calls are given, of long lists only what lies around the first difference."""
    pairs = zip(wanted, found, strict=False)
    shorter = min(len(wanted), len(found))
    first = next((k for k, pair in enumerate(pairs) if not _same(*pair)), shorter)
    start, stop = max(0, first - _AROUND), first + _AROUND
    before = ["..."] * (start > 0)
    return tuple(  # type: ignore[return-value]
        [*before, *each[start:stop], *["..."] * (len(each) > stop)] for each in (found, wanted)
    )


def _text(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))
