"""Tensors made inside the forward pass."""

from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer

FILLED = (
    *("empty", "zeros", "ones", "full", "scalar_tensor", "new_zeros", "new_ones", "new_full"),
    *("new_empty", "new_empty_strided", "empty_strided"),
)
"""Every position holds the same, so the tensor has whatever size it meets."""

ORDERED = ("arange", "linspace", "eye", "lift_fresh", "lift_fresh_copy", "rand", "randn", "randint")
"""Every position holds something else: the sizes are written in the code."""

LIKE = ("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like")
"""As large as another tensor."""


def filled(tracer: Tracer, call: Call) -> None:
    """Give every dimension fresh channels, to be joined with what it meets."""
    tracer.assign(
        call.out,
        [
            tracer.labels.new(size) if size > 1 else "has a single position"
            for size in call.out.shape
        ],
    )
    if call.name in ("zeros", "new_zeros"):
        tracer.set_zero(call.out)


def ordered(tracer: Tracer, call: Call) -> None:
    """Fix every dimension."""
    for leaf in tree_leaves(call.out):
        if isinstance(leaf, Tensor):
            fixed: list[Label] = ["meets a tensor made inside forward"] * leaf.ndim
            tracer.assign(leaf, fixed)


def like(tracer: Tracer, call: Call) -> None:
    """Take the sizes of the tensor whose likeness it is."""
    tracer.assign(call.out, tracer.of(call["self"]))
