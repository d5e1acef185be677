"""Taking units out: a smaller network of the user's own classes, built beside the old one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunus.errors import EmptyLayerError, PrunusError
from prunus.space.attributes import correct_attributes, correct_bare, sizes
from prunus.space.running import copied
from prunus.space.space import Space
from prunus.types import Keep


def remove(model: nn.Module, space: Space, keep: Keep) -> nn.Module:
    """Return a network without the units that `keep` drops; `model` stays as it was.

    The result has the same classes, the same state-dict keys and its own memory. Parameters and
    buffers are sliced while the model is copied, so the peak extra memory is the small network's.

    Args:
        model: The network `space` was traced from.
        space: Its removable units.
        keep: Group name -> bool, shape (units,), True = kept; unnamed groups stay whole. Branches
            stay: no forward of the user's own can do without them.

    Raises:
        EmptyLayerError: A group would lose all its channels.
        PrunusError: The model cannot be copied.
    """
    check_keep(space, keep)
    index = kept_index(space, keep)
    small = copy_sliced(model, index)
    tracer = space.recording.tracer
    if tracer.sizes:
        lost = tracer.lost(index)
        for name, labels in tracer.sizes.items():
            norm = small.get_submodule(name)
            kept = [
                torch.arange(size) if isinstance(x, str) else torch.from_numpy(~lost[x]).nonzero()
                for size, x in zip(sizes(norm), labels, strict=True)
            ]
            correct_bare(norm, [positions.ravel() for positions in kept])
    return small


def copy_sliced(model: nn.Module, index: dict[str, dict[int, Tensor]]) -> nn.Module:
    """Return a copy of `model` with the named tensors reduced to `index` and attributes to match.

    Args:
        model: Stays as it was.
        index: Tensor name -> dimension -> positions that stay.
    """
    memo: dict[int, Any] = {}
    changed: dict[int, dict[int, Tensor]] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in index:
            memo[id(tensor)] = sliced(tensor, index[name])
            changed[id(memo[id(tensor)])] = index[name]
    try:
        small = copied(model, memo)
    except Exception as error:
        raise PrunusError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}). Keep "
            "open resources out of the module's attributes."
        ) from error
    correct_attributes(small, changed)
    named = dict(small.named_parameters())
    for name, parameter in model.named_parameters():  # what users write on them, such as a flag
        vars(named[name]).update(vars(parameter))
    return small


def check_keep(space: Space, keep: Keep) -> None:
    """Refuse a decision that names unknown groups, has wrong sizes or empties a layer."""
    sizes = {group.name: group.size for group in space.removable}
    branches = {branch.name for branch in space.branches}
    for name, kept in keep.items():
        if name not in sizes:
            raise ValueError(f"no group {name!r} can be removed; there are {', '.join(sizes)}.")
        if kept.shape != (sizes[name],) or kept.dtype != torch.bool:
            raise ValueError(
                f"keep[{name!r}] must be bool of shape ({sizes[name]},), got {kept.dtype} of "
                f"shape {tuple(kept.shape)}."
            )
        if not kept.any() and name not in branches:
            raise EmptyLayerError(
                f"{name!r} would lose all {sizes[name]} channels; lower the ratio or raise "
                "min_keep."
            )


def kept_index(space: Space, keep: Keep) -> dict[str, dict[int, Tensor]]:
    """Return for each touched tensor, per dimension, the positions that stay (int64)."""
    index: dict[str, dict[int, Tensor]] = {}
    for (name, dim), kept in space.kept_positions(keep).items():
        index.setdefault(name, {})[dim] = kept.nonzero().ravel()
    return index


def sliced(tensor: Tensor, index: dict[int, Tensor]) -> Tensor:
    """Return a copy of `tensor` reduced to `index` (dimension -> positions), of the same kind."""
    value = tensor.detach()
    for dim, positions in index.items():
        value = value.index_select(dim, positions.to(value.device))
    if tensor.is_contiguous(memory_format=torch.channels_last):
        value = value.contiguous(memory_format=torch.channels_last)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(value, requires_grad=tensor.requires_grad)
    return value


@torch.no_grad()
def mend(model: nn.Module, patch: Mapping[str, Tensor]) -> None:
    """Give parameters and buffers the values that belong to a decision."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, values in patch.items():
        tensors[name].copy_(values)
