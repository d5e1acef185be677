"""Fake quantisation: values rounded to steps of a scale, each by itself."""

from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.tracer import Call, Tracer

ROUNDED = (
    "fake_quantize_per_tensor_affine_cachemask",
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "fake_quantize_per_channel_affine_cachemask",
)
"""Operations whose scale is given, one for all or one for each position of a dimension."""

OBSERVED = "_fused_moving_avg_obs_fq_helper"
"""The operation that may first make the scale of the range that it sees."""


def rounded(tracer: Tracer, call: Call) -> None:
    """Each channel has the scale at its own position, or all have one."""
    _round(tracer, call, call.arguments.get("axis"), ("scale", "zero_point"))


def observed(tracer: Tracer, call: Call) -> None:
    """The same while no range is observed; while one is, every value may change the scale."""
    if call["observer_on"].is_meta:
        raise NotImplementedError
    if call["observer_on"].any():
        tracer.freeze_inputs(call, "is inside a range that is being observed for a quantisation")
        return
    kept = ("scale", "zero_point", "running_min", "running_max")
    _round(tracer, call, call["ch_axis"] if call["per_row_fake_quant"] else None, kept)


def _round(tracer: Tracer, call: Call, axis: int | None, names: tuple[str, ...]) -> None:
    source = call["self"]
    labels = tracer.of(source)
    if axis is not None:
        for name in names:
            if call[name].ndim == 1 and len(call[name]) == source.shape[axis]:
                tracer.labels.join(tracer.of(call[name])[0], labels[axis])
            else:
                tracer.labels.freeze(labels[axis], "has a scale of another size")
        slots = tracer.origin(call["scale"]) or [None]
        tracer.unmasked.update(slot for slot in slots if slot is not None)  # it divides by it
    origin = tracer.origin(source)
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            tracer.assign(out, labels)
            if origin is not None:
                tracer.set_origin(out, origin)


def keeps_zero(call: Call) -> bool:
    """Say whether zero is rounded to zero: it is where it is itself a step inside the range."""
    point = call["zero_point"]
    if not isinstance(point, Tensor):
        return True  # PyTorch has checked it
    if point.is_meta or point.is_floating_point():
        return False
    return bool(((point >= call["quant_min"]) & (point <= call["quant_max"])).all())
