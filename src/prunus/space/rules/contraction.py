"""Products that sum over channels: convolutions and matrix products."""

from math import prod
from typing import Any

import numpy as np
from torch import Tensor

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer


def convolution(tracer: Tracer, call: Call) -> None:
    """Any convolution: plain, grouped, depthwise, transposed, of one to three dimensions.

    With several groups the same position of every group is tied, so that all groups keep the same
    width; or, where the tracer follows whole groups, all positions of one. A depthwise channel is
    tied to the channel it reads.
    """
    x, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
    join = tracer.labels.join
    channels, w = tracer.of(x)[1], tracer.of(weight)
    out, into = (w[1], w[0]) if call["transposed"] else (w[0], w[1])
    out_dim = 1 if call["transposed"] else 0
    alone = groups > 1 and groups == x.shape[1]  # depthwise
    if groups == 1:
        join(channels, into)
        made = out
    elif call["transposed"]:
        join(channels, into)
        made = _grouped_transposed(tracer, into, out, groups, weight.shape[1])
    elif alone or tracer.whole_groups:
        made = out
        _tie_inside(tracer, channels, groups)
        join(_table(out, groups), _firsts(channels, groups))
        tracer.labels.freeze(into, _INSIDE)
    else:
        made = out
        _tie(tracer, out, groups)
        _tie(tracer, channels, groups)
        join(_table(channels, groups), into)
    whole = alone or (groups > 1 and tracer.whole_groups)
    makes = 0 if whole else out_dim
    if whole and not alone:
        tracer.grouped.append(made)
    if bias is not None:
        join(tracer.of(bias)[0], made)
    for kernel in w[2:]:
        tracer.labels.freeze(kernel, "is a position inside a convolution kernel")
    pixels = prod((x if call["transposed"] else call.out).shape[2:]) * call.out.shape[0]
    origin = tracer.origin(weight)
    if not alone:  # a depthwise layer passes on the channels it reads
        tracer.produce(weight, makes, prod(call.out.shape[2:]) * call.out.shape[0])
    tracer.spend(
        origin[0][0] if origin and origin[0] else "convolution",
        pixels * prod(weight.shape[2:]),
        list(zip(w[:2], weight.shape[:2], strict=True)),
    )
    for label in tracer.of(x)[2:]:
        tracer.labels.freeze(label, "is a spatial position")
    spatial: list[Label] = ["is a spatial position"] * (call.out.ndim - 2)
    tracer.assign(call.out, [tracer.of(x)[0], made, *spatial])
    into_dim = 0 if call["transposed"] else 1
    if not whole:
        tracer.read(weight, into_dim)
        if not (tracer.is_zero(x, 1) or tracer.is_zero(weight, into_dim)):
            tracer.labels.freeze(channels, "is summed over in a product of activations")
    zeros = tracer.is_zero(weight, makes) or (whole and tracer.is_zero(x, 1))
    zero = {1} if zeros else set()
    if bias is not None:
        zero = zero if tracer.is_zero(bias) else set()
    elif tracer.is_zero(x, 0):
        zero |= {0}
    tracer.set_zero(call.out, zero)


def _table(label: Label, groups: int) -> Label:
    """View a label as (groups, width of a group)."""
    return label if isinstance(label, str) else label.reshape(groups, -1)


def _firsts(label: Label, groups: int) -> Label:
    """Return the first position of every group, as a column."""
    table = _table(label, groups)
    return table if isinstance(table, str) else table[:, :1]


def _tie(tracer: Tracer, label: Label, groups: int) -> None:
    """Join the same position of every group."""
    table = _table(label, groups)
    if not isinstance(table, str):
        tracer.labels.join(table, table[:1])


def _tie_inside(tracer: Tracer, label: Label, groups: int) -> None:
    """Join all positions of each group."""
    tracer.labels.join(_table(label, groups), _firsts(label, groups))


def _grouped_transposed(tracer: Tracer, into: Label, out: Label, groups: int, width: int) -> Label:
    """Weight (in, out / groups): each group's outputs share the weight's second dimension."""
    if isinstance(into, str):
        return out if isinstance(out, str) else np.tile(out, groups)
    if len(into) > groups and not tracer.whole_groups:
        _tie(tracer, into, groups)
        return out if isinstance(out, str) else np.tile(out, groups)
    tracer.labels.freeze(out, _INSIDE)
    _tie_inside(tracer, into, groups)
    return np.repeat(into.reshape(groups, -1)[:, 0], width)


_INSIDE = "is one of several positions inside a group"


