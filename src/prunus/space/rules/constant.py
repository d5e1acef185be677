"""Tensors made inside the forward pass: their sizes are written in the code."""

from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.tracer import Call, Tracer

CREATED = (
    "empty",
    "empty_like",
    "zeros",
    "zeros_like",
    "ones",
    "ones_like",
    "full",
    "full_like",
    "arange",
    "linspace",
    "scalar_tensor",
    "eye",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "new_empty_strided",
    "empty_strided",
    "lift_fresh",
    "rand",
    "randn",
    "rand_like",
    "randn_like",
)
"""Operations whose result depends on no channel."""


def constant(tracer: Tracer, call: Call) -> None:
    """Pass shapes of `_like` operations through; everything else has a fixed size."""
    like = call.arguments.get("self")
    for leaf in tree_leaves(call.out):
        if isinstance(leaf, Tensor):
            same = call.name.endswith("_like") and isinstance(like, Tensor)
            fixed = ["meets a tensor made inside forward"] * leaf.ndim
            tracer.assign(leaf, tracer.of(like) if same and like is not None else fixed)
