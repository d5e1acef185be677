"""Operations that torch's exporter does not translate to ONNX by itself."""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import BOOL, FLOAT, INT64, opset18, script

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


def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Return scaled dot-product attention as products, of any number of leading dimensions.

    The operator that the exporter takes has two, and as many heads of keys as of queries.
    """
    rank = len(q.shape)
    if enable_gqa:
        k, v = (_repeated(x, q.shape[-3] // x.shape[-3]) for x in (k, v))
    keys = op.Transpose(k, perm=[*range(rank - 2), rank - 1, rank - 2])
    factor = op.CastLike(1 / q.shape[-1] ** 0.5 if scale is None else scale, q)
    scores = op.MatMul(op.Mul(q, factor), keys)
    if is_causal:
        mask = op.Cast(op.Trilu(op.Expand(1, op.Shape(scores, start=-2)), upper=0), to=BOOL.dtype)
    if mask is not None and (is_causal or mask.dtype == BOOL.dtype):
        scores = op.Where(mask, scores, op.CastLike(float("-inf"), q))
    elif mask is not None:
        scores = op.Add(scores, mask)
    shares = op.Softmax(scores, axis=-1)
    if mask is not None:  # a query that may look at nothing gives zeros, as PyTorch's do
        nothing = op.IsInf(op.ReduceMax(scores, [-1], keepdims=1), detect_positive=0)
        shares = op.Where(nothing, op.CastLike(0.0, q), shares)
    return op.MatMul(shares, v)


def _repeated(x: Any, times: int) -> Any:
    """Repeat each head, the third dimension from the end."""
    rank = len(x.shape)
    several = op.Expand(op.Unsqueeze(x, [rank - 2]), [1] * (rank - 2) + [times, 1, 1])
    leading, trailing = op.Shape(x, end=rank - 3), op.Shape(x, start=rank - 2)
    return op.Reshape(several, op.Concat(leading, [-1], trailing, axis=0))


def table(*, products: bool = False) -> dict[Any, Callable[..., Any]]:
    """Return the translations of the operations that there are in this process.

    Args:
        products: Write attention as products, too.
    """
    found: dict[Any, Callable[..., Any]] = {torch.ops.aten._cdist_forward.default: distances}
    if products:
        found[torch.ops.aten.scaled_dot_product_attention.default] = attention
    if hasattr(torch.ops.transformers, "grouped_mm_fallback"):  # of Hugging Face, if imported
        found[torch.ops.transformers.grouped_mm_fallback.default] = grouped_products
    return found
