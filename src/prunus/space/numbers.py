"""Numbers that know how they were computed: sizes of tensors, and what was made of them."""

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import fx

Decide: TypeAlias = Callable[[Callable[..., Any] | None, tuple[Any, ...], bool], None]
"""Told of a question that Python asks of numbers: which function, of what, and the answer; or, with
None instead of a function, that a number is used in a way that cannot be followed."""


class Number:
    """A number that knows the node that computes it: a size, or what was computed from sizes."""

    recipe: Callable[[], fx.Node]
    decide: Decide
    _node: fx.Node | None = None

    def __reduce__(self) -> Any:
        """Be copied and pickled as a plain number: the model may keep it."""
        return type(plain_number(self)), (plain_number(self),)

    @property
    def node(self) -> fx.Node:
        """The node, made when it is first needed."""
        if self._node is None:
            self._node = self.recipe()
            self._node.meta["size"] = plain_number(self)
        return self._node


class Size(Number, int):
    """A whole number that knows its node."""


class Ratio(Number, float):
    """A fraction that knows its node."""


def plain_number(value: Any) -> Any:
    """Return the value without its node."""
    if isinstance(value, Number):
        return int.__int__(value) if isinstance(value, int) else float.__float__(value)  # type: ignore[arg-type]
    return value


def tracked(value: Any, recipe: Callable[[], fx.Node], decide: Decide) -> Any:
    """Return a number with the recipe for the node that computes it, and whom it tells what."""
    if type(value) not in (int, float):
        return value
    number: Any = Size(value) if type(value) is int else Ratio(value)
    number.recipe, number.decide = recipe, decide
    return number


def _arithmetic(operation: Callable[..., Any], *, swapped: bool = False) -> Callable[..., Any]:
    def method(self: Any, *others: Any) -> Any:
        if not all(isinstance(other, int | float) for other in others):
            return NotImplemented
        plain = list(map(plain_number, others))
        own = plain_number(self)
        value = operation(*plain, own) if swapped else operation(own, *plain)

        def recipe() -> fx.Node:
            nodes = [x.node if isinstance(x, Number) else x for x in others]
            arguments = (*nodes, self.node) if swapped else (self.node, *nodes)
            node: fx.Node = self.node.graph.call_function(operation, tuple(arguments))
            return node

        return tracked(value, recipe, self.decide)

    return method


def _question(operation: Callable[..., bool]) -> Callable[..., Any]:
    def method(self: Any, *others: Any) -> Any:
        if not all(isinstance(other, int | float) for other in others):
            return NotImplemented
        answer = operation(plain_number(self), *map(plain_number, others))
        self.decide(operation, (self, *others), answer)
        return answer

    return method


def _escape(name: str, kind: type) -> Callable[..., Any]:
    """Return a method that gives a plain value, of which nothing is known afterwards."""
    plain = getattr(kind, name)

    def method(self: Any, *others: Any) -> Any:
        self.decide(None, (self,), False)
        return plain(plain_number(self), *others)

    return method


_ROUNDED: dict[str, Callable[..., Any]] = {
    **{"ceil": math.ceil, "floor": math.floor, "trunc": math.trunc, "round": round, "abs": abs}
}

_BITS = ("and_", "or_", "xor", "lshift", "rshift")
_ESCAPES = ("__int__", "__float__", "__str__", "__repr__", "__format__", "__hash__")

for _kind in (Size, Ratio):
    for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "pow"):
        setattr(_kind, f"__{_name}__", _arithmetic(getattr(operator, _name)))
        setattr(_kind, f"__r{_name}__", _arithmetic(getattr(operator, _name), swapped=True))
    setattr(_kind, "__neg__", _arithmetic(operator.neg))  # noqa: B010
    for _name, _rounded in _ROUNDED.items():
        setattr(_kind, f"__{_name}__", _arithmetic(_rounded))
    for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(_kind, f"__{_name}__", _question(getattr(operator, _name)))
    setattr(_kind, "__bool__", _question(operator.truth))  # noqa: B010
    setattr(_kind, "__divmod__", lambda self, other: (self // other, self % other))  # noqa: B010
    setattr(_kind, "__rdivmod__", lambda self, other: (other // self, other % self))  # noqa: B010
    for _name in _ESCAPES:
        setattr(_kind, _name, _escape(_name, _kind.__mro__[2]))
for _name in _BITS:
    _bare = _name.rstrip("_")
    setattr(Size, f"__{_bare}__", _arithmetic(getattr(operator, _name)))
    setattr(Size, f"__r{_bare}__", _arithmetic(getattr(operator, _name), swapped=True))
setattr(Size, "bit_length", _escape("bit_length", int))  # noqa: B010
