"""Reading by index: the dimensions that are indexed stay, the others pass through."""

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer

ORDERING = ("sort", "topk", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
"""Operations that compare or add up positions along a dimension."""

FOURIER = ("_fft_c2c", "_fft_r2c", "_fft_c2r")
"""Transforms along some dimensions: each value there is made of all others."""

_REASON = "is read by index"


def index(tracer: Tracer, call: Call) -> None:
    """x[i, :, j] with tensors: indexed dimensions are replaced by those of the indices."""
    source, indices = call["self"], list(call["indices"])
    labels = tracer.of(source)
    indices += [None] * (source.ndim - len(indices))
    if any(i is not None and i.dtype in (torch.bool, torch.uint8) and i.ndim != 1 for i in indices):
        raise NotImplementedError
    used = [dim for dim, i in enumerate(indices) if i is not None]
    picked = _picked(tracer, labels[used[0]], indices[used[0]]) if len(used) == 1 else None
    for dim in used if picked is None else ():
        tracer.labels.freeze(labels[dim], _REASON)
    made = call.out.ndim - (source.ndim - len(used))
    fixed: list[Label] = [_REASON] * made
    given = [i for i in indices if i is not None]
    if picked is not None:
        fixed = [picked]
    elif len(given) == 1 and given[0].dtype not in (torch.bool, torch.uint8):
        fixed = tracer.of(given[0])  # a row for each index
    else:
        for i in given:
            for label in tracer.of(i):
                tracer.labels.freeze(label, "is an index")
    rest = [label for dim, label in enumerate(labels) if dim not in used]
    together = used == list(range(used[0], used[-1] + 1))
    at = used[0] if together else 0
    tracer.assign(call.out, [*rest[:at], *fixed, *rest[at:]])
    origin = tracer.origin(source)
    if origin is not None:
        left = [slot for dim, slot in enumerate(origin) if dim not in used]
        tracer.set_origin(call.out, [*left[:at], *[None] * made, *left[at:]])


def _picked(tracer: Tracer, label: Label, places: Tensor) -> Label | None:
    """Return the label of positions read by an index that the model holds; a graph has its own."""
    values = tracer.constant_index(places)
    if values is None or isinstance(label, str):
        return None
    for own in tracer.of(places):
        tracer.labels.freeze(own, "is an index")
    picked: Label = label[values]
    return picked


def index_select(tracer: Tracer, call: Call) -> None:
    """index_select, gather, take_along_dim and the like: one dimension is read by index."""
    source = call["self"]
    dim = call["dim"] % source.ndim
    labels = tracer.of(source)
    if call.name != "gather":
        picked = _picked(tracer, labels[dim], call["index"])
        if picked is not None:
            tracer.assign(call.out, [*labels[:dim], picked, *labels[dim + 1 :]])
            return
    tracer.labels.freeze(labels[dim], _REASON)
    rows = tracer.of(call["index"])
    labels[dim] = rows[dim if call.name == "gather" else 0] if rows else _REASON
    if call.name == "gather":
        for k, label in enumerate(rows):
            if k != dim and call["index"].shape[k] == source.shape[k]:
                tracer.labels.join(labels[k], label)
            elif k != dim:
                tracer.labels.freeze(labels[k], _REASON)
                labels[k] = _REASON
    tracer.assign(call.out, labels)


def index_put(tracer: Tracer, call: Call) -> None:
    """x[i] = y: indexed dimensions stay, the last ones of the values meet those not indexed.

    Along dimensions that the values lack, all positions get the same.
    """
    target, values = call["self"], call["values"]
    labels = tracer.of(target)
    rest = labels[len(call["indices"]) :]
    masks = [i is not None and i.dtype in (torch.bool, torch.uint8) for i in call["indices"]]
    if any(masks) and _put_where(tracer, call):
        return
    mixed = any(m and i.ndim != 1 for m, i in zip(masks, call["indices"], strict=True))
    if mixed or any(i is None for i in call["indices"]):
        raise NotImplementedError
    for dim, i in enumerate(call["indices"]):
        for label in (labels[dim], *tracer.of(i)):
            tracer.labels.freeze(label, _REASON)
        labels[dim] = _REASON
    for k, other in enumerate(reversed(tracer.of(values))):
        if k < len(rest):
            tracer.labels.join(rest[-1 - k], other)
        else:
            tracer.labels.freeze(other, _REASON)
    tracer.assign(call.out, labels)


def _put_where(tracer: Tracer, call: Call) -> bool:
    """x[mask] = y where all chosen positions get the same of y: each is written by itself.

    Slices may stand before the mask; what it does not cover, the values may have too.

    Returns:
        Whether it is so; otherwise which value is whose depends on how many were chosen before.
    """
    *ahead, mask = call["indices"]
    target, values = call["self"], call["values"]
    first, behind = len(ahead), target.ndim - len(ahead) - mask.ndim
    chosen = values.ndim - 1 - behind  # the dimension of the values over those that were chosen
    if any(i is not None for i in ahead) or (chosen >= 0 and values.shape[chosen] != 1):
        return False
    labels = tracer.of(target)
    for dim, label in enumerate(tracer.of(mask), start=first):
        tracer.labels.join(labels[dim], label)
    for dim, label in enumerate(tracer.of(values)):
        at = dim - chosen + (first if dim < chosen else first + mask.ndim - 1)
        if dim != chosen and values.shape[dim] == target.shape[at]:
            tracer.labels.join(labels[at], label)
        else:
            tracer.labels.freeze(label, "is broadcast over others")
    tracer.assign(call.out, labels)
    return True


def index_fill(tracer: Tracer, call: Call) -> None:
    """Write one value at places along a dimension, which stays."""
    labels = tracer.of(call["self"])
    for label in (*labels[call["dim"] :][:1], *tracer.of(call["index"])):
        tracer.labels.freeze(label, "is written by index")
    if labels:
        labels[call["dim"]] = "is written by index"
    tracer.assign(call.out, labels)


def scatter(tracer: Tracer, call: Call) -> None:
    """scatter, scatter_add, index_add: values are written along one dimension by index."""
    target = call["self"]
    dim = call["dim"] % target.ndim
    labels = tracer.of(target)
    for tensor in call.tensors:
        for k, label in enumerate(tracer.of(tensor)):
            if k == dim or tensor.ndim != target.ndim or tensor.shape[k] != target.shape[k]:
                tracer.labels.freeze(label, "is written by index")
            else:
                tracer.labels.join(labels[k], label)
                labels[k] = label if isinstance(labels[k], str) else labels[k]
    labels[dim] = "is written by index"
    tracer.assign(call.out, labels)


def ordered(tracer: Tracer, call: Call) -> None:
    """sort, topk, cumsum, transforms: positions along one dimension depend on each other."""
    source = call["self"]
    labels = tracer.of(source)
    dims = call.arguments.get("dims", call.arguments.get("dim", -1))
    dims = [-1 if dims is None else dims] if not isinstance(dims, list | tuple) else dims
    done = "transformed" if call.name in FOURIER else "put in order"
    for dim in dims or range(source.ndim):
        tracer.labels.freeze(labels[dim], f"is {done} by aten.{call.name}")
        labels[dim] = f"is {done} by aten.{call.name}"
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            tracer.assign(out, labels)


def roll(tracer: Tracer, call: Call) -> None:
    """Move positions around the end of a dimension; a graph moves as many as stay."""
    labels = tracer.of(call["self"])
    if not call["dims"]:  # all dimensions as one
        raise NotImplementedError
    for dim, shift in zip(call["dims"], call["shifts"], strict=True):
        label = labels[dim]
        labels[dim] = label if isinstance(label, str) else np.roll(label, shift)
    tracer.assign(call.out, labels)


def flip(tracer: Tracer, call: Call) -> None:
    """Put the last position first."""
    labels = tracer.of(call["self"])
    for dim in call["dims"]:
        label = labels[dim]
        labels[dim] = label if isinstance(label, str) else label[::-1].copy()
    tracer.assign(call.out, labels)


def masked_scatter(tracer: Tracer, call: Call) -> None:
    """Fill whole rows, chosen by a mask that is the same for all columns, with rows of another."""
    target, mask, source = call["self"], call["mask"], call["source"]
    if not mask.ndim or not source.ndim or mask.stride(-1) or source.shape[-1] != target.shape[-1]:
        raise NotImplementedError
    labels = tracer.of(target)
    for tensor in call.tensors:
        *rows, columns = tracer.of(tensor)
        tracer.labels.join(labels[-1], columns)
        for label in rows:
            tracer.labels.freeze(label, "is written by a mask")
    fixed: list[Label] = ["is written by a mask"] * (target.ndim - 1)
    tracer.assign(call.out, [*fixed, labels[-1]])


def same(tracer: Tracer, call: Call) -> None:
    """tril, triu: a mask over the last two dimensions."""
    labels = tracer.of(call["self"])
    for label in labels[-2:]:
        tracer.labels.freeze(label, f"is masked by position in aten.{call.name}")
    tracer.assign(call.out, labels)


def diagonal(tracer: Tracer, call: Call) -> None:
    """Two dimensions become one, of positions with equal coordinates."""
    labels = tracer.of(call["self"])
    for dim in (call["dim1"], call["dim2"]):
        tracer.labels.freeze(labels[dim], "has its diagonal taken")
    gone = {dim % call["self"].ndim for dim in (call["dim1"], call["dim2"])}
    rest: list[Label] = [label for dim, label in enumerate(labels) if dim not in gone]
    tracer.assign(call.out, [*rest, "is a diagonal"])


def unfold(tracer: Tracer, call: Call) -> None:
    """Tensor.unfold: windows along one dimension, put into a new last one."""
    labels = tracer.of(call["self"])
    dim = call["dimension"] % max(1, len(labels))
    tracer.labels.freeze(labels[dim], "is cut into windows")
    labels[dim] = "is cut into windows"
    tracer.assign(call.out, [*labels, "is a position in a window"])
