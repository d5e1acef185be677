"""The space of what can be removed from one network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from prunus.errors import UntraceableError
from prunus.space.branches import Branch, find
from prunus.space.capture import recorded
from prunus.space.cost import Cost, cost
from prunus.space.inputs import doubled, random_inputs
from prunus.space.labels import Atoms, Label, Labels
from prunus.space.recorder import record
from prunus.space.recording import Recording
from prunus.space.rules import RULES
from prunus.space.tracer import Tracer
from prunus.space.units import ChannelGroup, Frozen, Partition, partition
from prunus.space.unwrap import refuse_unready, unwrapped
from prunus.types import Example, Keep, Mask

_TRIES = 4  # random inputs are drawn so often to find what the example leaves out


@dataclass(frozen=True)
class Weight:
    """A parameter that multiplies activations, or an embedding: what weight pruning acts on.

    Attributes:
        name: The parameter.
        shape: Its shape; a convolution's is (out, in / groups, *kernel).
        positions: At how many places (pixels, tokens, times the example's batch) it is applied. An
            embedding multiplies nothing there.
    """

    name: str
    shape: tuple[int, ...]
    positions: int


@dataclass(frozen=True)
class Space:
    """Everything removable, everything frozen, and what all of it costs.

    Attributes:
        groups: Channels that may go, with everything coupled to them.
        branches: Residual branches that may go as a whole.
        frozen: Channels that may not, with the reason.
        weights: The parameters of convolutions and linear layers, in order of use.
        embeddings: Further parameters whose rows are looked up, in order of use.
        macs: Multiply-accumulates for the example input as given.
        params: Number of parameters.
        bytes: Bytes of parameters and buffers.
        unknown: ATen operations without a rule, with how often they were met.
        unseen: Parameters that no run has met, neither on the example nor on random inputs or in
            train mode. A branch that reads removed channels with them would fail.
        shapes: Shape of every parameter and channel-carrying buffer, tied ones once.
        tied: Further name -> first name of each tied parameter or buffer.
        averages: Every operation that averages over its input, in order: its name, and for each
            dimension the group (-1 for none) and the unit of each position. Filled where channels
            inside averages may go (`exact=False`).
        divided: Tensors by which the network divides; the mask has no zeros for a branch there.
        also: Further inputs that were traced; a small network must equal the masked one there too.
        recording: The forward as a graph, in eval mode.
    """

    groups: tuple[ChannelGroup, ...]
    branches: tuple[Branch, ...]
    frozen: tuple[Frozen, ...]
    weights: tuple[Weight, ...]
    embeddings: tuple[Weight, ...]
    macs: Cost
    params: Cost
    bytes: Cost
    unknown: Mapping[str, int]
    unseen: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    tied: Mapping[str, str]
    averages: tuple[tuple[str, dict[int, tuple[Atoms, Atoms]]], ...]
    divided: frozenset[str]
    also: tuple[Example, ...] = field(repr=False, compare=False)
    recording: Recording = field(repr=False, compare=False)

    @property
    def removable(self) -> tuple[ChannelGroup | Branch, ...]:
        """All that may go: the groups, then the branches."""
        return (*self.groups, *self.branches)

    def gone(self, keep: Keep) -> list[Branch]:
        """Return the branches that `keep` drops."""
        return [b for b in self.branches if b.name in keep and not keep[b.name].any()]

    def cost(self, name: str) -> Cost:
        """Return the cost model "macs", "params" or "bytes"."""
        if name not in ("macs", "params", "bytes"):
            raise ValueError(f"cost must be macs, params or bytes, got {name!r}.")
        found: Cost = getattr(self, name)
        return found

    def widths(self, keep: Keep) -> Tensor:
        """Return how many units each of `removable` keeps, float64, shape (removable,).

        What `keep` does not name keeps everything. Values may be soft (floats).
        """
        kept = [keep[g.name].sum() if g.name in keep else g.size for g in self.removable]
        parts = [torch.as_tensor(k, dtype=torch.float64).cpu().reshape(1) for k in kept]
        return torch.cat([torch.empty(0, dtype=torch.float64), *parts])

    def kept_positions(self, keep: Keep, *, masked: bool = False) -> dict[tuple[str, int], Tensor]:
        """Return for each touched (tensor, dim) which positions stay, bool, shape (size,).

        Args:
            keep: Group name -> bool, shape (units,).
            masked: Only where the masked network has zeros.
        """
        kept: dict[tuple[str, int], Tensor] = {}
        for group in self.groups:
            gone = (~keep[group.name].cpu()).nonzero().ravel() if group.name in keep else ()
            if not len(gone):
                continue
            for member in group.members:
                if masked and not member.masked:
                    continue
                where = (member.tensor, member.dim)
                if where not in kept:
                    size = self.shapes[member.tensor][member.dim]
                    kept[where] = torch.ones(size, dtype=torch.bool)
                kept[where][member.index[gone].ravel()] = False
        return kept

    def remaining(self, keep: Keep) -> list[tuple[str, dict[int, Tensor]]]:
        """Return for each averaging operation which positions of its dimensions remain."""
        found = []
        for name, dims in self.averages:
            kept = {}
            for dim, (owner, unit) in dims.items():
                stays = np.ones(len(owner), dtype=bool)
                for g in np.unique(owner[owner >= 0]):
                    if self.groups[g].name in keep:
                        mine = owner == g
                        stays[mine] = keep[self.groups[g].name].cpu().numpy()[unit[mine]]
                kept[dim] = torch.from_numpy(stays)
            found.append((name, kept))
        return found

    def mask(self, keep: Keep) -> Mask:
        """Return the mask of a channel decision over every parameter and channel buffer."""
        mask = {name: torch.ones(shape, dtype=torch.bool) for name, shape in self.shapes.items()}
        for (name, dim), kept in self.kept_positions(keep, masked=True).items():
            view = [1] * mask[name].ndim
            view[dim] = -1
            mask[name] &= kept.view(view)
        for branch in self.gone(keep):
            for name in branch.tensors:
                if name not in self.divided:
                    mask[name] = torch.zeros(self.shapes[name], dtype=torch.bool)
        return mask | {name: mask[first] for name, first in self.tied.items() if first in mask}


@torch.inference_mode(False)
def trace(
    model: nn.Module,
    example: Example,
    *,
    also: Sequence[Example] = (),
    exact: bool = True,
    inside_heads: bool = False,
    whole_groups: bool = False,
) -> Space:
    """Run `model` once on `example` and work out what can be removed.

    Args:
        model: Any network; it is left as it was, in its mode, on its device.
        example: One input tensor, a tuple of positional inputs or a dict of keyword inputs. Costs
            are counted for exactly this input, so a batch of one gives MACs per sample.
        also: Further inputs, of other sizes or with other arguments, that take other ways through
            the forward.
        exact: Keep channels that are averaged over (by a layer norm, say), because the average
            would change. With False they may go, and averages are over what remains.
        inside_heads: Let attention heads lose width, all of them alike, instead of whole heads go.
        whole_groups: Let groups of a grouped convolution go as a whole, instead of all of them
            lose width alike.

    Raises:
        UntraceableError: The model fails on `example`, or on one of `also`.
    """
    model = unwrapped(model)
    refuse_unready(model, example)
    if isinstance(also, Tensor | Mapping):
        raise TypeError(f"also must be a sequence of inputs, got {type(also).__name__}.")
    new = Tracer(Labels(inside=inside_heads), exact=exact, whole_groups=whole_groups)
    recording, averaged = _recorded(model, example, also, new)
    tracer = recording.tracer
    parts = partition(tracer)
    branches = find(recording, model)
    macs, params, bytes_ = _costs(model, tracer, parts, branches)
    carrying = {member.tensor for group in parts.groups for member in group.members}
    carrying |= {name for branch in branches for name in branch.tensors}
    parameters = dict(model.named_parameters())
    weights = _weights(tracer, parameters)
    named = parameters | {name: b for name, b in model.named_buffers() if name in carrying}
    return Space(
        groups=parts.groups,
        branches=branches,
        frozen=parts.frozen,
        weights=weights,
        embeddings=_embeddings(tracer, parameters, {weight.name for weight in weights}),
        macs=macs,
        params=params,
        bytes=bytes_,
        unknown=dict(tracer.unknown),
        unseen=tuple(tracer.unused(model)),
        shapes={name: tuple(tensor.shape) for name, tensor in named.items()},
        tied=_tied(model),
        averages=() if exact else _averages(averaged, parts),
        divided=frozenset(name for name, _ in tracer.unmasked),
        also=tuple(also),
        recording=recording,
    )


_Averaged: TypeAlias = list[tuple[str, dict[int, Label]]]


def _recorded(
    model: nn.Module, example: Example, also: Sequence[Example], new: Tracer
) -> tuple[Recording, _Averaged]:
    """Follow the model on all inputs.

    Returns:
        The recording, whose costs are those of the example, and the example's averages.
    """
    try:
        recording = recorded(model, example, tracer=new)
        tracer = recording.tracer
    except UntraceableError as error:  # perhaps because it was watched
        tracer = record(model, example, RULES, tracer=new.alike())
        recording = Recording(tracer, failure=str(error))
    averaged = list(tracer.averages)
    products, producers = list(tracer.products), dict(tracer.producers)
    lookups = tracer.lookups.copy()
    for further in also:
        record(model, further, RULES, tracer=tracer)
    if tracer.unused(model):
        _see_more(model, example, tracer)
    tracer.products, tracer.lookups = products, lookups
    tracer.producers |= producers
    return recording, averaged


def _averages(
    averaged: _Averaged, parts: Partition
) -> tuple[tuple[str, dict[int, tuple[Atoms, Atoms]]], ...]:
    """Return of each average the group and the unit of each position."""

    def owners(dims: dict[int, Label]) -> dict[int, tuple[Atoms, Atoms]]:
        moving = {dim: label for dim, label in dims.items() if not isinstance(label, str)}
        return {dim: (parts.group_of[x], parts.unit_of[x]) for dim, x in moving.items()}

    return tuple((name, owners(dims)) for name, dims in averaged)


def _costs(
    model: nn.Module, tracer: Tracer, parts: Partition, branches: tuple[Branch, ...]
) -> tuple[Cost, Cost, Cost]:
    """Return what multiplications, parameters and bytes depend on."""
    removable: tuple[ChannelGroup | Branch, ...] = (*parts.groups, *branches)
    there = [(tracer.labels.new(1), branch) for branch in branches]  # one position, or none
    inside: dict[str, list[Label]] = {}
    for one, branch in there:
        for name in branch.tensors:
            inside.setdefault(name, []).append(one)
    group_of = np.concatenate([parts.group_of, len(parts.groups) + np.arange(len(branches))])
    labels: dict[str, list[Label]] = {}
    for (name, _), slot in tracer.slots.items():
        labels.setdefault(name, []).append(slot.label)

    def sized(names: Mapping[str, Tensor], weigh: bool) -> list[tuple[int, list[Label]]]:
        terms = []
        for name, tensor in names.items():
            moving: list[Label] = [x for x in labels.get(name, []) if not isinstance(x, str)]
            fixed = tensor.numel() // max(1, prod(len(x) for x in moving))
            moving += inside.get(name, [])
            terms.append((fixed * (tensor.element_size() if weigh else 1), moving))
        return terms

    spent: list[tuple[int, list[Label]]] = [
        (p.factor, [*p.dims, *(one for one, branch in there if k in branch.products)])
        for k, p in enumerate(tracer.products)
    ]
    parameters = dict(model.named_parameters())
    everything = {**parameters, **dict(model.named_buffers())}
    return (
        cost("macs", spent, removable, group_of),
        cost("params", sized(parameters, False), removable, group_of),
        cost("bytes", sized(everything, True), removable, group_of),
    )


def _see_more(model: nn.Module, example: Example, tracer: Tracer) -> None:
    """Run what the example left out: branches that other inputs take, layers used in training.

    The channels of the latter stay, because no comparison in eval mode would cover them.
    """
    for seed in range(_TRIES):
        for drawn in random_inputs(example, seed):
            try:
                record(model, drawn, RULES, tracer=tracer)
            except UntraceableError:
                continue  # the model takes no such numbers
        if not tracer.unused(model):
            break
    producers, made = dict(tracer.producers), list(tracer.made)
    for given in (example, doubled(example)):
        try:
            record(model, given, RULES, training=True, tracer=tracer)
            break
        except UntraceableError:
            continue  # it needs targets, or more; `shrink` runs the result in train mode
    tracer.producers, tracer.made = producers, made


def _weights(tracer: Tracer, parameters: Mapping[str, Tensor]) -> tuple[Weight, ...]:
    used: dict[str, int] = {}
    for product in tracer.products:
        if product.name in parameters:
            shape = parameters[product.name].shape
            whole = product.factor
            for label in product.dims:
                whole *= len(label)
            used[product.name] = used.get(product.name, 0) + whole // max(1, shape.numel())
    return tuple(
        Weight(name, tuple(parameters[name].shape), positions) for name, positions in used.items()
    )


def _embeddings(
    tracer: Tracer, parameters: Mapping[str, Tensor], products: set[str]
) -> tuple[Weight, ...]:
    return tuple(
        Weight(name, tuple(parameters[name].shape), rows)
        for name, rows in tracer.lookups.items()
        if name not in products
    )


def _tied(model: nn.Module) -> dict[str, str]:
    first: dict[int, str] = {}
    tied: dict[str, str] = {}
    for named in (model.named_parameters, model.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            known = first.setdefault(id(tensor), name)
            if known != name:
                tied[name] = known
    return tied
