"""Operations that torch's exporter does not translate to ONNX by itself."""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import FLOAT, INT64, opset18, script

op: Any = opset18


@script(default_opset=op)
def grouped_products(x: FLOAT, weight: FLOAT, ends: INT64) -> FLOAT:
    """Multiply groups of rows by a matrix each, as the experts of a mixture do.

    Args:
        x: (rows, in), those of a group next to each other.
        weight: (groups, in, out).
        ends: (groups,): where each group of rows ends.
    """
    rows = op.Cast(ends, to=7)
    begin = op.Constant(value_ints=[0])
    products = op.SequenceEmpty()
    for k in range(op.Size(rows)):
        end = op.Gather(rows, op.Reshape(k, [1]))
        product = op.MatMul(op.Slice(x, begin, end, [0]), op.Gather(weight, k))
        products = op.SequenceInsert(products, product)
        begin = op.Identity(end)
    return op.ConcatFromSequence(products, axis=0)  # type: ignore[no-any-return]


def distances(x: Any, y: Any, p: float, mode: int | None = None) -> Any:
    """Return the distance of each row of `x` (..., m, n) to each of `y` (..., k, n)."""
    if p not in (1.0, 2.0):
        raise NotImplementedError(f"distances of order {p:g} have no operator in ONNX")
    differences = op.Sub(op.Unsqueeze(x, [-2]), op.Unsqueeze(y, [-3]))
    reduce = op.ReduceL1 if p == 1 else op.ReduceL2
    return reduce(differences, [-1], keepdims=0)


def table() -> dict[Any, Callable[..., Any]]:
    """Return the translations of the operations that there are in this process."""
    found: dict[Any, Callable[..., Any]] = {torch.ops.aten._cdist_forward.default: distances}
    if hasattr(torch.ops.transformers, "grouped_mm_fallback"):  # of Hugging Face, if imported
        found[torch.ops.transformers.grouped_mm_fallback.default] = grouped_products
    return found
