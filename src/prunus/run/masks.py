"""A mask on disk, read again: what it costs, what it keeps, and a hook that holds it."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from prunus.masking import Hard
from prunus.space import Granularity, Space, Unstructured
from prunus.types import Keep, Mask


class Hold:
    """A training hook that keeps a settled mask in place.

    Args:
        model: The network that is trained.
        mask: What is kept of it.
    """

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        self._masking = Hard(model)
        self._masking.set(mask)

    def penalty(self) -> float:
        """Add nothing to the loss."""
        return 0.0

    def step(self, optimizer: Optimizer) -> None:
        """Set to zero what the optimizer has moved."""
        self._masking.apply()

    def state(self) -> dict[str, Any]:
        """Return nothing: the mask is settled."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on as it is."""


def macs(space: Space, mask: Mask) -> dict[str, int]:
    """Count multiply-accumulates for one input, those with masked weights as not done."""
    kept = {weight: mask[weight.name] for weight in space.weights}
    return {
        "dense": sum(weight.positions * tensor.numel() for weight, tensor in kept.items()),
        "pruned": sum(weight.positions * int(tensor.sum()) for weight, tensor in kept.items()),
    }


def shares(space: Space, mask: Mask) -> dict[str, float]:
    """Return the share of the weights of each layer that is kept."""
    return {weight.name: float(mask[weight.name].float().mean()) for weight in space.weights}


def kept_units(space: Space, mask: Mask) -> Keep:
    """Return the decision that a mask of channels came from: the inverse of `space.mask`."""
    keep = {b.name: mask[b.ends[0]].any().reshape(1) for b in space.branches}
    gone = {name for branch in space.gone(keep) for name in branch.tensors}
    for group in space.groups:
        place = next((m for m in group.members if m.tensor not in gone), None)
        if place is None:  # it went with a branch
            continue
        along = mask[place.tensor].movedim(place.dim, 0)
        keep[group.name] = along.reshape(len(along), -1).any(1)[place.index[:, 0]]
    return keep


def units(space: Space, granularity: Granularity, mask: Mask) -> Keep:
    """Return the decision over a granularity's units, weights or channels, that a mask is of."""
    groups = granularity.groups(space)
    if isinstance(granularity, Unstructured):
        return {group.name: group.gather(mask)[:, 0] for group in groups}
    keep = kept_units(space, mask)
    return {group.name: keep[group.name] for group in groups}
