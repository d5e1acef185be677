"""Take along the connections of dead neurons."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from prunus.criteria import Evidence
from prunus.selectors.base import Decision, Selector
from prunus.space import Space, UnitGroup
from prunus.space.check import Reference
from prunus.space.masked import apply_mask
from prunus.space.remove import copy_sliced
from prunus.space.unit_groups import WeightGroup
from prunus.space.units import ChannelGroup, Member
from prunus.types import Mask, Scores, Target


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Removes what neurons without any input, or without any output, have left.

    Source: Han, Pool, Tran and Dally, NeurIPS 2015, arXiv:1506.02626, section 3.5. Neurons are the
    units of the network's channel groups, so that their connections are found behind batch norms,
    flattening and residual sums too, where a unit is dead only if all that write it are.

    In eval mode the network computes what it computed without the sweep. A neuron without input
    emits a constant, made by its bias or batch norm: those who read it take the constant over into
    their own bias. Where that would not be exact (they have no bias, or groups, or pad with zeros,
    or the constant depends on the place) they keep their connections. Neurons without output go
    after a comparison. A layer is never emptied. A target is still met exactly, where no more is
    dead than it removes: in exchange, some of what `of` would have removed stays.

    Args:
        of: Chooses what goes apart from that.
    """

    of: Selector

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose.

        Raises:
            ValueError: The units are neither single weights nor kernels.
        """
        weights = {group.name: _weight(group) for group in groups}
        scores = dict(scores)
        dead = {name: torch.zeros(group.size, dtype=torch.bool) for name, group in weights.items()}
        biases: dict[str, Tensor] = {}
        while True:
            decision = self.of.select(space, groups, scores, target, evidence)
            keep = {name: kept & ~dead[name] for name, kept in decision.keep.items()}
            mask = {name: weights[name].expand(kept) for name, kept in keep.items()}
            look = _Look(space, evidence, mask, biases)
            unfed, unheard = look.unfed(), look.unheard()
            found = False
            for name, gone in _union([unfed, unheard]).items():
                units = weights[name].gather({name: gone}).all(dim=1)
                if (keep[name] & units).any() and (keep[name] & ~units).any():
                    dead[name] |= units
                    scores[name] = scores[name].masked_fill(units, -torch.inf)
                    if name in unfed:
                        biases |= look.moved(name, unfed[name])
                    found = True
            if not found:
                return Decision(keep, {**decision.patch, **biases})


@dataclass(frozen=True)
class _Look:
    """What can be seen of a decision.

    Attributes:
        space: The network's channel groups.
        evidence: The network and its example.
        keep: Weight -> the entries that stay.
        biases: Biases that have taken over constants -> their values.
    """

    space: Space
    evidence: Evidence
    keep: Mask
    biases: Mapping[str, Tensor]

    def unheard(self) -> Mask:
        """Return the entries that feed neurons which nothing reads."""
        found = []
        for group in self.space.groups:
            if read := self._readers(group):
                feeding = [m for m in group.members if m.produces or self._passes(m)]
                found.append(self._entries(feeding, ~self._alive(read, group.size)))
        parts = [part for part in found if part]
        together = _union(parts)
        if not together or self._changes_nothing(together):
            return together
        return _union(part for part in parts if self._changes_nothing(part))

    def unfed(self) -> Mask:
        """Return the entries that read neurons without input, where a bias can take them over."""
        gone = _union(
            self._entries(self._readers(group), ~self._alive(group.producers, group.size))
            for group in self.space.groups
        )
        found: Mask = {}
        for name, entries in gone.items():
            layer = self._layer(name)
            if layer is not None and name in self._constants:
                movable = _movable(layer, *self._constants[name])
                found[name] = entries & movable.view([1, -1] + [1] * (entries.ndim - 2))
        return {name: entries for name, entries in found.items() if entries.any()}

    def moved(self, name: str, entries: Tensor) -> dict[str, Tensor]:
        """Return the bias that makes up for some entries of a weight: its name -> its values."""
        bias = name.removesuffix("weight") + "bias"
        before = self.biases.get(bias, self.evidence.weights.get(bias))
        if before is None:  # only zeros were read
            return {}
        weight = self.evidence.weights[name].double().cpu() * entries
        more = weight.reshape(*weight.shape[:2], -1).sum(2) @ self._constants[name][0]
        return {bias: (before.double() + more.to(before.device)).to(before)}

    def _alive(self, members: Iterable[Member], size: int) -> Tensor:
        """Return which units have an entry left in some member, bool (units,)."""
        alive = torch.zeros(size, dtype=torch.bool)
        for member in members:
            if member.tensor not in self.keep:  # not pruned
                return torch.ones(size, dtype=torch.bool)
            along = self.keep[member.tensor].movedim(member.dim, 0).flatten(1).any(dim=1)
            alive |= along[member.index].any(dim=1)
        return alive

    def _entries(self, members: Iterable[Member], units: Tensor) -> Mask:
        """Return the entries of units, as far as they are there: weight -> bool."""
        found: Mask = {}
        for member in members:
            if member.tensor in self.keep and units.any():
                kept = self.keep[member.tensor]
                gone = torch.zeros_like(kept)
                gone.index_fill_(member.dim, member.index[units].ravel(), value=True)
                if (gone & kept).any():
                    found = _union([found, {member.tensor: gone & kept}])
        return found

    def _readers(self, group: ChannelGroup) -> list[Member]:
        weights = {weight.name for weight in self.space.weights}
        read = [m for m in group.members if not m.produces and m.tensor in weights]
        return [member for member in read if not self._passes(member)]

    def _passes(self, member: Member) -> bool:
        """Say whether a layer only passes a unit on, as a depthwise convolution does."""
        layer = self.evidence.model.get_submodule(member.tensor.rpartition(".")[0])
        plain = isinstance(layer, _ConvNd) and not layer.transposed
        return plain and member.dim == 0 and not member.produces

    @cached_property
    def _network(self) -> nn.Module:
        network = copy_sliced(self.evidence.model, {})
        for name, values in self.biases.items():
            network.get_parameter(name).data.copy_(values)
        return network

    @cached_property
    def _reference(self) -> Reference:
        return Reference(self._network, self.keep, self.evidence.example)

    def _changes_nothing(self, gone: Mask) -> bool:
        network = copy_sliced(self._network, {})
        less = {name: self.keep[name] & ~entries for name, entries in gone.items()}
        apply_mask(network, self.keep | less)
        return self._reference.compare(network).passed

    def _layer(self, name: str) -> nn.Linear | _ConvNd | None:
        """Return the layer whose own weight (out, in, ...) this is, if no other uses it."""
        tied = {*self.space.tied, *self.space.tied.values()}
        layer = self.evidence.model.get_submodule(name.rpartition(".")[0])
        if not isinstance(layer, nn.Linear | _ConvNd) or not name.endswith("weight"):
            return None
        if isinstance(layer, _ConvNd) and (layer.transposed or layer.groups > 1):
            return None
        return None if tied & {name, name.removesuffix("weight") + "bias"} else layer

    @cached_property
    def _constants(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What layers read: weight -> a value per input, and whether that is always the same."""
        seen: dict[str, list[Tensor]] = {}
        with ExitStack() as hooks:
            for name in self.keep:
                if (layer := self._layer(name)) is not None:
                    there = self._reference.network.get_submodule(name.rpartition(".")[0])
                    dim = 1 if isinstance(layer, _ConvNd) else -1
                    note = _noting(seen.setdefault(name, []), dim)
                    hooks.callback(there.register_forward_pre_hook(note).remove)
            for given in self._reference.inputs:
                self._reference.taken(given)
        found = {}
        for name, bounds in seen.items():
            if bounds:
                low, high = torch.stack(bounds).aminmax(dim=0)
                found[name] = low[0], high[1] - low[0] <= 1e-12 * (1 + high[1].abs())
        return found


def _noting(seen: list[Tensor], dim: int) -> Callable[..., None]:
    """Return a hook that notes the smallest and largest value of each input, (2, inputs)."""

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows = given[0].movedim(dim, -1).flatten(0, -2).double().cpu()
        seen.append(torch.stack([*rows.aminmax(dim=0)]))

    return note


def _movable(reader: nn.Linear | _ConvNd, value: Tensor, steady: Tensor) -> Tensor:
    """Return for which inputs a layer's bias can take over a constant, bool (inputs,)."""
    padded = (
        isinstance(reader, _ConvNd)
        and reader.padding_mode == "zeros"
        and any(reader._reversed_padding_repeated_twice)
    )
    if reader.bias is None or padded:
        return steady & (value == 0)
    return steady


def _union(masks: Iterable[Mask]) -> Mask:
    found: Mask = {}
    for mask in masks:
        for name, entries in mask.items():
            found[name] = found[name] | entries if name in found else entries
    return found


def _weight(group: UnitGroup) -> WeightGroup:
    if not isinstance(group, WeightGroup):
        raise ValueError(f"a sweep is over single weights, but {group.name!r} has channels.")
    return group
