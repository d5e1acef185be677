"""A network's plan: layers with zeros in sparse kernels, the rest in ONNX Runtime."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from prunus_engine._engine import Program
from prunus_engine.choice import Choice, How, add, choose
from prunus_engine.layers import Layer, find
from prunus_engine.reading import Graph, Shape, read, reads
from prunus_engine.rest import Running, cut, edges

_Item: TypeAlias = Layer | tuple[int, ...]
"""A layer that a kernel takes, or the nodes of one part."""


_LINE = 16  # floats of a cache line
_LARGE = 4096  # floats from which on a first line that is shared costs more than to avoid it


class Plan:
    """A network for inputs of fixed shapes, ready to run.

    Tensors between the layers keep ONNX's layout, in buffers that are used again once nothing reads
    them; ONNX Runtime reads and writes the same buffers.

    Args:
        path: An ONNX file in float32.
        shapes: Name of an input -> its shape.
        threads: Of kernels and of ONNX Runtime.
        instructions: "avx512", "avx2" or "portable" for kernels of these; "" for the best that the
            processor has, or those that the environment's PRUNUS_ENGINE_ISA names.
        how: "measure" takes for each layer what is faster; "sparse" takes kernels for all that have
            them, and "dense" for none.
        cache: A folder in which measurements are kept between processes; None for none.

    Attributes:
        choices: What was decided about each layer that has a kernel.
        parts: How many parts run in ONNX Runtime.

    Raises:
        ValueError: The shapes do not fit, or an argument is out of range.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, Sequence[int]],
        *,
        threads: int = 1,
        instructions: str = "",
        how: How = "measure",
        cache: Path | None = None,
    ) -> None:
        if how not in ("measure", "sparse", "dense"):
            raise ValueError(f"how must be 'measure', 'sparse' or 'dense', got {how!r}.")
        graph = read(Path(path), {name: tuple(shape) for name, shape in shapes.items()})
        layers = find(graph)
        self.choices: list[Choice] = choose(
            graph, layers, how=how, threads=threads, instructions=instructions, cache=cache
        )
        chosen = {choice.layer: choice for choice in self.choices}
        taken = _without_loose_views(graph, [one for one in layers if chosen[one.y].kernel])
        items = _schedule(graph, taken)
        self._graph = graph
        self._returned = graph.outputs
        self._constants = {n: v for n in graph.outputs if (v := graph.constant(n)) is not None}
        self._inputs = {
            name: (graph.shapes[name], onnx.helper.tensor_dtype_to_np_dtype(graph.types[name]))
            for name in graph.inputs
        }
        self._outputs = {
            name: graph.shapes[name]
            for name in graph.outputs
            if graph.is_float(name) and name not in {*graph.inputs, *self._constants}
        }
        self._program = Program(threads, instructions)
        self._buffers = _Buffers(graph, self._program, items)
        self._fresh: list[tuple[str, Callable[[NDArray[Any]], None]]] = []
        self._steps: list[Callable[[dict[str, onnxruntime.OrtValue]], None]] = []
        self._place(items, chosen, threads)
        self.parts = sum(isinstance(item, tuple) for item in items)
        self._lock = Lock()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the network once.

        Args:
            feeds: Name of an input -> its value, of the plan's shape.

        Returns:
            The outputs, in the network's order, in memory of their own.

        Raises:
            ValueError: An input is missing, or has another shape or type.
        """
        arrays = {name: _checked(name, feeds, *wanted) for name, wanted in self._inputs.items()}
        for name, shape in self._outputs.items():
            arrays[name] = _aligned(shape)
        values: dict[str, onnxruntime.OrtValue] = {}
        with self._lock:
            for name, bind in self._fresh:
                bind(arrays[name])
            try:
                for step in self._steps:
                    step(values)
            finally:
                self._program.release()  # the arrays are the caller's from here on
        arrays |= {name: value.numpy() for name, value in values.items() if name in self._returned}
        return [arrays[n] if n in arrays else self._constants[n].copy() for n in self._returned]

    def _place(self, items: Sequence[_Item], chosen: Mapping[str, Choice], threads: int) -> None:
        begin = 0
        for item, following in zip(items, [*items[1:], None], strict=True):
            if isinstance(item, Layer):
                self._add(item, chosen[item.y])
                if not isinstance(following, Layer):
                    end = self._program.steps
                    if end > begin:
                        self._steps.append(_kernels(self._program, begin, end))
                    begin = end
            else:
                self._steps.append(self._part(item, threads))
        for name, buffer in self._buffers.outside():
            self._fresh.append((name, lambda a, b=buffer: self._program.bind(b, a)))

    def _add(self, layer: Layer, choice: Choice) -> None:
        if layer.kind == "view":
            return
        buffers = {name: self._buffers.of(name) for name in (*layer.reads, layer.y)}
        step = add(self._program, layer, choice.height, buffers)
        if choice.tuning:
            self._program.tune(step, **{**choice.tuning, "packed": bool(choice.tuning["packed"])})

    def _part(
        self, nodes: tuple[int, ...], threads: int
    ) -> Callable[[dict[str, onnxruntime.OrtValue]], None]:
        running = Running(cut(self._graph, nodes), threads)
        passed = []
        for name in running.part.inputs:
            if name in self._buffers.fresh:
                self._fresh.append((name, lambda a, n=name: running.bind_input(n, a)))
            elif self._buffers.holds(name):
                running.bind_input(name, self._buffers.view(name))
            else:
                passed.append(name)
        opened = False
        for name in running.part.outputs:
            if self._buffers.holds(name) and name not in self._buffers.fresh:
                running.bind_output(name, self._buffers.view(name))
                continue
            running.open_output(name)  # also keeps the order of those that are bound later
            if name in self._buffers.fresh:
                self._fresh.append((name, lambda a, n=name: running.bind_output(n, a)))
            else:
                opened = True

        def run(values: dict[str, onnxruntime.OrtValue]) -> None:
            running.pass_on({name: values[name] for name in passed})
            running.run()
            if opened:
                values.update(running.outputs())

        return run


def _checked(
    name: str, feeds: Mapping[str, NDArray[Any]], shape: Shape, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return an input as memory that can be bound."""
    if name not in feeds:
        raise ValueError(f"input '{name}' is missing.")
    array = feeds[name]
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"input '{name}' must have the shape {shape} and type {dtype}, got {array.shape} and "
            f"{array.dtype}; make a plan for other shapes."
        )
    return array if array.flags.carray else np.require(array, requirements=("C", "A", "W"))


