"""What kernels of this package do not take runs in ONNX Runtime, part by part."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from prunus_engine.reading import Graph, reads


@dataclass(frozen=True)
class Part:
    """Nodes of a graph that run in one call of ONNX Runtime.

    Args:
        model: They, as a model.
        inputs: What they read.
        outputs: What others read of theirs.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def edges(graph: Graph, nodes: Iterable[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what nodes read that none of them makes, and what others read of theirs."""
    inside = sorted(nodes)
    chosen = set(inside)
    made = list(dict.fromkeys(n for index in inside for n in graph.nodes[index].output if n))
    used = dict.fromkeys(name for index in inside for name in reads(graph.nodes[index]))
    own = {*made, *graph.constants}
    outputs = (
        name
        for name in made
        if name in graph.outputs or any(reader not in chosen for reader in graph.readers[name])
    )
    return tuple(name for name in used if name not in own), tuple(outputs)


def cut(graph: Graph, nodes: Iterable[int]) -> Part:
    """Cut nodes out of a graph."""
    inside = sorted(nodes)
    inputs, outputs = edges(graph, inside)
    used = dict.fromkeys(name for index in inside for name in reads(graph.nodes[index]))
    inner = onnx.helper.make_graph(
        [graph.nodes[index] for index in inside],
        "part",
        [_value(graph, name) for name in inputs],
        [_value(graph, name) for name in outputs],
        [graph.constants[name] for name in used if name in graph.constants],
    )
    model = onnx.helper.make_model(inner, opset_imports=graph.model.opset_import)
    model.ir_version = graph.model.ir_version
    return Part(model, inputs, outputs)


def _value(graph: Graph, name: str) -> onnx.ValueInfoProto:
    kind = graph.types.get(name, onnx.TensorProto.UNDEFINED)
    if kind == onnx.TensorProto.UNDEFINED:
        return onnx.ValueInfoProto(name=name)
    return onnx.helper.make_tensor_value_info(name, kind, graph.shapes.get(name))


class Running:
    """A part in a session of ONNX Runtime that reads and writes memory of others.

    Args:
        part: It.
        threads: Of the session.
    """

    def __init__(self, part: Part, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Idle threads would otherwise spin while the kernels of this package run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.part = part
        self._session = onnxruntime.InferenceSession(
            part.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._binding = self._session.io_binding()
        self._held: dict[str, object] = {}

    def bind_input(self, name: str, array: NDArray[np.generic]) -> None:
        """Read an array, which must stay as long as it is bound."""
        self._held[name] = array
        self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def bind_output(self, name: str, array: NDArray[np.generic]) -> None:
        """Write into an array, which must stay as long as it is bound."""
        self._held[name] = array
        self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def pass_on(self, values: Mapping[str, onnxruntime.OrtValue]) -> None:
        """Read values that other parts made."""
        for name, value in values.items():
            self._binding.bind_ortvalue_input(name, value)

    def open_output(self, name: str) -> None:
        """Let the session allocate what it makes under a name."""
        self._binding.bind_output(name, "cpu")

    def run(self) -> None:
        """Run once."""
        self._session.run_with_iobinding(self._binding)

    def outputs(self) -> dict[str, onnxruntime.OrtValue]:
        """Return what was made in the last run, by name."""
        # In the order of binding, which is that of the part's outputs.
        return dict(zip(self.part.outputs, self._binding.get_outputs(), strict=True))
