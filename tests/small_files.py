"""Small ONNX files made by hand, since torch's exporter takes seconds."""

from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(path, nodes, inputs, output, weights=()):
    """Write a graph with named weights; shapes may have a name for an open size."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def matmuls(path, count, batch="n", width=256):
    """Write a chain of `count` square matrix products, so that time is known to be linear in it."""
    weight = np.full((width, width), 0.01, np.float32)
    names = ["x", *(f"h{i}" for i in range(count))]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
    shape = (batch, width)
    return save(path, nodes, [("x", shape)], (names[-1], shape), [("w", weight)])


def perceptron(path, batch="n", sizes=(8, 32, 5), scale=1.0):
    """Write two linear layers with a ReLU between; the first output channel is times `scale`."""
    generator = np.random.default_rng(0)
    a, b = (
        generator.standard_normal(shape).astype(np.float32) / shape[0] ** 0.5
        for shape in pairwise(sizes)
    )
    b[:, 0] *= scale
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    ends = [("x", (batch, sizes[0]))], ("y", (batch, sizes[-1]))
    return save(path, nodes, *ends, [("a", a), ("b", b)])
