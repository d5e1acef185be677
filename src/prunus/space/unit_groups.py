"""Units that compete with each other: weights, kernels, channels or branches of one place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from prunus.space.branches import Branch
from prunus.space.space import Weight
from prunus.space.units import ChannelGroup


@dataclass(frozen=True)
class Factor:
    """Where the factors of a group's units act in one parameter.

    Attributes:
        tensor: The parameter.
        dim: One of its dimensions; None where a single unit's factor multiplies all of it.
        index: int64, shape (units, k): the positions that each unit's factor multiplies.
    """

    tensor: str
    dim: int | None
    index: Tensor


class UnitGroup(Protocol):
    """Units that compete with each other: those of one layer."""

    @property
    def name(self) -> str:
        """The layer or parameter."""

    @property
    def size(self) -> int:
        """Number of units."""

    @property
    def channels(self) -> int:
        """Channels of the producing layer in one unit; 1 where units are weights."""

    @property
    def positions(self) -> int:
        """Places at which the layer is applied; equal ones form a stage."""

    @property
    def may_vanish(self) -> bool:
        """Whether all units of the group may go."""

    @property
    def tensors(self) -> Sequence[str]:
        """The parameters whose entries units own."""

    @property
    def scales(self) -> Mapping[str, Tensor]:
        """Weights of batch norms -> the entries that scale each unit, int64 (units, k)."""

    @property
    def factors(self) -> Sequence[Factor]:
        """Where a factor of each unit is to act; none where units have no such place."""

    def gather(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return for each unit all entries it owns, shape (units, entries).

        Args:
            values: Per parameter name, a tensor shaped like the parameter.
        """

    def scale(self, values: Mapping[str, Tensor], factor: Tensor) -> None:
        """Multiply the entries of each unit, in place, by `factor`, shape (units,)."""


def stages(groups: Iterable[UnitGroup]) -> list[list[UnitGroup]]:
    """Return the groups of each stage: layers computed at equally many positions, by the first."""
    found: dict[int, list[UnitGroup]] = {}
    for group in groups:
        found.setdefault(group.positions, []).append(group)
    return list(found.values())


WeightUnit: TypeAlias = Literal["weight", "kernel", "2x1", "4x1", "8x1", "16x1"]
"""Single weights, kernels of convolutions, or blocks of adjacent output channels by one input."""