def matrix_product(tracer: Tracer, call: Call) -> None:
    """mm, bmm and their forms with an added bias: (..., m, k) times (..., k, n)."""
    arguments = call.arguments
    a, b = (
        (arguments["mat1"], arguments["mat2"])
        if "mat1" in arguments
        else (arguments["batch1"], arguments["batch2"])
        if "batch1" in arguments
        else (arguments["self"], arguments["mat2"])
    )
    join = tracer.labels.join
    left, right = tracer.of(a), tracer.of(b)
    join(left[-1], right[-2])
    static = [tracer.origin(operand) is not None for operand in (a, b)]
    zero = {a.ndim - 2} if tracer.is_zero(a, -2) else set()
    zero |= {a.ndim - 1} if tracer.is_zero(b, -1) else set()
    zero |= {k for k in range(a.ndim - 2) if tracer.is_zero(a, k) or tracer.is_zero(b, k)}
    _contracted(tracer, a, b, left[-1], right[-2])
    if not any(static):
        tracer.labels.yield_to_others(left[-1])
    batch: list[Label] = []
    for first, second in zip(left[:-2], right[:-2], strict=True):
        join(first, second)
        batch.append(second if isinstance(first, str) else first)
    labels = [*batch, left[-2], right[-1]]
    if "mat1" in arguments or "batch1" in arguments:
        added = arguments["self"]
        for back in range(1, added.ndim + 1):
            if added.shape[-back] == call.out.shape[-back]:
                join(tracer.of(added)[-back], labels[-back])
        ahead = call.out.ndim - added.ndim
        zero &= {
            k + ahead for k in tracer.zero(added) if added.shape[k] == call.out.shape[k + ahead]
        }
    name = "matrix product"
    if all(static):  # a factored weight: what is between its factors
        tracer.produce(b, -2, 1)
    for operand, dim, positions in ((a, -2, b.shape[-1]), (b, -1, a.shape[-2])):
        if not all(static):
            tracer.produce(operand, dim, positions * prod(call.out.shape[:-2]))
        slots = [slot for slot in tracer.origin(operand) or () if slot is not None]
        name = next((slot for slot, _ in slots if slot in tracer.parameters), name)
    sizes = [*call.out.shape[:-2], a.shape[-2], a.shape[-1], b.shape[-1]]
    contracted = right[-2] if isinstance(left[-1], str) else left[-1]
    tracer.spend(name, 1, list(zip([*batch, left[-2], contracted, right[-1]], sizes, strict=True)))
    tracer.assign(call.out, labels)
    tracer.set_zero(call.out, zero)
    _note_origin(tracer, call, (a, b), (0, -2), (1, -1))


def embedding(tracer: Tracer, call: Call) -> None:
    """A lookup is a product with one-hot rows: entries are frozen, features are made."""
    entries, features = tracer.of(call["weight"])
    tracer.labels.freeze(entries, "is an entry of an embedding")
    tracer.produce(call["weight"], 1, call["indices"].numel())
    tracer.look_up(call["weight"], call["indices"].numel())
    if tracer.is_zero(call["weight"], 1):
        tracer.set_zero(call.out, [call.out.ndim - 1])
    tracer.assign(call.out, [*tracer.of(call["indices"]), features])


def embedding_bag(tracer: Tracer, call: Call) -> None:
    """A sum, mean or maximum of looked-up rows, feature by feature."""
    entries, features = tracer.of(call["weight"])
    tracer.labels.freeze(entries, "is an entry of an embedding")
    tracer.produce(call["weight"], 1, call["indices"].numel())
    tracer.look_up(call["weight"], call["indices"].numel())
    found, *others = call.out
    for other in others:
        tracer.assign(other, ["is a place in a bag"] * other.ndim)
    if tracer.is_zero(call["weight"], 1):
        tracer.set_zero(found, [1])
    tracer.assign(found, ["is a bag", features])


def grouped_product(tracer: Tracer, call: Call) -> None:
    """_grouped_mm: rows (t, k) times the matrix (k, n) of the expert each belongs to, (e, k, n)."""
    rows, experts = call["self"], call["mat2"]
    left, right = tracer.of(rows), tracer.of(experts)
    tracer.labels.join(left[-1], right[-2])
    tracer.labels.freeze(right[0], "is an expert")
    origin = tracer.origin(experts)
    tracer.produce(experts, -1, rows.shape[0])
    _contracted(tracer, rows, experts, left[-1], right[-2])
    tracer.set_zero(call.out, [1] if tracer.is_zero(experts, -1) else [])
    name = origin[-1][0] if origin and origin[-1] else "grouped product"
    sizes = zip((left[-1], right[-1]), experts.shape[-2:], strict=True)
    tracer.spend(name, rows.shape[0], list(sizes))
    tracer.assign(call.out, [left[0], right[-1]])


