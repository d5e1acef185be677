"""Where removed positions are zero in the masked network.

A layer with a masked row gives zero there, and so does what follows, up to an operation that makes
something else of zero, such as a sigmoid. A sum over zeros loses nothing when they go.
"""

from torch import Tensor

from prunus.space.rules import quantisation
from prunus.space.rules.reduction import NORMS, is_adding, reduced
from prunus.space.rules.shape import factor_groups, swapped
from prunus.space.tracer import Call, Tracer
from prunus.space.zeros import ALONG, REGROUPED, VALUE_BY_VALUE


def keeps_zero(tracer: Tracer, call: Call) -> frozenset[int]:
    """Return the dimensions of the output along which removed positions are zero.

    Of what is written into other memory nothing is said, nor where zeros of that memory are lost:
    others may see it.
    """
    if isinstance(call.arguments.get("out"), Tensor):
        return frozenset()
    zero = _kept(tracer, call)
    if call.mutates and zero:
        target, written = call.tensors[0], call.tensors[-1]
        ahead = target.ndim - written.ndim
        fixed = {d + ahead for d, x in enumerate(tracer.of(written)) if isinstance(x, str)}
        if tracer.zero(target) - zero - fixed:
            return frozenset()
    return zero


def _kept(tracer: Tracer, call: Call) -> frozenset[int]:
    name, tensors = call.name.rstrip("_") or call.name, call.tensors
    if not tensors or not isinstance(call.out, Tensor | list | tuple):
        return frozenset()
    outputs = [call.out] if isinstance(call.out, Tensor) else call.out
    first = next((x for x in outputs if isinstance(x, Tensor)), None)
    if first is None:
        return frozenset()
    every = frozenset(range(first.ndim))
    zero = tracer.zero(tensors[0])
    if name in ("permute", "transpose", "t"):
        order = [dim % first.ndim for dim in call["dims"]] if name == "permute" else None
        order = order or swapped(call, first.ndim)
        return frozenset(k for k, dim in enumerate(order) if dim in zero)
    if name in REGROUPED:
        free = zero | {d for d, x in enumerate(tracer.of(tensors[0])) if isinstance(x, str)}
        groups = factor_groups(tensors[0].shape, first.shape)
        return frozenset(k for before, after in groups if free >= {*before} for k in after)
    if name in ("select", "unbind"):
        gone = call["dim"] % tensors[0].ndim
        return frozenset(d - (d > gone) for d in zero - {gone})
    if name == "repeat":
        return frozenset(d + first.ndim - tensors[0].ndim for d in zero)
    if name == "expand":
        ahead = first.ndim - tensors[0].ndim
        kept = {d for d in range(tensors[0].ndim) if tensors[0].shape[d] == first.shape[d + ahead]}
        return frozenset(d + ahead for d in kept & zero)
    if name == "constant_pad_nd":
        return zero if call["value"] == 0 else frozenset()
    if name in VALUE_BY_VALUE or name in ALONG:
        return zero
    if name == "hardtanh":
        inside = call["min_val"] <= 0 <= call["max_val"]
        return zero if inside else frozenset()
    if name in ("view_as_real", "view_as_complex"):
        return zero & every
    if name == "pow":
        exponent = call.arguments.get("exponent")
        return zero if isinstance(exponent, int | float) and exponent > 0 else frozenset()
    if name == "masked_scatter":
        return _everywhere(tracer, first, [call["self"], call["source"]]) & {first.ndim - 1}
    if name == "polar":
        return _aligned(tracer, first, call["abs"])
    if name in (*quantisation.ROUNDED, quantisation.OBSERVED):
        return zero if quantisation.keeps_zero(call) else frozenset()
    if name == "copy":
        return _everywhere(tracer, first, tensors[1:2])
    if name == "div":
        return _aligned(tracer, first, tensors[0])
    if name == "mul":
        return frozenset().union(*(_aligned(tracer, first, tensor) for tensor in tensors))
    if name in ("sum", "mean", "amax", "amin") or (name in NORMS and is_adding(call)):
        gone = reduced(call)
        left = [d for d in range(tensors[0].ndim) if d not in gone or call.arguments.get("keepdim")]
        return frozenset(k for k, d in enumerate(left) if d in zero - gone)
    if name == "complex":
        return _everywhere(tracer, first, tensors)
    if name in ("add", "sub"):
        number = call.arguments.get("other", 0)
        plain = isinstance(number, Tensor) or number == 0
        return _everywhere(tracer, first, tensors) if plain else frozenset()
    if name in ("cat", "stack"):
        return every if all(map(tracer.is_zero, tensors)) else frozenset()
    return frozenset()


def _aligned(tracer: Tracer, out: Tensor, tensor: Tensor) -> frozenset[int]:
    """Return the dimensions of `out` along which a tensor broadcast to it is zero."""
    ahead = out.ndim - tensor.ndim
    return frozenset(
        dim + ahead for dim in tracer.zero(tensor) if tensor.shape[dim] == out.shape[dim + ahead]
    )


def _everywhere(tracer: Tracer, out: Tensor, tensors: list[Tensor]) -> frozenset[int]:
    """Return the dimensions of `out` along which all tensors broadcast to it are zero."""
    zero = frozenset(range(out.ndim))
    for tensor in tensors:
        zero &= _aligned(tracer, out, tensor)
    return zero
