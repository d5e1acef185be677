"""A network's graph as the planner sees it: fixed shapes, constants folded, who reads what."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import onnxruntime
from numpy.typing import NDArray

Shape: TypeAlias = tuple[int, ...]


@dataclass
class Graph:
    """An ONNX graph whose inputs have fixed shapes.

    Attributes:
        model: It.
        nodes: Its nodes, each after those that it reads.
        constants: Name -> value, of initializers.
        shapes: Name -> shape, where it is known.
        types: Name -> element type, as ONNX numbers them.
        readers: Name -> the indices of nodes that read it.
        makers: Name -> the index of the node that makes it.
        inputs: Names of what the network takes.
        outputs: Names of what it returns.
    """

    model: onnx.ModelProto
    nodes: list[onnx.NodeProto]
    constants: dict[str, onnx.TensorProto]
    shapes: dict[str, Shape]
    types: dict[str, int]
    inputs: list[str]
    outputs: list[str]
    readers: dict[str, list[int]] = field(init=False)
    makers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.readers = defaultdict(list)
        self.makers = {}
        for index, node in enumerate(self.nodes):
            for name in dict.fromkeys(reads(node)):
                self.readers[name].append(index)
            for name in filter(None, node.output):
                self.makers[name] = index

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the value of a name if it is a constant."""
        found = self.constants.get(name)
        return None if found is None else onnx.numpy_helper.to_array(found)

    def is_float(self, name: str) -> bool:
        """Say whether a name is a float32 tensor of known shape, with at least one entry."""
        shape = self.shapes.get(name)
        return (
            self.types.get(name) == onnx.TensorProto.FLOAT and shape is not None and 0 not in shape
        )

    def only_reader(self, name: str) -> int | None:
        """Return the one node that reads a name that the network does not return."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, those that graphs inside of it take from outside too."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        inner = [attribute.g] if attribute.HasField("g") else []
        for graph in (*inner, *attribute.graphs):
            made = {value.name for value in (*graph.input, *graph.initializer)}
            made.update(name for one in graph.node for name in one.output)
            for one in graph.node:
                yield from (name for name in reads(one) if name not in made)
            yield from (value.name for value in graph.output if value.name not in made)


def read(path: Path, shapes: Mapping[str, Shape]) -> Graph:
    """Read an ONNX file for inputs of given shapes.

    ONNX Runtime's basic optimisations, all within ONNX, fold constants and batch normalisation.

    Args:
        path: The file.
        shapes: Name of an input -> its shape.

    Raises:
        ValueError: The shapes do not fit the inputs.
    """
    model = onnx.load(path)
    _fix(model.graph, shapes)
    with tempfile.TemporaryDirectory(prefix="prunus-engine-") as folder:
        source, target = Path(folder) / "fixed.onnx", Path(folder) / "folded.onnx"
        onnx.save(model, source)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        model = onnx.load(target)
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    graph = model.graph
    constants = {one.name: one for one in graph.initializer}
    found = Graph(
        model=model,
        nodes=list(graph.node),
        constants=constants,
        shapes={name: tuple(one.dims) for name, one in constants.items()},
        types={name: one.data_type for name, one in constants.items()},
        inputs=[value.name for value in graph.input if value.name not in constants],
        outputs=[value.name for value in graph.output],
    )
    for value in (*graph.value_info, *known.value_info, *known.input, *known.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type"):
            found.types[value.name] = tensor.elem_type
            dims = tensor.shape.dim
            if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
                found.shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return found


def _fix(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> None:
    constants = {one.name for one in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in constants}
    if set(shapes) != set(inputs):
        raise ValueError(
            f"shapes must be given for the inputs {', '.join(inputs)}; got {', '.join(shapes)}."
        )
    for name, value in inputs.items():
        dims = value.type.tensor_type.shape.dim
        wanted = shapes[name]
        fits = len(dims) == len(wanted) and all(
            not dim.HasField("dim_value") or dim.dim_value == size
            for dim, size in zip(dims, wanted, strict=True)
        )
        if not fits:
            has = ", ".join(dim.dim_param or str(dim.dim_value) for dim in dims)
            raise ValueError(f"input '{name}' has the shape ({has}), got {tuple(wanted)}.")
        for dim, size in zip(dims, wanted, strict=True):
            dim.dim_value = size
    # What was inferred for open sizes may contradict the fixed ones.
    del graph.value_info[:]
    for output in graph.output:
        for dim in output.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.ClearField("dim_param")


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name; text as str."""
    found = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}
