"""Pooling and resampling: each channel is treated alone, positions are mixed."""

from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer

_SPATIAL = {"1d": 1, "2d": 2, "3d": 3}


def window(tracer: Tracer, call: Call) -> None:
    """Freeze the spatial dimensions, pass batch and channels through."""
    labels = tracer.of(call.tensors[0])
    spatial = next(count for suffix, count in _SPATIAL.items() if suffix in call.name)
    for label in labels[-spatial:]:
        tracer.labels.freeze(label, "is a spatial position")
    fixed: list[Label] = ["is a spatial position"] * spatial
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            tracer.assign(out, [*labels[:-spatial], *fixed])
