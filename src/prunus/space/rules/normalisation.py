"""Normalisations: batch norm passes channels through, the others may mix them."""

from torch import Tensor

from prunus.space.tracer import Call, Tracer


def batch_norm(tracer: Tracer, call: Call) -> None:
    """One scale, shift, mean and variance per channel of dimension 1."""
    labels = tracer.of(call["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = call.arguments.get(name)
        if tensor is not None:
            tracer.labels.join(tracer.of(tensor)[0], labels[1])
    first, *statistics = [leaf for leaf in call.out if isinstance(leaf, Tensor)]
    tracer.assign(first, labels)
    for tensor in statistics:
        if tensor.ndim == 1 and tensor.numel() == first.shape[1]:
            tracer.assign(tensor, [labels[1]])


def layer_norm(tracer: Tracer, call: Call) -> None:
    """Statistics over the last dimensions would change if one of their channels went."""
    labels = tracer.of(call["input"])
    for label in labels[-len(call["normalized_shape"]) :]:
        tracer.labels.freeze(label, "is inside the statistics of a layer norm")
    _affine(tracer, call, list(range(-len(call["normalized_shape"]), 0)))
    tracer.assign(call.out[0], labels)


def group_norm(tracer: Tracer, call: Call) -> None:
    """Statistics over each group of channels: whole groups may go, nothing smaller."""
    labels = tracer.of(call["input"])
    channels = labels[1]
    if not isinstance(channels, str) and call["group"] < len(channels):
        table = channels.reshape(call["group"], -1)
        tracer.labels.join(table, table[:, :1])
    _affine(tracer, call, [1])
    tracer.assign(call.out[0], labels)


def _affine(tracer: Tracer, call: Call, dims: list[int]) -> None:
    labels = tracer.of(call["input"])
    for name in ("weight", "bias"):
        tensor = call.arguments.get(name)
        if tensor is not None:
            for own, dim in zip(tracer.of(tensor), dims, strict=True):
                tracer.labels.join(own, labels[dim])
