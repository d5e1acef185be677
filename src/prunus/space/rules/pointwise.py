"""Element-wise operations: positions that meet are one channel."""

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer

UNTAGGED = (
    "alias",
    "contiguous",
    "copy",
    "detach",
    "dropout",
    "fill",
    "hardswish",
    "_prelu_kernel",
    "_to_copy",
)
"""Element-wise operations, or their in-place forms, that PyTorch does not tag as such."""


def pointwise(tracer: Tracer, call: Call) -> None:
    """Join the inputs' labels under broadcasting, aligned at the last dimension."""
    out = call.out
    labels: list[Label] = []
    tensors = call.tensors
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


def first_only(tracer: Tracer, call: Call) -> None:
    """Several outputs of the first input's shape, such as a value and its dropout mask."""
    source = tracer.of(call.tensors[0])
    for out in call.out:
        tracer.assign(out, source)