def _aligned(shape: Shape) -> NDArray[np.float32]:
    """Return memory for an output that begins on a cache line, as kernels write whole lines."""
    size = math.prod(shape)
    if size < _LARGE:
        return np.empty(shape, np.float32)
    whole = np.empty(size + _LINE, np.float32)
    begin = -(whole.ctypes.data // whole.itemsize) % _LINE
    return whole[begin : begin + size].reshape(shape)


def _kernels(
    program: Program, begin: int, end: int
) -> Callable[[dict[str, onnxruntime.OrtValue]], None]:
    return lambda values: program.run(begin, end)


def _without_loose_views(graph: Graph, layers: Sequence[Layer]) -> list[Layer]:
    """Leave out views of what no kernel makes, and those that the network returns."""
    made: set[str] = set()
    kept = []
    for layer in layers:
        if layer.kind == "view" and (layer.x not in made or layer.y in graph.outputs):
            continue
        if layer.kind == "view" and layer.x in graph.outputs:
            continue
        made.add(layer.y)
        kept.append(layer)
    return kept


def _schedule(graph: Graph, layers: Sequence[Layer]) -> list[_Item]:
    """Return what runs after what: layers, and between them as few parts as can be.

    Nodes of the rest are put together where no layer lies between them: they have even stages,
    layers odd ones, each as early as what it reads allows.
    """
    last = {layer.nodes[-1]: layer for layer in layers}
    covered = {index for layer in layers for index in layer.nodes}
    stages: dict[str, int] = {}
    rest: dict[int, list[int]] = {}
    kernels: dict[int, list[Layer]] = {}
    for index, node in enumerate(graph.nodes):
        if index in last:
            layer = last[index]
            before = max((stages.get(name, 0) for name in layer.reads), default=0)
            stage = before + 1 - before % 2
            stages[layer.y] = stage
            kernels.setdefault(stage, []).append(layer)
        elif index not in covered:
            before = max((stages.get(name, 0) for name in reads(node)), default=0)
            stage = before + before % 2
            stages.update(dict.fromkeys(node.output, stage))
            rest.setdefault(stage, []).append(index)
    items: list[_Item] = []
    for stage in sorted({*rest, *kernels}):
        if stage in rest:
            items.append(tuple(rest[stage]))
        items += kernels.get(stage, [])
    return items


@dataclass
class _Life:
    made: int
    read: int


class _Buffers:
    """Memory for what passes between layers and parts.

    Attributes:
        fresh: Names whose memory is another in each run: what the network takes and returns.
    """

    def __init__(self, graph: Graph, program: Program, items: Sequence[_Item]) -> None:
        self._graph, self._program = graph, program
        self._roots: dict[str, str] = {}
        self._sums: dict[str, str] = {}  # what is made -> what is added to it
        self._numbers: dict[str, int] = {}
        self.fresh: set[str] = set(graph.inputs)
        lives = self._lives(items)
        self.fresh.update(name for name in graph.outputs if graph.is_float(name))
        self._outside = [
            name for name in sorted(self._by_kernels(items) & self.fresh) if graph.is_float(name)
        ]
        for name in self._outside:
            self._numbers[name] = program.buffer(self._size(name), outside=True)
        self._share({name: life for name, life in lives.items() if name not in self.fresh})

    def of(self, name: str) -> int:
        """Return the number of a buffer."""
        return self._numbers[self._root(name)]

    def holds(self, name: str) -> bool:
        """Say whether a name has a buffer, rather than passing from part to part."""
        return self._root(name) in self._numbers

    def view(self, name: str) -> NDArray[np.float32]:
        """Return a buffer as an array of a name's shape."""
        array: NDArray[np.float32] = self._program.view(self.of(name))
        return array[: self._size(name)].reshape(self._graph.shapes[name])

    def outside(self) -> Iterable[tuple[str, int]]:
        """Yield the names, and the buffers, that are bound before each run."""
        return ((name, self._numbers[name]) for name in self._outside)

    def _root(self, name: str) -> str:
        while name in self._roots:
            name = self._roots[name]
        return name

    def _size(self, name: str) -> int:
        return int(np.prod(self._graph.shapes[name], dtype=np.int64))

    def _by_kernels(self, items: Sequence[_Item]) -> set[str]:
        layers = [item for item in items if isinstance(item, Layer)]
        return {self._root(name) for layer in layers for name in (*layer.reads, layer.y)}

    def _lives(self, items: Sequence[_Item]) -> dict[str, _Life]:
        """Return when each name is made and last read, those that views are of for their views."""
        lives: dict[str, _Life] = {}
        for at, item in enumerate(items):
            if isinstance(item, Layer):
                if item.kind == "view":
                    self._roots[item.y] = item.x
                    continue
                given, made = item.reads, (item.y,)
            else:
                given, made = edges(self._graph, item)
            for name in given:
                if self._root(name) in lives:
                    lives[self._root(name)].read = at
            for name in made:
                if self._graph.is_float(name):
                    lives[name] = _Life(at, at)
            if isinstance(item, Layer) and item.kind in ("conv", "depthwise") and item.residual:
                self._sums[item.y] = self._root(item.residual)
        return lives

    def _share(self, lives: Mapping[str, _Life]) -> None:
        """Give each name the smallest free buffer that holds it, or a new one.

        A sum takes the place of what is added, if nothing reads that later: memory that has just
        been read is written faster.
        """
        free: list[int] = []
        ends: list[tuple[int, int]] = []
        for name, life in sorted(lives.items(), key=lambda pair: pair[1].made):
            free += [number for end, number in ends if end < life.made]
            ends = [(end, number) for end, number in ends if end >= life.made]
            added = self._sums.get(name)
            if added in lives and lives[added].read == life.made:
                number = self._numbers[added]
                ends.remove((life.made, number))
                self._numbers[name] = number
                ends.append((life.read, number))
                continue
            fits = [n for n in free if self._sizes(n) >= self._size(name)]
            number = min(fits, key=self._sizes) if fits else self._program.buffer(self._size(name))
            if fits:
                free.remove(number)
            self._numbers[name] = number
            ends.append((life.read, number))

    def _sizes(self, number: int) -> int:
        return len(self._program.view(number))
