"""Pruning one group after the other, each on the network as the ones before have left it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from prunus.criteria import Evidence
from prunus.criteria.sight import has_windows, unread
from prunus.selectors.base import Decision
from prunus.selectors.topk import TopK
from prunus.space import Space, UnitGroup
from prunus.space.masked import apply_mask
from prunus.space.remove import copy_sliced, mend
from prunus.space.unit_groups import Channels, WeightGroup
from prunus.space.units import Member
from prunus.types import Keep, Target


@dataclass(frozen=True)
class Reader:
    """A layer that reads the channels of a group.

    Attributes:
        layer: Its name.
        weight: The name of its weight, shape (out, in / groups, *kernel).
        columns: int64, shape (units, k): where the units are in the weight's second dimension; k is
            above one behind a flatten.
    """

    layer: str
    weight: str
    columns: Tensor


class Course:
    """A network that loses one group after the other; the caller's stays as it was.

    Args:
        space: What may be removed.
        evidence: Of the network as it is at the start.

    Attributes:
        evidence: The same of the network as it is by now.
        patch: What has changed beside the mask.
    """

    def __init__(self, space: Space, evidence: Evidence) -> None:
        self._space = space
        self.model = copy_sliced(evidence.model, {})
        self._parameters = dict(self.model.named_parameters())
        now = {name: p.detach() for name, p in self._parameters.items()}
        self.evidence = replace(evidence, model=self.model, weights=now)
        self.keep: Keep = {}
        self.patch: dict[str, Tensor] = {}

    def weight(self, name: str) -> Tensor:
        """Return a parameter as it is by now, float64."""
        return self._parameters[name].detach().double()

    def settle(self, group: UnitGroup, keep: Tensor, patch: Mapping[str, Tensor]) -> None:
        """Take a decision on a group, and go on with the network that it leaves."""
        self.keep[group.name] = keep
        mend(self.model, patch)
        if isinstance(group, Channels):
            apply_mask(self.model, self._space.mask(self.keep))
        elif isinstance(group, WeightGroup):
            apply_mask(self.model, {group.name: group.expand(keep)})
        for name in patch:
            self.patch[name] = self._parameters[name].detach().clone()

    def decision(self) -> Decision:
        """Return what was decided on the way."""
        return Decision(self.keep, self.patch)


def in_order(space: Space, groups: Sequence[UnitGroup]) -> list[UnitGroup]:
    """Return groups of channels in the order in which the network makes them."""
    used = {weight.name: k for k, weight in enumerate(space.weights)}

    def first(group: UnitGroup) -> int:
        made = group.group.producers if isinstance(group, Channels) else ()
        return min((used.get(member.tensor, len(used)) for member in made), default=len(used))

    return sorted(groups, key=first)


def widths(
    amounts: TopK, space: Space, groups: Sequence[UnitGroup], target: Target | None
) -> dict[str, int]:
    """Return how many units each group keeps, where none counts more than another.

    Raises:
        TargetError: The target is out of reach.
    """
    alike = {group.name: torch.zeros(group.size) for group in groups}
    chosen = amounts.select(space, groups, alike, target).keep
    return {g.name: int(chosen[g.name].sum()) if g.name in chosen else g.size for g in groups}


def readers(group: UnitGroup, model: nn.Module) -> list[Reader]:
    """Return the convolutions and linear layers that read the channels of a group.

    Layers that compute with them otherwise (transposed convolutions, products written out, weights
    that are computed from others) are left out.

    Raises:
        ValueError: There are no channels, or none of the layers that read them can be seen.
    """
    if not isinstance(group, Channels):
        raise ValueError(
            f"what a layer makes of its input is rebuilt from channels, but {group.name!r} has "
            "other units; prune channels."
        )
    found = [Reader(m.layer, m.tensor, m.index) for m in _reading(group, model)]
    if not found:
        raise ValueError(
            f"no convolution or linear layer reads the channels of {group.name!r} as they are, so "
            "what is made of them is not seen; leave it out with skip, or take a method that looks "
            "at the weights."
        )
    return found


def unable(groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
    """Return the groups of channels that no layer is seen to read, with the reason."""
    return unread(groups, evidence, _reading)


def _reading(group: Channels, model: nn.Module) -> list[Member]:
    modules = dict(model.named_modules(remove_duplicate=False))
    return [
        member
        for member in group.group.members
        if not member.produces
        and member.dim == 1
        and member.tensor.endswith(".weight")
        and has_windows(modules.get(member.layer))
    ]


def must_be_finite(layer: str, *tensors: Tensor) -> None:
    """Refuse what NaN or infinities have got into.

    Raises:
        ValueError: Naming the layer.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError(
            f"what {layer!r} reads or computes on the calibration is not finite; the weights or "
            "the samples hold NaN or infinities."
        )
