"""Normalisations: batch norm passes channels through, the others may mix them."""

from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.tracer import Call, Tracer


def batch_norm(tracer: Tracer, call: Call) -> None:
    """One scale, shift, mean and variance per channel of dimension 1.

    With statistics of the input itself (a standardised weight is written so), the other dimensions
    are inside them.
    """
    labels = tracer.of(call["input"])
    own = call.arguments.get("training") or call.arguments.get("running_mean") is None
    averaged = [dim for dim in range(len(labels)) if dim != 1 and own]
    tracer.average(call, averaged, "is inside the statistics of a batch norm")
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = call.arguments.get(name)
        if tensor is not None:
            tracer.labels.join(tracer.of(tensor)[0], labels[1])
    weight = call.arguments.get("weight")
    source = tracer.origin(weight) if weight is not None else None
    if source and source[0]:
        tracer.scales.add(source[0][0])
    first, *statistics = [leaf for leaf in call.out if isinstance(leaf, Tensor)]
    tracer.assign(first, labels)
    origin = tracer.origin(call["input"])
    if origin is not None:
        tracer.set_origin(first, origin)
    if call.arguments.get("weight") is not None or tracer.is_zero(call["input"], 1):
        tracer.set_zero(first, [1])
    for tensor in statistics:
        if tensor.ndim == 1 and tensor.numel() == first.shape[1]:
            tracer.assign(tensor, [labels[1]])


def layer_norm(tracer: Tracer, call: Call) -> None:
    """Statistics over the last dimensions would change if one of their channels went."""
    labels = tracer.of(call["input"])
    last = range(len(labels) - len(call["normalized_shape"]), len(labels))
    tracer.average(call, last, "is inside the statistics of a layer norm")
    _affine(tracer, call, list(range(-len(call["normalized_shape"]), 0)))
    tracer.assign(call.out[0], labels)


def group_norm(tracer: Tracer, call: Call) -> None:
    """Statistics over each group of channels: whole groups may go, nothing smaller.

    Without exactness every group loses the same channels instead.
    """
    labels = tracer.of(call["input"])
    channels = labels[1]
    if not isinstance(channels, str) and call["group"] < len(channels):
        table = channels.reshape(call["group"], -1)
        tracer.labels.join(table, table[:, :1] if tracer.exact else table[:1])
    for label in labels[2:]:
        tracer.labels.freeze(label, "is inside the statistics of a group norm")
    if not tracer.exact:
        tracer.ends.append(channels)
    tracer.averages.append((call.name, {} if tracer.exact else {1: channels}))
    _affine(tracer, call, [1])
    tracer.assign(call.out[0], labels)


def rms_norm(tracer: Tracer, call: Call) -> None:
    """Divides by the root mean square over the last dimensions, so they stay."""
    labels = tracer.of(call["input"])
    last = range(len(labels) - len(call["normalized_shape"]), len(labels))
    tracer.average(call, last, "is inside the statistics of an RMS norm")
    if call.arguments.get("weight") is not None:
        for own, dim in zip(tracer.of(call["weight"]), last, strict=True):
            tracer.labels.join(own, labels[dim])
    out = call.out[0] if isinstance(call.out, list | tuple) else call.out
    tracer.assign(out, labels)


def weight_norm(tracer: Tracer, call: Call) -> None:
    """V * g / |v|, the norm over all dimensions but one, or over all where g is a number.

    A removed input channel is zero in v, so it adds nothing to the norm. A removed output channel
    is zero in g and left as it is in v, which the masked network divides by.
    """
    v, g = call["v"], call["g"]
    labels, dim = tracer.of(v), call["dim"] % v.ndim
    own = {dim} if g.ndim else set()
    for over in set(range(v.ndim)) - own:
        tracer.ends.append(labels[over])
        if not tracer.is_zero(v, over):
            tracer.labels.freeze(labels[over], "is inside the norm of a weight")
    origin = tracer.origin(v)
    for kept in own:
        tracer.labels.join(tracer.of(g)[kept], labels[kept])
        if origin is not None and origin[kept] is not None:
            tracer.unmasked.add(origin[kept])
        elif kept in tracer.zero(v):
            tracer.labels.freeze(labels[kept], "would be divided by where it is zero")
    first, *norms = [leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor)]
    tracer.assign(first, labels)
    tracer.set_zero(first, (tracer.zero(v) - own) | own & tracer.zero(g))
    for norm in norms:
        tracer.assign(norm, tracer.of(g))
    if origin is not None:
        tracer.set_origin(first, origin)


def whole_weight_norm(tracer: Tracer, out: Tensor, v: Tensor, g: Tensor, dim: int = 0) -> None:
    """Take it as one operation, which PyTorch does for the first and the last dimension only."""
    weight_norm(tracer, Call("_weight_norm", {"v": v, "g": g, "dim": dim}, out, mutates=False))


FUNCTIONS = {"_weight_norm": whole_weight_norm}


def renorm(tracer: Tracer, call: Call) -> None:
    """Scale down what is too long along one dimension, by its norm over all others."""
    source = call["self"]
    labels, dim = tracer.of(source), call["dim"] % source.ndim
    for over in set(range(source.ndim)) - {dim}:
        tracer.ends.append(labels[over])
        if not tracer.is_zero(source, over):
            tracer.labels.freeze(labels[over], "is inside the norms of aten.renorm")
    tracer.assign(call.out, labels)
    origin = tracer.origin(source)
    if origin is not None:
        tracer.set_origin(call.out, origin)


def _affine(tracer: Tracer, call: Call, dims: list[int]) -> None:
    labels = tracer.of(call["input"])
    for name in ("weight", "bias"):
        tensor = call.arguments.get(name)
        if tensor is not None:
            for own, dim in zip(tracer.of(tensor), dims, strict=True):
                tracer.labels.join(own, labels[dim])
