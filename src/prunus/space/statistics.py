"""Statistics over channels when some of them are gone (`exact=False`).

A layer norm divides by the spread over all its channels, so without some of them it computes
something else. Where the user accepts that, its meaning is this: statistics are taken over the
channels that remain. The masked network that the small one is compared with is run so.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from prunus.errors import EquivalenceError

OPERATIONS = (
    *("native_layer_norm", "native_group_norm", "_fused_rms_norm", "native_batch_norm"),
    *("mean", "var", "std", "var_mean", "std_mean"),
)
"""ATen operations that average over their input."""

Kept = dict[int, Tensor]
"""Dimension of the input -> which of its positions remain, bool."""


class OverRemaining(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets each averaging operation see the remaining positions only; the others become zero.

    Args:
        kept: For each such operation, in the order in which the model runs them, its name and what
            remains.
    """

    def __init__(self, kept: Sequence[tuple[str, Kept]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept = kept
        self._next = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, on the remaining positions where it averages."""
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name not in OPERATIONS:
            return func(*args, **kwargs)
        if self._next == len(self._kept) or self._kept[self._next][0] != name:
            raise EquivalenceError("the model runs other averages here than on the example")
        kept = {dim: k for dim, k in self._kept[self._next][1].items() if not k.all()}
        self._next += 1
        if not kept:
            return func(*args, **kwargs)
        index: dict[int, Tensor] = {}
        for dim, k in kept.items():
            index[dim] = torch.arange(len(k))[k].to(args[0].device)
        run: Callable[..., Any] = _RUNS.get(name, _reduced)
        return run(func, index, args, kwargs)


def _selected(tensor: Tensor, index: dict[int, Tensor]) -> Tensor:
    for dim, positions in index.items():
        tensor = tensor.index_select(dim, positions)
    return tensor


def _put_back(small: Tensor, like: Tensor, index: dict[int, Tensor]) -> Tensor:
    for dim, positions in index.items():
        shape = [*small.shape]
        shape[dim] = like.shape[dim]
        small = small.new_zeros(shape).index_copy(dim, positions, small)
    return small


def _reduced(func: Any, index: dict[int, Tensor], args: Any, kwargs: Any) -> Any:
    """mean, var: the averaged dimensions are gone from the output."""
    return func(_selected(args[0], index), *args[1:], **kwargs)


def _normalised(func: Any, index: dict[int, Tensor], args: Any, kwargs: Any) -> Any:
    """Layer norm, RMS norm: (input, normalized_shape, weight, bias or eps, ...)."""
    x, shape, *rest = args
    first = x.ndim - len(shape)
    own = {dim - first: positions for dim, positions in index.items()}
    rest = [_selected(part, own) if isinstance(part, Tensor) else part for part in rest]
    small = _selected(x, index)
    out, *others = func(small, list(small.shape[first:]), *rest, **kwargs)
    return (_put_back(out, x, index), *others)


def _grouped(func: Any, index: dict[int, Tensor], args: Any, kwargs: Any) -> Any:
    """Group norm: (input, weight, bias, N, C, HxW, groups, eps)."""
    x, weight, bias, batch, _, *rest = args
    affine = [None if t is None else t.index_select(0, index[1]) for t in (weight, bias)]
    out, *others = func(_selected(x, index), *affine, batch, len(index[1]), *rest, **kwargs)
    return (_put_back(out, x, index), *others)


def _batch(func: Any, index: dict[int, Tensor], args: Any, kwargs: Any) -> Any:
    """Batch norm over the input's own statistics; dimension 1 is not averaged over."""
    x, *rest = args
    out, *others = func(_selected(x, index), *rest, **kwargs)
    return (_put_back(out, x, index), *others)


_RUNS: dict[str, Callable[..., Any]] = {
    "native_layer_norm": _normalised,
    "_fused_rms_norm": _normalised,
    "native_group_norm": _grouped,
    "native_batch_norm": _batch,
}
