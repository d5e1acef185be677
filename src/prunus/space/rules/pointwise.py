"""Element-wise operations: positions that meet are one channel."""

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer

UNTAGGED = (
    "alias",
    "bernoulli",
    "complex",
    "contiguous",
    "copy",
    "detach",
    "dropout",
    "exponential",
    "fill",
    "floor_divide",
    "hardswish",
    "normal",
    "polar",
    "_prelu_kernel",
    "random",
    "rrelu_with_noise",
    "_to_copy",
    "uniform",
)
"""Element-wise operations, or their in-place forms, that PyTorch does not tag as such."""


def pointwise(tracer: Tracer, call: Call) -> None:
    """Join the inputs' labels under broadcasting, aligned at the last dimension."""
    out = call.out
    labels: list[Label] = []
    tensors = call.tensors
    _keep_denominators(tracer, call)
    for back in range(out.ndim, 0, -1):
        size = out.shape[-back]
        meeting = [
            tracer.of(tensor)[-back]
            for tensor in tensors
            if tensor.ndim >= back and tensor.shape[-back] == size
        ]
        for tensor in tensors:
            if tensor.ndim >= back and tensor.shape[-back] != size:
                tracer.labels.freeze(tracer.of(tensor)[-back], "is broadcast over others")
        for other in meeting[1:]:
            tracer.labels.join(meeting[0], other)
        moving = [label for label in meeting if not isinstance(label, str)]
        labels.append(moving[0] if moving else meeting[0] if meeting else "has a fixed size")
    tracer.assign(out, labels)
    origins = [tracer.origin(tensor) for tensor in tensors]
    static = [origin for origin in origins if origin is not None]
    if static and len(static) == len(origins):
        pruned = [o for o in static if any(slot and slot[0] in tracer.parameters for slot in o)]
        tracer.set_origin(out, max(pruned or static, key=len))


def _keep_denominators(tracer: Tracer, call: Call) -> None:
    """Keep positions whose zeros in the masked network would be divided by."""
    name = call.name.rstrip("_")
    if name == "div" and len(call.tensors) > 1:
        divided = call.tensors[1]
    elif name in ("reciprocal", "rsqrt", "log"):
        divided = call.tensors[0]
    else:
        return
    for dim in tracer.zero(divided):
        tracer.labels.freeze(tracer.of(divided)[dim], "would be divided by where it is zero")


def first_only(tracer: Tracer, call: Call) -> None:
    """Several outputs of the first input's shape, such as a value and its dropout mask."""
    source = tracer.of(call.tensors[0])
    for out in call.out:
        tracer.assign(out, source)
