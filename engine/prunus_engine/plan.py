"""A network's plan: layers with zeros in sparse kernels, the rest in ONNX Runtime."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from prunus_engine._engine import Program
from prunus_engine.buffers import Buffers
from prunus_engine.choice import Choice, How, add, choose
from prunus_engine.layers import Layer, find, one_image
from prunus_engine.reading import Shape, read
from prunus_engine.rest import Running, cut
from prunus_engine.schedule import Item, chains, schedule, without_loose_views

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
        instructions: "avx512", "avx2", "neon" or "portable" for kernels of these; "" for the best
            that the processor has, or those that the environment's PRUNUS_ENGINE_ISA names.
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
        taken = without_loose_views(graph, [one for one in layers if chosen[one.y].kernel])
        items = schedule(graph, taken)
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
        self._chains = chains(items)
        self._buffers = Buffers(graph, self._program, items, self._chains)
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

    def _place(self, items: Sequence[Item], chosen: Mapping[str, Choice], threads: int) -> None:
        ends = {chain.end: chain for chain in self._chains}
        begin = 0
        for at, item in enumerate(items):
            if not isinstance(item, Layer):
                self._steps.append(self._part(item, threads))
                continue
            self._add(item, chosen[item.y])
            if (chain := ends.get(at + 1)) is not None:
                end = self._program.steps
                if end > begin:
                    self._steps.append(_kernels(self._program, begin, end, chain.images))
                begin = end
        for name, buffer in self._buffers.outside():
            self._fresh.append((name, partial(self._program.bind, buffer)))

    def _add(self, layer: Layer, choice: Choice) -> None:
        if layer.kind == "view":
            return
        buffers = {name: self._buffers.of(name) for name in (*layer.reads, layer.y)}
        step = add(self._program, one_image(layer), choice.height, buffers)
        if (images := layer.images) > 1:
            x, y = (self._buffers.apart(name, images) for name in (layer.x, layer.y))
            residual = self._buffers.apart(layer.residual, images) if layer.residual else 0
            self._program.spread(step, x, residual, y)
        if cuts := choice.tuning:
            packed = bool(cuts["packed"])
            self._program.tune(step, cuts["width"], cuts["near"], cuts["chunk"], packed)

    def _part(
        self, nodes: tuple[int, ...], threads: int
    ) -> Callable[[dict[str, onnxruntime.OrtValue]], None]:
        running = Running(cut(self._graph, nodes), threads)
        passed = []
        for name in running.part.inputs:
            if name in self._buffers.fresh:
                self._fresh.append((name, partial(running.bind_input, name)))
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
                self._fresh.append((name, partial(running.bind_output, name)))
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
    program: Program, begin: int, end: int, images: int
) -> Callable[[dict[str, onnxruntime.OrtValue]], None]:
    return lambda values: program.run(begin, end, images)
