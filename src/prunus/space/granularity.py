"""What one unit is: a weight, a kernel, or a channel with all that is coupled to it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import Literal, Protocol

import torch
from torch import Tensor

from prunus.names import did_you_mean
from prunus.space.branches import Branch
from prunus.space.space import Space, Weight
from prunus.space.units import ChannelGroup, Frozen
from prunus.types import Keep, Mask

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over its last dimension, or averages it."""


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


class Granularity(Protocol):
    """A choice of unit over a whole network."""

    def groups(self, space: Space) -> list[UnitGroup]:
        """Return the groups of units that may be pruned."""

    def left_out(self, space: Space) -> list[Frozen]:
        """Return the channels that could go but are not touched, with the reason."""

    def mask(self, space: Space, keep: Keep) -> Mask:
        """Return the mask of a decision over every parameter and channel-carrying buffer."""


@dataclass(frozen=True)
class WeightGroup:
    """The units of one weight tensor: its entries, or its kernels.

    Attributes:
        weight: The tensor; kernels are its slices over the dimensions after the second.
        unit: Which of the two.
    """

    weight: Weight
    unit: Literal["weight", "kernel"]

    @property
    def name(self) -> str:
        """The parameter."""
        return self.weight.name

    @property
    def entries(self) -> int:
        """Weights in one unit."""
        return prod(self.weight.shape[2:]) if self.unit == "kernel" else 1

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

    def gather(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the entries of each unit, shape (units, entries)."""
        return values[self.name].reshape(self.size, self.entries)

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
        values[self.name].mul_(factor.repeat_interleave(self.entries).view(self.weight.shape))

    def expand(self, keep: Tensor) -> Tensor:
        """Return the mask of the tensor for `keep`, shape (units,)."""
        shape = self.weight.shape
        if self.unit == "weight":
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


@dataclass(frozen=True, kw_only=True)
class Unstructured:
    """Single weights, or whole kernels, of convolutions and linear layers.

    Args:
        unit: "weight" or "kernel"; kernels exist in convolutions only.
        layers: "all", or "conv" for tensors with a kernel only.
        skip: Shell patterns of parameter names to leave alone.
    """

    unit: Literal["weight", "kernel"] = "weight"
    layers: Literal["all", "conv"] = "all"
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unit not in ("weight", "kernel"):
            raise ValueError(f"unit must be 'weight' or 'kernel', got {self.unit!r}.")
        if self.layers not in ("all", "conv"):
            raise ValueError(f"layers must be 'all' or 'conv', got {self.layers!r}.")
        _check_patterns(self.skip)

    def groups(self, space: Space) -> list[UnitGroup]:
        """Return one group per weight tensor.

        Raises:
            ValueError: A pattern of `skip` fits no parameter.
        """
        must_match("skip", self.skip, [weight.name for weight in space.weights])
        convolutional = self.layers == "conv" or self.unit == "kernel"
        return [
            WeightGroup(weight, self.unit)
            for weight in space.weights
            if not (convolutional and len(weight.shape) < 3) and not matches(weight.name, self.skip)
        ]

    def left_out(self, space: Space) -> list[Frozen]:
        """Return nothing: single weights leave every channel in place."""
        return []

    def mask(self, space: Space, keep: Keep) -> Mask:
        """Return the mask over every parameter; what `keep` does not name stays whole."""
        mask = space.mask({})
        for weight in space.weights:
            if weight.name in keep:
                mask[weight.name] = WeightGroup(weight, self.unit).expand(keep[weight.name].cpu())
        return mask | {name: mask[first] for name, first in space.tied.items() if first in mask}


@dataclass(frozen=True, kw_only=True)
class Structured:
    """Channels (filters), each with its bias, normalisation entries and consumers' slices.

    Args:
        coupled: Also prune channels that several layers write into, such as residual sums. With
            False only channels made by a single layer go, as in most papers on residual networks.
        inside_heads: Let attention heads lose width, all alike, instead of whole heads go.
        gated: Only channels that factors can be put on: those that nothing but layers with weights
            of their own read.
        skip: Shell patterns of group (layer) names to leave alone.
    """

    coupled: bool = True
    inside_heads: bool = False
    gated: bool = False
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_patterns(self.skip)

    def groups(self, space: Space) -> list[UnitGroup]:
        """Return one group per set of layers that make the same channels.

        Raises:
            ValueError: A pattern of `skip` fits no layer.
        """
        must_match("skip", self.skip, [group.name for group in space.groups])
        left = {frozen.name for frozen in self.left_out(space)}
        return [Channels(group) for group in space.groups if group.name not in left]

    def left_out(self, space: Space) -> list[Frozen]:
        """Return the channels that could go but are not touched, with the reason."""
        left = []
        for group in space.groups:
            if matches(group.name, self.skip):
                left.append(Frozen(group.name, group.size, "is skipped by the method"))
            elif not self.coupled and len(group.coupled) > 1:
                shared = "is written by several layers, which coupled=False leaves whole"
                left.append(Frozen(group.name, group.size, shared))
            elif self.gated and group.ungated:
                left.append(Frozen(group.name, group.size, group.ungated))
        return left

    def mask(self, space: Space, keep: Keep) -> Mask:
        """Return the mask over every parameter and channel-carrying buffer."""
        return space.mask(keep)


@dataclass(frozen=True, kw_only=True)
class Branches:
    """Whole residual branches: what a sum adds to its input goes or stays, which changes the depth.

    Their sizes differ, so a criterion with `reduce="mean"` and a selector with `scope="global"`
    compare them.

    Args:
        skip: Shell patterns of branch names, such as "layer1.*", to leave alone.
    """

    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_patterns(self.skip)

    def groups(self, space: Space) -> list[UnitGroup]:
        """Return one group per branch.

        Raises:
            ValueError: A pattern of `skip` fits no branch.
        """
        must_match("skip", self.skip, [branch.name for branch in space.branches])
        return [WholeBranch(b) for b in space.branches if not matches(b.name, self.skip)]

    def left_out(self, space: Space) -> list[Frozen]:
        """Return the branches that could go but are not touched."""
        return [
            Frozen(b.name, 1, "is skipped by the method")
            for b in space.branches
            if matches(b.name, self.skip)
        ]

    def mask(self, space: Space, keep: Keep) -> Mask:
        """Return the mask over every parameter and channel-carrying buffer."""
        return space.mask(keep)


def _check_patterns(patterns: object) -> None:
    if isinstance(patterns, str):
        raise TypeError(f"skip must be a tuple of patterns, got a string; pass ({patterns!r},).")


def must_match(what: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    """Refuse a pattern that fits none of `names`: it is most likely misspelt.

    Raises:
        ValueError: Naming the pattern and similar names.
    """
    for pattern in patterns:
        if not any(matches(name, (pattern,)) for name in names):
            raise ValueError(
                f"{what} names {pattern!r}, which fits none of the {len(names)} there are, such as "
                f"{', '.join(map(repr, names[:3]))}." + did_you_mean(pattern, names)
            )


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Say whether `name` fits one of the shell patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
