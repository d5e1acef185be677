"""The layers that kernels of this package can take, found in a graph with what follows them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from prunus_engine.reading import Graph, attributes

Kind = Literal["conv", "depthwise", "linear", "lstm", "pooling", "view"]
PRUNABLE = ("conv", "linear", "lstm")
"""Kinds of layers whose kernels leave zeros out."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, with the bias, sum and activation that follow it.

    Args:
        kind: Which kernel takes it; a view is no work at all.
        nodes: Indices of the nodes that it stands for, in order.
        x: What it reads.
        y: What it makes.
        residual: What is added before the activation, shaped like `y`; None for nothing.
        weight: (out, in) or (out, in per group * kernel); of an LSTM (4 * units, in + units), gates
            in ONNX's order; empty where there is none.
        bias: (out,); empty for none.
        numbers: For convolutions and pooling the geometry: batch, channels, height, width, kernel
            (2), strides (2), padding (top, left, bottom, right), dilations (2), groups; for linear
            layers the rows of the input; for an LSTM times, batch and inputs.
        activation: "none", "clip", "silu", "gelu" or "gelu_tanh".
        low: Of clip.
        high: Of clip.
        average: Of pooling: the average instead of the largest.
        count_padding: Of pooling: padding counts in an average.
    """

    kind: Kind
    nodes: tuple[int, ...]
    x: str
    y: str
    residual: str | None = None
    weight: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    bias: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    numbers: tuple[int, ...] = ()
    activation: str = "none"
    low: float = 0.0
    high: float = 0.0
    average: bool = False
    count_padding: bool = False

    @property
    def zeros(self) -> float:
        """The share of the weights that are zero."""
        return 1 - np.count_nonzero(self.weight) / max(1, self.weight.size)

    @property
    def images(self) -> int:
        """How many images it takes one by one; 1 where rows of a batch are taken together."""
        return self.numbers[0] if self.kind in ("conv", "depthwise", "pooling") else 1

    @property
    def reads(self) -> tuple[str, ...]:
        """What it reads."""
        return (self.x,) if self.residual is None else (self.x, self.residual)

    @property
    def shape(self) -> tuple[object, ...]:
        """What its time depends on besides where its zeros are."""
        return (
            *(self.kind, self.numbers, self.weight.shape, self.residual is not None),
            *(self.activation, bool(len(self.bias)), self.average),
        )


def one_image(layer: Layer) -> Layer:
    """Return a layer for one image, where it takes images one by one."""
    if layer.images == 1:
        return layer
    return replace(layer, numbers=(1, *layer.numbers[1:]))


def find(graph: Graph) -> list[Layer]:
    """Return the layers that kernels can take, no node in two of them, in the order of the graph.

    Of two layers whose outputs are added the later takes the sum, as the other is known then.
    """
    taken: set[int] = set()
    found = []
    for index in reversed(range(len(graph.nodes))):
        read = _READERS.get(graph.nodes[index].op_type)
        if index in taken or read is None or graph.nodes[index].domain not in ("", "ai.onnx"):
            continue
        layer = read(graph, index)
        if layer is None or not all(map(graph.is_float, (layer.x, layer.y))):
            continue
        if layer.kind in ("conv", "depthwise", "linear"):
            layer = _with_followers(graph, layer, taken)
        taken.update(layer.nodes)
        found.append(layer)
    return sorted(found, key=lambda layer: layer.nodes[-1])


def _conv(graph: Graph, index: int) -> Layer | None:
    node = graph.nodes[index]
    weight = graph.constant(node.input[1])
    has_bias = len(node.input) > 2 and bool(node.input[2])
    bias = graph.constant(node.input[2]) if has_bias else np.zeros(0, np.float32)
    if weight is None or bias is None or weight.dtype != np.float32 or weight.ndim not in (3, 4):
        return None
    if not graph.is_float(node.input[0]):
        return None
    settings = attributes(node)
    groups = int(settings.get("group", 1))
    numbers = _geometry(graph.shapes[node.input[0]], weight.shape[2:], settings, groups)
    if numbers is None:
        return None
    depthwise = weight.shape[1] == 1 and groups == numbers[1] > 1
    return Layer(
        kind="depthwise" if depthwise else "conv",
        nodes=(index,),
        x=node.input[0],
        y=node.output[0],
        weight=weight.reshape(len(weight), -1),
        bias=bias,
        numbers=numbers,
    )


def _geometry(
    shape: tuple[int, ...], kernel: tuple[int, ...], settings: Mapping[str, Any], groups: int
) -> tuple[int, ...] | None:
    """Return the numbers of a convolution or pooling; one over lines is one over flat images."""
    dims = len(kernel)
    if len(shape) != dims + 2:
        return None
    strides = list(settings.get("strides", [1] * dims))
    dilations = list(settings.get("dilations", [1] * dims))
    size = list(shape[2:])
    pads = _pads(size, list(kernel), strides, dilations, settings)
    before, after = pads[:dims], pads[dims:]
    if dims == 1:
        size, kernel = [1, *size], (1, *kernel)
        strides, dilations = [1, *strides], [1, *dilations]
        before, after = [0, *before], [0, *after]
    if min(*before, *after) < 0:
        return None
    return (*shape[:2], *size, *kernel, *strides, *before, *after, *dilations, groups)


def _pads(
    size: list[int],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    settings: Mapping[str, Any],
) -> list[int]:
    auto = settings.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return list(settings.get("pads", [0] * 2 * len(size)))
    if auto == "VALID":
        return [0] * 2 * len(size)
    every = zip(size, kernel, strides, dilations, strict=True)
    total = [max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n) for n, k, s, d in every]
    less, more = [n // 2 for n in total], [n - n // 2 for n in total]
    return less + more if auto == "SAME_UPPER" else more + less


def _gemm(graph: Graph, index: int) -> Layer | None:
    node = graph.nodes[index]
    settings = attributes(node)
    weight = graph.constant(node.input[1])
    if weight is None or weight.ndim != 2 or settings.get("transA", 0):
        return None
    weight = weight if settings.get("transB", 0) else weight.T
    bias: NDArray[Any] | None = np.zeros(0, np.float32)
    if len(node.input) > 2 and node.input[2]:
        bias = _per_output(graph, node.input[2], len(weight))
        if bias is None:
            return None
        bias = bias * np.float32(settings.get("beta", 1.0))
    weight = weight * np.float32(settings.get("alpha", 1.0))
    return _linear(graph, index, weight, bias)


def _matmul(graph: Graph, index: int) -> Layer | None:
    weight = graph.constant(graph.nodes[index].input[1])
    if weight is None or weight.ndim != 2:
        return None
    return _linear(graph, index, weight.T, np.zeros(0, np.float32))


def _linear(
    graph: Graph, index: int, weight: NDArray[Any], bias: NDArray[np.float32] | None
) -> Layer | None:
    node = graph.nodes[index]
    x = node.input[0]
    if bias is None or weight.dtype != np.float32 or not graph.is_float(x):
        return None
    shape = graph.shapes[x]
    if len(shape) < 2 or shape[-1] != weight.shape[1]:
        return None
    return Layer(
        kind="linear",
        nodes=(index,),
        x=x,
        y=node.output[0],
        weight=np.ascontiguousarray(weight),
        bias=bias,
        numbers=(math.prod(shape[:-1]),),
    )


def _per_output(graph: Graph, name: str, outputs: int) -> NDArray[np.float32] | None:
    """Return a constant as one number per output channel, if it is one in the last dimension."""
    value = graph.constant(name)
    if value is None or value.dtype != np.float32 or value.size not in (1, outputs):
        return None
    if value.ndim > 1 and value.shape[-1] != value.size:
        return None
    return np.ascontiguousarray(np.broadcast_to(value.reshape(-1), outputs))


def _pooling(graph: Graph, index: int) -> Layer | None:
    node = graph.nodes[index]
    settings = attributes(node)
    kernel = tuple(settings["kernel_shape"])
    x = node.input[0]
    if settings.get("ceil_mode", 0) or len(node.output) > 1 or not graph.is_float(x):
        return None
    if len(kernel) > 2 or settings.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    numbers = _geometry(graph.shapes[x], kernel, settings, 1)
    if numbers is None or numbers[8] >= numbers[4] or numbers[9] >= numbers[5]:
        return None
    return Layer(
        kind="pooling",
        nodes=(index,),
        x=x,
        y=node.output[0],
        numbers=numbers,
        average=node.op_type == "AveragePool",
        count_padding=bool(settings.get("count_include_pad", 0)),
    )


def _lstm(graph: Graph, index: int) -> Layer | None:
    """Take an LSTM in one direction from a state of zeros, of which all states are read."""
    node = graph.nodes[index]
    settings = attributes(node)
    given = [*node.input, *[""] * (8 - len(node.input))]
    values = {at: graph.constant(name) for at, name in enumerate(given) if name and at > 0}
    weight, recurrent = values.get(1), values.get(2)
    bias = values[3] if given[3] else np.zeros(2, np.float32)
    if weight is None or recurrent is None or bias is None or len(weight) != 1 or given[4]:
        return None
    plain = settings.get("direction", "forward") == "forward" and not settings.get("layout", 0)
    if not plain or {"activations", "clip"} & set(settings) or settings.get("input_forget", 0):
        return None
    states = [values[at] for at in (5, 6, 7) if given[at]]
    if any(state is None or state.any() for state in states):  # the last are peepholes
        return None
    if any(graph.readers[name] or name in graph.outputs for name in node.output[1:] if name):
        return None
    if not node.output[0] or not graph.is_float(given[0]) or weight.dtype != np.float32:
        return None
    halves = np.broadcast_to(bias.reshape(2, -1), (2, weight.shape[1]))  # of inputs and state
    return Layer(
        kind="lstm",
        nodes=(index,),
        x=given[0],
        y=node.output[0],
        weight=np.concatenate([weight[0], recurrent[0]], axis=1),
        bias=halves.sum(axis=0),
        numbers=graph.shapes[given[0]],
    )


def _view(graph: Graph, index: int) -> Layer | None:
    node = graph.nodes[index]
    constant = all(name in graph.constants for name in node.input[1:] if name)
    if not constant or node.input[0] in graph.constants:
        return None
    return Layer(kind="view", nodes=(index,), x=node.input[0], y=node.output[0])


def _with_followers(graph: Graph, layer: Layer, taken: set[int]) -> Layer:
    """Return a layer with the bias, sum and activation that alone read what it makes."""
    while True:
        longer = _activated(graph, layer)
        done = longer is not None
        if longer is None:
            longer = _added(graph, layer)
        if longer is None or taken & set(longer.nodes) or not graph.is_float(longer.y):
            return layer
        layer = longer
        if done:
            return layer


def _added(graph: Graph, layer: Layer) -> Layer | None:
    index = graph.only_reader(layer.y)
    if index is None or graph.nodes[index].op_type != "Add" or layer.residual is not None:
        return None
    node = graph.nodes[index]
    others = [name for name in node.input if name != layer.y]
    if len(others) != 1:
        return None
    (other,) = others
    y = node.output[0]
    if other in graph.constants:
        outputs = len(layer.weight)
        bias = _per_output(graph, other, outputs) if layer.kind == "linear" else None
        if bias is None or graph.shapes.get(y) != graph.shapes[layer.y]:
            return None
        whole = bias if not len(layer.bias) else layer.bias + bias
        return replace(layer, bias=whole, y=y, nodes=(*layer.nodes, index))
    same = graph.is_float(other) and graph.shapes[other] == graph.shapes[layer.y]
    return replace(layer, residual=other, y=y, nodes=(*layer.nodes, index)) if same else None


def _activated(graph: Graph, layer: Layer) -> Layer | None:
    index = graph.only_reader(layer.y)
    if index is None:
        return _silu(graph, layer)
    node = graph.nodes[index]
    longer = replace(layer, y=node.output[0], nodes=(*layer.nodes, index))
    if node.op_type == "Relu":
        return replace(longer, activation="clip", low=0.0, high=math.inf)
    if node.op_type == "Clip":
        low, high = (_bound(graph, node, at, otherwise) for at, otherwise in _BOUNDS)
        if low is None or high is None:
            return None
        return replace(longer, activation="clip", low=low, high=high)
    if node.op_type == "Gelu":
        tanh = attributes(node).get("approximate", "none") == "tanh"
        return replace(longer, activation="gelu_tanh" if tanh else "gelu")
    return None


_BOUNDS = ((1, -math.inf), (2, math.inf))


def _bound(graph: Graph, node: onnx.NodeProto, at: int, otherwise: float) -> float | None:
    if len(node.input) <= at or not node.input[at]:
        return otherwise
    value = graph.constant(node.input[at])
    return None if value is None else float(value)


def _silu(graph: Graph, layer: Layer) -> Layer | None:
    """Take x * sigmoid(x), where both read what the layer makes and nothing else does."""
    readers = graph.readers[layer.y]
    if len(readers) != 2 or layer.y in graph.outputs:
        return None
    nodes = {graph.nodes[index].op_type: (index, graph.nodes[index]) for index in readers}
    if set(nodes) != {"Sigmoid", "Mul"}:
        return None
    (first, sigmoid), (second, product) = nodes["Sigmoid"], nodes["Mul"]
    gate = sigmoid.output[0]
    if set(product.input) != {layer.y, gate} or graph.only_reader(gate) != second:
        return None
    return replace(
        layer, activation="silu", y=product.output[0], nodes=(*layer.nodes, first, second)
    )


_READERS = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "LSTM": _lstm,
    "MaxPool": _pooling,
    "AveragePool": _pooling,
    "Flatten": _view,
    "Reshape": _view,
    "Squeeze": _view,
    "Unsqueeze": _view,
}
