"""Element-wise operations: positions that meet are one channel."""

from torch import Tensor

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer

UNTAGGED = (
    "alias",
    "bernoulli",
    "contiguous",
    "copy",
    "detach",
    "dropout",
    "exponential",
    "fill",
    "floor_divide",
    "hardswish",
    "normal",
    "_prelu_kernel",
    "random",
    "_to_copy",
    "uniform",
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


KEEPS_ZERO = (
    *("neg", "abs", "relu", "leaky_relu", "gelu", "silu", "tanh", "elu", "hardtanh", "sqrt", "sin"),
    *("sign", "square", "hardswish", "mish", "_prelu_kernel", "div", "native_dropout", "dropout"),
    *("clone", "alias", "detach", "_to_copy", "contiguous", "view", "_unsafe_view", "squeeze"),
    *("unsqueeze", "t", "transpose", "permute", "expand", "repeat", "split", "split_with_sizes"),
    *("unbind", "select", "slice", "roll", "flip", "constant_pad_nd", "max_pool2d_with_indices"),
)
"""Operations of one tensor, or of a first one that decides, that take zero to zero."""


def keeps_zero(tracer: Tracer, call: Call) -> bool:
    """Say whether the output is zero wherever a removed position of the inputs is.

    In the masked network a removed channel is zero where a layer makes it, but sigmoid(0) is not.
    """
    tensors = call.tensors
    if call.name.rstrip("_") == "mul":
        return any(tracer.is_zero(tensor) for tensor in tensors)
    if call.name.rstrip("_") in ("add", "sub", "cat", "stack"):
        number = call.arguments.get("other", 0)
        return (isinstance(number, Tensor) or number == 0) and all(map(tracer.is_zero, tensors))
    if call.name in KEEPS_ZERO or call.name.rstrip("_") in KEEPS_ZERO:
        return bool(tensors) and tracer.is_zero(tensors[0])
    return False
