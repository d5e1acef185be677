"""What can be removed from a network and at what cost, as plain data for text, JSON and the page.

The dataclasses list every layer and group; `lines` makes one line of repeated blocks.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from prunus.report.quantities import percent
from prunus.space import Space
from prunus.space.cost import Cost
from prunus.space.units import ChannelGroup, Frozen

REMOVABLE = (
    "What can go is 1 - cost(one unit in every group) / cost(dense), the most that removing units "
    "can reach; a method stops earlier, where it keeps more units or multiples of eight."
)
"""What `Share.removable` is, for those who read it."""


@dataclass(frozen=True)
class UnitCost:
    """What the dense network saves when one unit goes.

    Attributes:
        params: Parameters.
        macs: Multiply-accumulates.
    """

    params: int
    macs: int


@dataclass(frozen=True)
class Group:
    """Units of which any may go.

    Attributes:
        name: The first layer that makes them.
        units: How many there are.
        coupled: The layers that make them, which lose them together; the first one included.
        readers: The layers that read them, or pass them on one by one.
        positions: Pixels or tokens at which they are computed.
        unit: What one of them costs; all cost the same.
    """

    name: str
    units: int
    coupled: tuple[str, ...]
    readers: tuple[str, ...]
    positions: int
    unit: UnitCost


@dataclass(frozen=True)
class BranchCost:
    """A residual branch that may go as a whole.

    Attributes:
        name: The layer that it ends with, and ":branch".
        cost: What the dense network saves without it.
    """

    name: str
    cost: UnitCost


@dataclass(frozen=True)
class Layer:
    """A layer that makes channels or multiplies by a weight.

    Attributes:
        name: The module, or the parameter where it has none.
        params: Its own parameters.
        macs: Multiply-accumulates by its weights. Products without a weight, as in attention, are
            no layer's.
        makes: The groups whose units it makes.
        reads: The groups whose units it reads or passes on.
        tied: Further layers that use its parameters.
    """

    name: str
    params: int
    macs: int
    makes: tuple[str, ...]
    reads: tuple[str, ...]
    tied: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """How much of one cost can go.

    Attributes:
        dense: The cost of the network as it is.
        least: Its cost when every group keeps a single unit.
    """

    dense: int
    least: int

    @property
    def removable(self) -> float:
        """1 - least / dense, the largest reduction that removing units can reach."""
        return 1 - self.least / self.dense if self.dense else 0.0


@dataclass(frozen=True)
class Reason:
    """Everything that stays for one reason.

    Attributes:
        reason: To be read after "each of them".
        layers: How many layers have such channels; one may have others too.
        channels: Of these layers, for this reason.
        params: Parameters of these layers in tensors of which no unit owns anything.
    """

    reason: str
    layers: int
    channels: int
    params: int


@dataclass(frozen=True)
class Coverage:
    """How much of a network can go, and why the rest cannot.

    Attributes:
        params: Of the parameters.
        macs: Of the multiply-accumulates.
        reasons: Most parameters first. They do not add up to what stays: a weight that reads
            removable channels shrinks although its own channels stay.
    """

    params: Share
    macs: Share
    reasons: tuple[Reason, ...]

    @property
    def sentence(self) -> str:
        """Both shares in a sentence."""
        if self.params.least == self.params.dense:
            return "No units can be removed."
        return (
            f"Up to {percent(self.params.removable, 2)} of the parameters and "
            f"{percent(self.macs.removable, 2)} of the MACs can go."
        )


@dataclass(frozen=True)
class Inspection:
    """All that `prunus inspect` knows of a network.

    Attributes:
        model: The network, as it was named.
        bytes: Of parameters and buffers.
        coverage: Parameters and multiply-accumulates in all, and how much of each can go.
        groups: What can go.
        branches: Residual branches that can go as a whole.
        frozen: What cannot, once per layer and reason; of a layer with several weights, such as an
            LSTM, the channels of each are counted.
        layers: In order of use, as far as it is known.
        unknown: Operations without a rule, with how often they were met.
    """

    model: str
    bytes: int
    coverage: Coverage
    groups: tuple[Group, ...]
    branches: tuple[BranchCost, ...]
    frozen: tuple[Frozen, ...]
    layers: tuple[Layer, ...]
    unknown: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, with the names of the attributes as keys.

        `params` and `macs` are at the top too; each share has its `removable`, rounded to six
        digits.
        """
        coverage = asdict(self.coverage)
        for key, share in (("params", self.coverage.params), ("macs", self.coverage.macs)):
            coverage[key]["removable"] = round(share.removable, 6)
        found = {
            "model": self.model,
            "params": self.coverage.params.dense,
            "macs": self.coverage.macs.dense,
            "bytes": self.bytes,
            "coverage": coverage,
            "groups": [asdict(group) for group in self.groups],
            "branches": [asdict(branch) for branch in self.branches],
            "frozen": [asdict(kept) for kept in self.frozen],
            "layers": [asdict(layer) for layer in self.layers],
            "unknown": dict(self.unknown),
        }
        return _lists(found)  # type: ignore[no-any-return]