@dataclass(frozen=True)
class WeightGroup:
    """The units of one weight tensor: its entries, its kernels, or blocks of entries.

    A block holds the weights of adjacent output channels (the first dimension) for one input and
    one place of the kernel: what the kernels of prunus-engine run fastest. Where the output
    channels are no multiple of a block's, blocks of half as many are taken, and so on.

    Attributes:
        weight: The tensor; kernels are its slices over the dimensions after the second.
        unit: Which of them.
    """

    weight: Weight
    unit: WeightUnit

    @property
    def name(self) -> str:
        """The parameter."""
        return self.weight.name

    @property
    def entries(self) -> int:
        """Weights in one unit."""
        return prod(self.weight.shape[2:]) if self.unit == "kernel" else self.height

    @property
    def height(self) -> int:
        """Output channels in one unit."""
        if not self.unit.endswith("x1"):
            return 1
        return gcd(int(self.unit.removesuffix("x1")), self.weight.shape[0])

    @property
    def rows(self) -> int:
        """Output channels, or blocks of them, that units lie in one after the other."""
        return self.weight.shape[0] // self.height

    @property
    def size(self) -> int:
        """Number of units."""
        return prod(self.weight.shape) // self.entries

    @property
    def channels(self) -> int:
        """A weight is no channel: widths do not depend on it."""
        return 1

    @property
    def positions(self) -> int:
        """Places at which the weight is applied."""
        return self.weight.positions

    @property
    def may_vanish(self) -> bool:
        """A layer keeps weights."""
        return False

    @property
    def tensors(self) -> Sequence[str]:
        """The weight."""
        return (self.name,)

    def gather(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the entries of each unit, shape (units, entries)."""
        value = values[self.name]
        if self.height > 1:
            rows = value.reshape(-1, self.height, prod(self.weight.shape[1:]))
            return rows.transpose(1, 2).reshape(self.size, self.height)
        return value.reshape(self.size, self.entries)

    @property
    def scales(self) -> Mapping[str, Tensor]:
        """A weight is no channel."""
        return {}

    @property
    def factors(self) -> Sequence[Factor]:
        """A weight is its own place."""
        return ()

    def scale(self, values: Mapping[str, Tensor], factor: Tensor) -> None:
        """Multiply the entries of each unit, in place."""
        values[self.name].mul_(self.expand(factor))

    def expand(self, keep: Tensor) -> Tensor:
        """Return one value per unit, shape (units,), as one per weight, shaped like the tensor."""
        shape = self.weight.shape
        if self.height > 1:
            rows = keep.reshape(-1, 1, prod(shape[1:])).expand(-1, self.height, -1)
            return rows.reshape(shape)
        if self.unit != "kernel":
            return keep.reshape(shape)
        kernel = [1] * len(shape[2:])
        return keep.reshape(*shape[:2], *kernel).expand(shape).contiguous()


@dataclass(frozen=True)
class Channels:
    """A channel group as competing units; a unit's entries are those of its producing filters."""

    group: ChannelGroup

    @property
    def name(self) -> str:
        """The first layer that produces the channels."""
        return self.group.name

    @property
    def size(self) -> int:
        """Number of units."""
        return self.group.size

    @property
    def channels(self) -> int:
        """Channels of the first producing layer in one unit."""
        return self.group.producers[0].index.shape[1]

    @property
    def positions(self) -> int:
        """Places at which the channels are computed."""
        return self.group.positions

    @property
    def may_vanish(self) -> bool:
        """A layer keeps channels."""
        return False

    @property
    def tensors(self) -> Sequence[str]:
        """The weights that make the channels."""
        return [member.tensor for member in self.group.producers]

    def gather(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the filter weights of each unit over all coupled layers, (units, entries)."""
        parts = []
        for member in self.group.producers:
            value = values[member.tensor].movedim(member.dim, 0)
            parts.append(value[member.index.to(value.device)].reshape(self.size, -1))
        return torch.cat(parts, dim=1)

    @property
    def scales(self) -> Mapping[str, Tensor]:
        """Weights of batch norms, and where they scale each unit."""
        return {member.tensor: member.index for member in self.group.members if member.scales}

    @property
    def factors(self) -> Sequence[Factor]:
        """What multiplies the channels where they are read."""
        if self.group.ungated:
            return ()
        return [Factor(member.tensor, member.dim, member.index) for member in self.group.readers]

    def scale(self, values: Mapping[str, Tensor], factor: Tensor) -> None:
        """Multiply the filters of each unit, in place, in all coupled layers."""
        for member in self.group.producers:
            value = values[member.tensor]
            every = torch.ones(value.shape[member.dim], dtype=factor.dtype, device=factor.device)
            every[member.index.to(factor.device)] = factor[:, None]
            view = [1] * value.ndim
            view[member.dim] = -1
            value.mul_(every.view(view).to(value))


@dataclass(frozen=True)
class WholeBranch:
    """A residual branch as a competing unit; its entries are the weights of its last layer."""

    branch: Branch

    @property
    def name(self) -> str:
        """The branch."""
        return self.branch.name

    @property
    def size(self) -> int:
        """One: it is there or not."""
        return 1

    @property
    def channels(self) -> int:
        """A branch is no channel: widths do not depend on it."""
        return 1

    @property
    def positions(self) -> int:
        """Entries of what it adds."""
        return self.branch.positions

    @property
    def may_vanish(self) -> bool:
        """Its sum goes on without it."""
        return True

    @property
    def tensors(self) -> Sequence[str]:
        """The parameters of its last layer."""
        return self.branch.ends

    def gather(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the parameters of its last layer, shape (1, entries)."""
        return torch.cat([values[name].reshape(1, -1) for name in self.branch.ends], dim=1)

    @property
    def scales(self) -> Mapping[str, Tensor]:
        """A branch is no channel."""
        return {}

    @property
    def factors(self) -> Sequence[Factor]:
        """All entries of its last layer."""
        return [Factor(name, None, torch.zeros(1, 1).long()) for name in self.branch.ends]

    def scale(self, values: Mapping[str, Tensor], factor: Tensor) -> None:
        """Multiply what its last layer makes."""
        for name in self.branch.ends:
            values[name].mul_(factor.to(values[name]))
