"""A recorded graph and what was seen while it was recorded."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import TreeSpec

from prunus.errors import EquivalenceError
from prunus.space.decisions import FURTHER, Decision
from prunus.space.labels import Atoms, Label
from prunus.space.tracer import Tracer


@dataclass(frozen=True)
class Seen:
    """What is known of one tensor of the graph.

    Attributes:
        labels: Of each dimension.
        shape: In the dense network.
        index: Its values, where it is an index that the model holds.
    """

    labels: list[Label]
    shape: tuple[int, ...]
    index: Atoms | None = None


class Applied:
    """A function with a backward of its own, as a call that a graph can name."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.__name__ = self.__qualname__ = function.__name__
        self.__module__ = function.__module__

    def __call__(self, *args: Any) -> Any:
        """Apply it."""
        return self.function.apply(*args)


@dataclass
class Recording:
    """A graph and what was seen while it was recorded.

    Attributes:
        tracer: The labels of what was seen.
        graph: Calls over the model's submodules, parameters and buffers, by their names.
        seen: Node name -> `Seen` for tensors, nested as the output was. A node that gives a size
            has it in its `meta`, and one that spends multiplications which of the tracer's products
            are its own, as a range.
        constants: Tensors that the forward takes from elsewhere, by the name they get.
        decisions: Calls that brought values into Python, each once.
        asked: What Python has concluded from sizes.
        reads_sizes: Whether the forward reads the size of a tensor.
        escapes: Whether it uses one in a way that cannot be followed, such as `int(n)`.
        spec: How the outputs are nested.
        failure: Why there is no graph; empty where there is one.
        device: Where the model's first tensor is.
        fixed: Input -> the plain value that it was given, which the graph holds.
        nested: Input -> how the tensors in it are nested, where it is no tensor itself.
        parameters: The inputs of the forward, where it names them.
    """

    tracer: Tracer
    graph: fx.Graph = field(default_factory=fx.Graph)
    seen: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)
    decisions: set[str] = field(default_factory=set)
    asked: list[Decision] = field(default_factory=list)
    reads_sizes: bool = False
    escapes: bool = False
    spec: TreeSpec | None = None
    failure: str = ""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    fixed: dict[str, Any] = field(default_factory=dict)
    nested: dict[str, TreeSpec] = field(default_factory=dict)
    parameters: tuple[inspect.Parameter, ...] = ()

    def text(self) -> list[tuple[Any, ...]]:
        """Return the calls with all they are given: that of equal graphs is equal.

        Where a call names the device of tensors without values, it counts as the usual one.
        """

        def plain(x: Any) -> Any:
            if isinstance(x, torch.device):
                return "device" if x.type in ("meta", self.device.type) else str(x)
            return x.name if isinstance(x, fx.Node) else repr(x)

        found: list[tuple[Any, ...]] = []
        for node in self.graph.nodes:
            leaves: list[Any] = []
            fx.node.map_aggregate((node.args, node.kwargs), leaves.append)
            target = node.target
            target = target.function if isinstance(target, Applied) else target
            given = tuple(map(plain, leaves))
            found.append((node.name, node.op, target, given, tuple(node.kwargs)))
        return found

    def counts_channels(self, size: tuple[Any, ...]) -> bool:
        """Say whether a size that was asked about counts channels: no input changes it."""
        seen = self.seen.get(size[1])
        labels = [seen.labels[k] for k in size[3:]] if isinstance(seen, Seen) else []
        free = self.tracer.labels.free
        return any(not isinstance(x, str) and bool(free(x).any()) for x in labels)

    def sizes(self) -> list[Decision]:
        """Return what was asked about sizes that other inputs can have."""
        return [x for x in self.asked if not all(map(self.counts_channels, x.sources))]

    def ratios(self) -> list[float]:
        """Return how many times as large other inputs may have to be to go another way."""
        found = {ratio for decision in self.sizes() for ratio in decision.ratios()}
        return sorted(found.union(self.unseen_ratios()))

    def unseen_ratios(self) -> Sequence[float]:
        """Return the same of ways about which a graph does not ask again."""
        return FURTHER if self.escapes else ()

    def ways(self) -> list[str]:
        """Return what decided the way that the forward took: values, sizes and plain inputs."""
        given = {p.name: p.default for p in self.parameters if p.name not in self.inputs}
        plain = [f"{name}={value!r}" for name, value in (given | self.fixed).items()]
        return [*sorted(self.decisions), *map(str, self.sizes()), *plain]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that were given."""
        return tuple(str(node.target) for node in self.graph.nodes if node.op == "placeholder")

    def required(self) -> "Recording":
        """Return the recording itself.

        Raises:
            EquivalenceError: There is no graph.
        """
        if self.failure:
            raise EquivalenceError(f"its forward cannot be recorded as a graph: {self.failure}.")
        return self

    def copy(self) -> "Recording":
        """Return the same with a graph and constants of its own, to be changed."""
        graph = fx.Graph()
        graph.output(graph.graph_copy(self.graph, {}))
        return replace(self, graph=graph, constants=dict(self.constants))
