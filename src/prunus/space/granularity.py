"""What one unit is: a weight, a block, a kernel, a channel or a group of them, or a branch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Protocol, TypeVar, get_args

from torch import nn

from prunus.names import did_you_mean
from prunus.space.space import Space, Weight, trace
from prunus.space.unit_groups import Channels, UnitGroup, WeightGroup, WeightUnit, WholeBranch
from prunus.space.units import ChannelGroup, Frozen
from prunus.types import Example, Keep, Mask

T = TypeVar("T")


class Granularity(Protocol):
    """A choice of unit over a whole network."""

    def groups(self, space: Space) -> list[UnitGroup]:
        """Return the groups of units that may be pruned."""

    def left_out(self, space: Space) -> list[Frozen]:
        """Return the channels that could go but are not touched, with the reason."""

    def mask(self, space: Space, keep: Keep) -> Mask:
        """Return the mask of a decision over every parameter and channel-carrying buffer."""


@dataclass(frozen=True, kw_only=True)
class Unstructured:
    """Single weights, blocks or kernels of them, of convolutions, recurrent and linear layers.

    Args:
        unit: "weight"; "kernel", which convolutions only have; or "2x1", "4x1", "8x1", "16x1":
            blocks of so many adjacent output channels by one input, in which zeros run faster with
            prunus-engine (see `WeightGroup`).
        permute: Put output channels together that blocks lose least of, before anything is pruned;
            see `prunus.space.permute`.
        layers: "all", or "conv" for tensors with a kernel only.
        embeddings: Also the entries of embeddings; one that is the weight of a layer as well is
            pruned with it in any case.
        skip: Shell patterns of parameter names to leave alone.
    """

    unit: WeightUnit = "weight"
    permute: bool = False
    layers: Literal["all", "conv"] = "all"
    embeddings: bool = False
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unit not in get_args(WeightUnit):
            named = ", ".join(map(repr, get_args(WeightUnit)))
            raise ValueError(f"unit must be one of {named}, got {self.unit!r}.")
        if self.permute and not self.unit.endswith("x1"):
            raise ValueError(
                f"permute puts channels together for blocks of them, but unit is {self.unit!r}; "
                "take a block such as '4x1', or permute=False."
            )
        if self.layers not in ("all", "conv"):
            raise ValueError(f"layers must be 'all' or 'conv', got {self.layers!r}.")
        if self.embeddings and self._convolutional:
            raise ValueError(
                "embeddings have no kernels; take unit='weight' and layers='all', or leave them "
                "out."
            )
        _check_patterns(self.skip)

    def groups(self, space: Space) -> list[UnitGroup]:
        """Return one group per weight tensor.

        Raises:
            ValueError: A pattern of `skip` fits no parameter.
        """
        every = (*space.embeddings, *space.weights)
        must_match("skip", self.skip, [weight.name for weight in every])
        return [
            self._group(space, weight)
            for weight in (every if self.embeddings else space.weights)
            if not (self._convolutional and len(weight.shape) < 3)
            and not matches(weight.name, self.skip)
        ]

    def _group(self, space: Space, weight: Weight) -> WeightGroup:
        # The entries of an embedding have no output channels.
        blocks = self.unit.endswith("x1") and weight in space.embeddings
        return WeightGroup(weight, "weight" if blocks else self.unit)

    @property
    def _convolutional(self) -> bool:
        return self.layers == "conv" or self.unit == "kernel"

    def left_out(self, space: Space) -> list[Frozen]:
        """Return nothing: single weights leave every channel in place."""
        return []

    def mask(self, space: Space, keep: Keep) -> Mask:
        """Return the mask over every parameter; what `keep` does not name stays whole."""
        mask = space.mask({})
        for weight in (*space.embeddings, *space.weights):
            if weight.name in keep:
                group = self._group(space, weight)
                mask[weight.name] = group.expand(keep[weight.name].cpu())
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
class WholeGroups:
    """Whole groups of grouped convolutions: the others keep their width, and there are fewer.

    A group goes with the channels that it reads and writes. Only groups that factors can be put on
    (see `Structured`) may go.

    Args:
        skip: Shell patterns of group (layer) names to leave alone.
    """

    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_patterns(self.skip)

    def groups(self, space: Space) -> list[UnitGroup]:
        """Return one group of units per set of grouped convolutions whose groups go together.

        Raises:
            ValueError: A pattern of `skip` fits no layer.
        """
        must_match("skip", self.skip, [group.name for group in _grouped(space)])
        left = {frozen.name for frozen in self.left_out(space)}
        return [Channels(group) for group in _grouped(space) if group.name not in left]

    def left_out(self, space: Space) -> list[Frozen]:
        """Return the channels that could go but are not touched, with the reason."""
        left = []
        for group in space.groups:
            if not group.grouped:
                left.append(Frozen(group.name, group.size, "is no group of a convolution"))
            elif matches(group.name, self.skip):
                left.append(Frozen(group.name, group.size, "is skipped by the method"))
            elif group.ungated:
                left.append(Frozen(group.name, group.size, group.ungated))
        return left

    def mask(self, space: Space, keep: Keep) -> Mask:
        """Return the mask over every parameter and channel-carrying buffer."""
        return space.mask(keep)


def _grouped(space: Space) -> list[ChannelGroup]:
    return [group for group in space.groups if group.grouped]


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


def trace_for(
    granularity: Granularity,
    model: nn.Module,
    example: Example,
    *,
    also: Sequence[Example] = (),
    exact: bool = True,
) -> Space:
    """Work out what can be removed where units are those of a granularity; see `trace`.

    Masks are read by the space that they were made with: heads and their widths, whole groups and
    channels inside of them, are other units.
    """
    return trace(
        model,
        example,
        also=also,
        exact=exact,
        inside_heads=isinstance(granularity, Structured) and granularity.inside_heads,
        whole_groups=isinstance(granularity, WholeGroups),
    )


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


def first_match(name: str, values: Mapping[str, float], otherwise: T) -> float | T:
    """Return the value of the first shell pattern that `name` fits, or `otherwise`."""
    return next((value for one, value in values.items() if matches(name, (one,))), otherwise)
