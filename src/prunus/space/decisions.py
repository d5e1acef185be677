"""What a forward decides by the sizes of its inputs, such as `if x.shape[-1] > 64`.

Only the way that the example takes is recorded. Where a graph is made of it, it asks the same
questions again when it runs and refuses inputs for which an answer is another.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

_SIGNS = {
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "truth": "is not"},
    **{"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "truediv": "/", "mod": "%"},
}


FURTHER = (2.0, 4.0)
"""How many times as large sizes are tried where it cannot be seen at which another way begins."""


class Refused(ValueError):
    """A network that is right for some inputs only was given another."""


@dataclass(frozen=True)
class Decision:
    """A question about sizes and the answer that the example gave.

    Attributes:
        question: A function of `operator`, by its name.
        operands: Numbers, and tuples for what is computed: ("size", call, number, dimension),
            ("numel", call, number), or a function with its operands.
        answer: What came out.
    """

    question: str
    operands: tuple[Any, ...]
    answer: bool

    def __str__(self) -> str:
        return f"{_text((self.question, *self.operands))}: {self.answer}"

    @property
    def sources(self) -> list[tuple[Any, ...]]:
        """The sizes it is about."""
        return list(_sources(self.operands))

    def ratios(self) -> Iterator[float]:
        """Yield how many times as large sizes must be for another answer, as far as one can see."""
        if len(self.operands) < 2:
            yield from FURTHER
            return
        numbers = [_value(x) for x in self.operands]
        computed = [isinstance(x, tuple) for x in self.operands]
        for number, other, mine in zip(numbers, numbers[::-1], computed, strict=True):
            if mine and number:
                yield abs(other / number)


def _value(expression: Any) -> Any:
    if not isinstance(expression, tuple):
        return expression
    kind, *operands = expression
    return operands[1] if kind in ("size", "numel") else kind(*map(_value, operands))


def _sources(value: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, tuple):
        if value and value[0] in ("size", "numel"):
            yield value
        else:
            for part in value:
                yield from _sources(part)


def _text(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    kind, *operands = value
    name = getattr(kind, "__name__", str(kind))
    if name == "size":
        return f"{operands[0]}.shape[{operands[2]}]"
    if name == "numel":
        return f"{operands[0]}.numel()"
    first, *rest = map(_text, operands)
    if name in _SIGNS:
        return f"{first} {_SIGNS[name]} {rest[0] if rest else 0}"
    return f"{name}({', '.join((first, *rest))})"


def take_out(graph: fx.Graph, asked: list[tuple[fx.Node, bool]]) -> list[Decision]:
    """Remove the questions from a graph, with what was computed for them alone."""
    found = [
        Decision(node.target.__name__, _expression(node)[1:], answer)  # type: ignore[union-attr]
        for node, answer in asked
    ]
    waiting = [node for node, _ in asked]
    while waiting:
        node = waiting.pop()
        if not node.users and ("size" in node.meta or "asked" in node.meta):
            waiting = [*(x for x in waiting if x is not node), *node.all_input_nodes]
            graph.erase_node(node)
    return list(dict.fromkeys(found))


def _expression(value: Any) -> Any:
    if not isinstance(value, fx.Node):
        return value
    if value.op == "call_method":
        source, *dim = value.args
        return (value.target, source.name, value.meta["size"], *dim)  # type: ignore[union-attr]
    return (value.target, *map(_expression, value.args))


def put_in(
    graph: fx.Graph, decisions: Iterable[Decision], instead: Mapping[str, list[str]]
) -> None:
    """Let a graph ask questions, each as soon as it can.

    Args:
        graph: Is changed.
        decisions: The questions.
        instead: Call -> earlier ones of the same shape, to be asked where that one is gone. What
            was asked about further calls that are gone is left out.
    """
    calls = {node.name: node for node in graph.nodes}
    order = {name: k for k, name in enumerate(calls)}
    for name, others in instead.items():  # earlier calls come first
        there = next((x for x in others if x in calls), None)
        if name not in calls and there is not None:
            calls[name], order[name] = calls[there], order[there]
    for decision in decisions:
        names = {source[1] for source in decision.sources}
        if names <= calls.keys():
            last = calls[max(names, key=order.__getitem__)]
            with graph.inserting_before(last.next):
                numbers = [_node(x, calls, graph) for x in decision.operands]
                arguments = (str(decision), decision.question, decision.answer, *numbers)
                graph.call_function(holds, arguments)


def _node(value: Any, calls: Mapping[str, fx.Node], graph: fx.Graph) -> Any:
    if not isinstance(value, tuple):
        return value
    kind, *operands = value
    if kind in ("size", "numel"):
        name, number, *dim = operands
        node = graph.call_method(kind, (calls[name], *dim))
    else:
        given = tuple(_node(x, calls, graph) for x in operands)
        node = graph.call_function(kind, given)
        number = kind(*(x.meta["size"] if isinstance(x, fx.Node) else x for x in given))
    node.meta["size"] = number
    return node


def holds(text: str, question: str, answer: bool, *numbers: Any) -> None:
    """Ask a question again.

    Raises:
        Refused: The answer is another.
    """
    if bool(getattr(operator, question)(*numbers)) is not answer:
        raise Refused(
            f"an input of this size cannot be given: this network is a graph that was recorded "
            f"where {text}; here the numbers are {', '.join(map(str, numbers))}. Prune, "
            "or save, with an example of the size you need."
        )