def inspection(model: str, network: nn.Module, space: Space) -> Inspection:
    """Gather what `space` found in `network`.

    Args:
        model: How to call it.
        network: What `space` is the trace of; only the sizes of its parameters are read.
        space: What can be removed from it.
    """
    params, macs = _unit_costs(space.params), _unit_costs(space.macs)
    weights = {weight.name for weight in space.weights}
    groups = tuple(
        Group(
            group.name,
            group.size,
            group.coupled,
            _readers(group, weights),
            group.positions,
            UnitCost(params[k], macs[k]),
        )
        for k, group in enumerate(space.groups)
    )
    branches = tuple(
        BranchCost(branch.name, UnitCost(params[k], macs[k]))
        for k, branch in enumerate(space.branches, start=len(groups))
    )
    channels: dict[tuple[str, str], int] = defaultdict(int)
    for part in space.frozen:
        channels[part.name, part.reason] += part.channels
    frozen = tuple(Frozen(name, count, reason) for (name, reason), count in channels.items())
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    return Inspection(
        model=model,
        bytes=space.bytes.dense,
        coverage=Coverage(_share(space.params), _share(space.macs), _reasons(space, frozen, sizes)),
        groups=groups,
        branches=branches,
        frozen=frozen,
        layers=_layers(space, groups, frozen, sizes),
        unknown=dict(space.unknown),
    )


def _readers(group: ChannelGroup, weights: Iterable[str]) -> tuple[str, ...]:
    found = (m.layer for m in group.members if not m.produces and m.tensor in weights)
    return tuple(dict.fromkeys(found))


def _unit_costs(cost: Cost) -> list[int]:
    """Return for each group what goes with one unit of the dense network."""
    dense, found = float(cost.at(cost.widths)), []
    for k in range(len(cost.widths)):
        less = cost.widths.clone()
        less[k] -= 1
        found.append(round(dense - float(cost.at(less))))
    return found


def _share(cost: Cost) -> Share:
    return Share(cost.dense, round(float(cost.at(torch.ones_like(cost.widths)))))


def _reasons(
    space: Space, frozen: Iterable[Frozen], sizes: Mapping[str, int]
) -> tuple[Reason, ...]:
    touched = {member.tensor for group in space.groups for member in group.members}
    whole: dict[str, int] = defaultdict(int)
    for name, size in sizes.items():
        if name not in touched:
            whole[_owner(name)] += size
    parts: dict[str, list[Frozen]] = defaultdict(list)
    for kept in frozen:
        parts[kept.reason].append(kept)
    found = [
        Reason(
            reason,
            len(kept),
            sum(one.channels for one in kept),
            sum(whole[one.name] for one in kept),
        )
        for reason, kept in parts.items()
    ]
    return tuple(sorted(found, key=lambda reason: (-reason.params, -reason.channels)))


def _layers(
    space: Space, groups: Iterable[Group], frozen: Iterable[Frozen], sizes: Mapping[str, int]
) -> tuple[Layer, ...]:
    makes, reads, tied = (defaultdict[str, list[str]](list) for _ in range(3))
    for group in groups:
        for name in group.coupled:
            makes[name].append(group.name)
        for name in group.readers:
            reads[name].append(group.name)
    for further, first in space.tied.items():
        tied[_owner(first)].append(_owner(further))
    params, macs = (defaultdict[str, int](int) for _ in range(2))
    for name, size in sizes.items():
        params[_owner(name)] += size
    for weight in space.weights:
        macs[_owner(weight.name)] += weight.positions * sizes[weight.name]
    shown = {*macs, *makes, *(kept.name for kept in frozen)}
    return tuple(
        Layer(
            name,
            params[name],
            macs[name],
            tuple(makes[name]),
            tuple(reads[name]),
            tuple(dict.fromkeys(tied[name])),
        )
        for name in _in_order(space, params)
        if name in shown
    )


def _in_order(space: Space, defined: Iterable[str]) -> list[str]:
    """Sort layers by first use; where no product tells it, before the next one defined.

    A tied weight counts where it is defined: of an embedding that ends as the classifier, only the
    end is a product.
    """
    twice = set(space.tied.values())
    used = [_owner(weight.name) for weight in space.weights if weight.name not in twice]
    place = {name: k for k, name in reversed(list(enumerate(used)))}
    order, following = [], float(len(used))
    for name in reversed(list(defined)):
        following = place.get(name, following)
        order.append((following, name in place, name))
    return [name for _, _, name in sorted(reversed(order), key=lambda one: one[:2])]


def _owner(tensor: str) -> str:
    """Name the module that holds a tensor, or the tensor where that is the network itself."""
    return tensor.rpartition(".")[0] or tensor


def _lists(value: Any) -> Any:
    """Return `value` with lists for tuples, as JSON reads it back."""
    if isinstance(value, dict):
        return {key: _lists(one) for key, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, list | tuple) else value
