"""Products that sum over channels: convolutions and matrix products."""

from math import prod

import numpy as np

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer


def convolution(tracer: Tracer, call: Call) -> None:
    """Any convolution: plain, grouped, depthwise, transposed, of one to three dimensions.

    With several groups the same position of every group is tied, so that all groups keep the same
    width; a depthwise channel is tied to the channel it reads.
    """
    x, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
    join = tracer.labels.join
    channels, w = tracer.of(x)[1], tracer.of(weight)
    out, into = (w[1], w[0]) if call["transposed"] else (w[0], w[1])
    out_dim = 1 if call["transposed"] else 0
    if groups == 1:
        join(channels, into)
        made = out
    elif call["transposed"]:
        join(channels, into)
        made = _grouped_transposed(tracer, into, out, groups, weight.shape[1])
    elif weight.shape[1] == 1:
        made = out
        join(_table(out, groups), channels if isinstance(channels, str) else channels[:, None])
    else:
        made = out
        _tie(tracer, out, groups)
        _tie(tracer, channels, groups)
        join(_table(channels, groups), into)
    if bias is not None:
        join(tracer.of(bias)[0], made)
    for kernel in w[2:]:
        tracer.labels.freeze(kernel, "is a position inside a convolution kernel")
    pixels = prod((x if call["transposed"] else call.out).shape[2:]) * call.out.shape[0]
    origin = tracer.origin(weight)
    depthwise = groups > 1 and groups == x.shape[1]
    if origin is not None and not depthwise:  # a depthwise layer passes on the channels it reads
        tracer.produce(origin[out_dim], prod(call.out.shape[2:]) * call.out.shape[0])
    tracer.spend(
        origin[0][0] if origin and origin[0] else "convolution",
        pixels * prod(weight.shape[2:]),
        list(zip(w[:2], weight.shape[:2], strict=True)),
    )
    spatial: list[Label] = ["is a spatial position"] * (call.out.ndim - 2)
    tracer.assign(call.out, [tracer.of(x)[0], made, *spatial])


def _table(label: Label, groups: int) -> Label:
    """View a label as (groups, width of a group)."""
    return label if isinstance(label, str) else label.reshape(groups, -1)


def _tie(tracer: Tracer, label: Label, groups: int) -> None:
    """Join the same position of every group."""
    if not isinstance(label, str):
        table = label.reshape(groups, -1)
        tracer.labels.join(table, table[:1])


def _grouped_transposed(tracer: Tracer, into: Label, out: Label, groups: int, width: int) -> Label:
    """Weight (in, out / groups): each group's outputs share the weight's second dimension."""
    if isinstance(into, str) or len(into) > groups:
        _tie(tracer, into, groups)
        return out if isinstance(out, str) else np.tile(out, groups)
    tracer.labels.freeze(out, "is one of several outputs of each channel")
    return np.repeat(into, width)


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
    name = "matrix product"
    for operand, dim, positions in ((a, -2, b.shape[-1]), (b, -1, a.shape[-2])):
        origin = tracer.origin(operand)
        if origin is not None and origin[dim] is not None:
            slot = origin[dim]
            tracer.produce(slot, positions * prod(call.out.shape[:-2]))
            name = slot[0] if slot and slot[0] in tracer.parameters else name
    sizes = [*call.out.shape[:-2], a.shape[-2], a.shape[-1], b.shape[-1]]
    contracted = right[-2] if isinstance(left[-1], str) else left[-1]
    tracer.spend(name, 1, list(zip([*batch, left[-2], contracted, right[-1]], sizes, strict=True)))
    tracer.assign(call.out, labels)


def embedding(tracer: Tracer, call: Call) -> None:
    """A lookup is a product with one-hot rows: entries are frozen, features are made."""
    entries, features = tracer.of(call["weight"])
    tracer.labels.freeze(entries, "is an entry of an embedding")
    origin = tracer.origin(call["weight"])
    if origin is not None:
        tracer.produce(origin[1], call["indices"].numel())
    tracer.assign(call.out, [*tracer.of(call["indices"]), features])