def matrix_vector(tracer: Tracer, call: Call) -> None:
    """mv: (m, k) times (k,)."""
    matrix, vector = call["self"], call["vec"]
    rows, columns = tracer.of(matrix)
    tracer.labels.join(columns, tracer.of(vector)[0])
    _contracted(tracer, matrix, vector, columns, tracer.of(vector)[0])
    tracer.set_zero(call.out, [0] if tracer.is_zero(matrix, 0) else [])
    tracer.assign(call.out, [rows])
    _note_origin(tracer, call, (matrix, vector), (0, 0))


def dot(tracer: Tracer, call: Call) -> None:
    """dot, vdot: the sum of the products of two vectors."""
    first, second = call.tensors
    label = tracer.of(first)[0]
    tracer.labels.join(label, tracer.of(second)[0])
    _contracted(tracer, first, second, label, tracer.of(second)[0])
    tracer.assign(call.out, [])
    _note_origin(tracer, call, (first, second))


def distance(tracer: Tracer, call: Call) -> None:
    """cdist: distances between the rows of two matrices, (..., p, k) and (..., r, k)."""
    first, second = call["x1"], call["x2"]
    a, b = tracer.of(first), tracer.of(second)
    tracer.labels.join(a[-1], b[-1])
    if not (tracer.is_zero(first, -1) and tracer.is_zero(second, -1)):
        tracer.labels.freeze(a[-1], "is summed over in a distance")
    for x, y in zip(a[:-2], b[:-2], strict=True):
        tracer.labels.join(x, y)
    tracer.ends.append(a[-1])
    tracer.assign(call.out, [*a[:-2], a[-2], b[-2]])
    for operand in (first, second):
        tracer.produce(operand, -2, call.out.numel() // operand.shape[-2])


def _contracted(tracer: Tracer, first: Tensor, second: Tensor, left: Label, right: Label) -> None:
    """Keep what is summed over, unless one of the factors is zero wherever something is removed."""
    inner = -2 if second.ndim > 1 else 0
    if tracer.origin(first) is None:
        tracer.read(second, inner)
    else:
        tracer.read(first, -1)
    if not (tracer.is_zero(first, -1) or tracer.is_zero(second, inner)):
        for label in (left, right):
            tracer.labels.freeze(label, "is summed over in a product of activations")


def _note_origin(
    tracer: Tracer, call: Call, operands: tuple[Tensor, Tensor], *left: tuple[int, int]
) -> None:
    """A product of parameters is a parameter still.

    Args:
        tracer: Is told.
        call: The product.
        operands: Its factors.
        left: What is not summed over, as (operand, dimension).
    """
    first, second = map(tracer.origin, operands)
    if first is not None and second is not None:
        slots = [(first, second)[which][dim] for which, dim in left]
        tracer.set_origin(call.out, [*[None] * (call.out.ndim - len(slots)), *slots])


def bilinear(
    tracer: Tracer, out: Tensor, first: Tensor, second: Tensor, weight: Tensor, bias: Any = None
) -> None:
    """x1 W x2 with W (out, in1, in2)."""
    made, left, right = tracer.of(weight)
    tracer.labels.join(left, tracer.of(first)[-1])
    tracer.labels.join(right, tracer.of(second)[-1])
    if bias is not None:
        tracer.labels.join(tracer.of(bias)[0], made)
    rows = out.numel() // out.shape[-1]
    origin = tracer.origin(weight)
    tracer.produce(weight, 0, rows)
    for k, operand in ((1, first), (2, second)):
        tracer.read(weight, k)
        if not (tracer.is_zero(weight, k) or tracer.is_zero(operand, -1)):
            tracer.labels.freeze(tracer.of(weight)[k], "is summed over in a product of activations")
    for one, other in zip(tracer.of(first)[:-1], tracer.of(second)[:-1], strict=True):
        tracer.labels.join(one, other)
    if tracer.is_zero(weight, 0) and (bias is None or tracer.is_zero(bias)):
        tracer.set_zero(out, [out.ndim - 1])
    name = origin[0][0] if origin and origin[0] else "bilinear"
    tracer.spend(name, rows, list(zip(tracer.of(weight), weight.shape, strict=True)))
    tracer.assign(out, [*tracer.of(first)[:-1], made])


FUNCTIONS = {"bilinear": bilinear}
