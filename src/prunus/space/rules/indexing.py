"""Reading by index: the dimensions that are indexed stay, the others pass through."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer

ORDERING = ("sort", "topk", "cumsum", "cumprod", "logcumsumexp", "flip", "roll", "cummax", "cummin")
"""Operations that compare, add up or move positions along a dimension."""

_REASON = "is read by index"


def index(tracer: Tracer, call: Call) -> None:
    """x[i, :, j] with tensors: indexed dimensions are replaced by those of the indices."""
    source, indices = call["self"], list(call["indices"])
    labels = tracer.of(source)
    indices += [None] * (source.ndim - len(indices))
    if any(i is not None and i.dtype in (torch.bool, torch.uint8) and i.ndim != 1 for i in indices):
        raise NotImplementedError
    used = [dim for dim, i in enumerate(indices) if i is not None]
    for dim in used:
        tracer.labels.freeze(labels[dim], _REASON)
    made = call.out.ndim - (source.ndim - len(used))
    fixed: list[Label] = [_REASON] * made
    given = [i for i in indices if i is not None]
    if len(given) == 1 and given[0].dtype not in (torch.bool, torch.uint8):
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


def index_select(tracer: Tracer, call: Call) -> None:
    """index_select, gather, take_along_dim and the like: one dimension is read by index."""
    source = call["self"]
    dim = call["dim"] % source.ndim
    labels = tracer.of(source)
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
    """x[i] = y: indexed dimensions stay, the last ones of the values meet those not indexed."""
    target, values = call["self"], call["values"]
    labels = tracer.of(target)
    rest = labels[len(call["indices"]) :]
    if any(i is None for i in call["indices"]) or values.ndim < len(rest):
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
    """sort, topk, cumsum, flip, roll: positions along one dimension depend on each other."""
    source = call["self"]
    labels = tracer.of(source)
    dims = call.arguments.get("dims", call.arguments.get("dim", -1))
    dims = [-1 if dims is None else dims] if not isinstance(dims, list | tuple) else dims
    for dim in dims or range(source.ndim):
        tracer.labels.freeze(labels[dim], f"is put in order by aten.{call.name}")
        labels[dim] = f"is put in order by aten.{call.name}"
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            tracer.assign(out, labels)


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
