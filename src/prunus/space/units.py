"""From labels to units: which channels go together, and which of them are interchangeable."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunus.space.labels import Atoms, Label
from prunus.space.tracer import Slot, Tracer


@dataclass(frozen=True)
class Member:
    """Where a group's units live in one dimension of one parameter or buffer.

    Attributes:
        tensor: Name of the parameter or buffer.
        dim: The dimension.
        index: int64, shape (units, k): the k positions that each unit owns there.
        produces: Whether this dimension makes the channels (the outputs of a layer).
        masked: Whether the masked network has zeros there; not where it divides by the values.
        scales: Whether it is a batch norm's weight.
        reads: Whether the channels are multiplied by this dimension and summed over (the inputs of
            a layer).
    """

    tensor: str
    dim: int
    index: Tensor
    produces: bool
    masked: bool = True
    scales: bool = False
    reads: bool = False

    @property
    def layer(self) -> str:
        """Name of the module that owns the tensor, or of a parameter in a list."""
        return _layer(self.tensor)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of which any subset may be removed, each with everything coupled to it.

    Attributes:
        name: The first layer that produces the channels.
        size: How many units there are.
        members: Every place the units live in.
        positions: Pixels or tokens (times the example's batch) at which the channels are computed;
            groups of equal `positions` form a stage.
        ends: Whether the channels are summed over otherwise than by layers that read them, such as
            in a product of queries and keys.
        grouped: Whether each unit is a whole group of a grouped convolution.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    positions: int
    ends: bool = False
    grouped: bool = False

    @property
    def ungated(self) -> str:
        """Why factors of what reads the channels are no factors of the channels; "" if they are."""
        readers = self.readers
        if self.ends or not readers:
            return "is not only read by layers with weights of their own, so it has no gate"
        if any(member.produces for member in readers):
            return "is read by a weight that also makes it, so it has no gate"
        return ""

    @property
    def readers(self) -> tuple[Member, ...]:
        """The members that multiply the channels and sum over them."""
        return tuple(member for member in self.members if member.reads)

    @property
    def producers(self) -> tuple[Member, ...]:
        """The members that make the channels."""
        return tuple(member for member in self.members if member.produces)

    @property
    def coupled(self) -> tuple[str, ...]:
        """The layers whose outputs must be removed together."""
        return tuple(dict.fromkeys(member.layer for member in self.producers))


@dataclass(frozen=True)
class Frozen:
    """Channels that may not go.

    Attributes:
        name: The layer that produces them.
        channels: How many.
        reason: Why, to be read after "each of them ...".
    """

    name: str
    channels: int
    reason: str


@dataclass(frozen=True)
class Partition:
    """The outcome of tracing: groups, what is frozen, and which group each atom belongs to.

    Attributes:
        groups: What may be removed.
        frozen: What may not, with reasons.
        group_of: Shape (atoms,): the index of each atom's group, -1 for none.
        unit_of: Shape (atoms,): the index of each atom's unit in its group.
    """

    groups: tuple[ChannelGroup, ...]
    frozen: tuple[Frozen, ...]
    group_of: Atoms
    unit_of: Atoms


def partition(tracer: Tracer) -> Partition:
    """Sort the classes of atoms into groups of interchangeable units.

    Two classes are interchangeable when they own equally many positions of the same tensor
    dimensions and cost the same in every product. A class without a producer, or with a frozen
    atom, is no unit.
    """
    roots, reasons, texts = tracer.labels.classes()
    slots = [slot for slot in tracer.slots.values() if not isinstance(slot.label, str)]
    real = len(slots)  # what follows only tells units apart, it holds nothing to remove
    for k, product in enumerate(tracer.products):
        slots += [Slot(f"product {k}", dim, label) for dim, label in enumerate(product.dims)]
    atoms = _concatenate([slot.label for slot in slots if not isinstance(slot.label, str)])
    number = np.repeat(np.arange(len(slots)), [len(slot.label) for slot in slots])
    position = _concatenate([np.arange(len(slot.label)) for slot in slots])
    made = np.array([(slot.tensor, slot.dim) in tracer.producers for slot in slots], dtype=bool)

    ended, grouped = (_marked(roots, labels) for labels in (tracer.ends, tracer.grouped))

    owner = roots[atoms]
    own = [(slot.tensor, roots[np.asarray(slot.label)]) for slot in slots[:real]]
    _make(tracer, own, made, roots)
    produced = np.zeros(tracer.labels.size, dtype=bool)
    produced[owner[made[number]]] = True

    order = np.flatnonzero((produced & (reasons < 0))[owner])  # by slot and position, and stays so
    order = order[np.argsort(owner[order], kind="stable")]
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    places = number[order]

    groups: list[ChannelGroup] = []
    group_of = np.full(tracer.labels.size, -1, dtype=np.int64)
    unit_of = np.zeros_like(group_of)
    names: dict[str, int] = defaultdict(int)
    # each run holds, for one unit, its positions slot by slot; runs of one kind form a table
    for columns, runs in sorted(_alike(places, starts), key=lambda kind: int(order[kind[1][0]])):
        table = order[runs[:, None] + np.arange(len(columns))]
        first = int(np.flatnonzero(made[columns])[0])
        table = table[np.argsort(position[table[:, first]], kind="stable")]
        begins = np.flatnonzero(np.diff(columns, prepend=-1)).tolist()
        members = [
            Member(
                slots[k].tensor,
                slots[k].dim,
                torch.from_numpy(position[table[:, begin:end]]),
                bool(made[k]),
                (slots[k].tensor, slots[k].dim) not in tracer.unmasked,
                slots[k].tensor in tracer.scales,
                (slots[k].tensor, slots[k].dim) in tracer.reads,
            )
            for begin, end in pairwise([*begins, len(columns)])
            if (k := int(columns[begin])) < real
        ]
        group_of[owner[table[:, 0]]] = len(groups)
        unit_of[owner[table[:, 0]]] = np.arange(len(table))
        producers = [member for member in members if member.produces]
        layer = producers[0].layer
        names[layer] += 1
        suffix = f"[{names[layer]}]" if names[layer] > 1 else ""
        positions = max(tracer.producers.get((m.tensor, m.dim), 1) for m in producers)
        notes = (bool(marked[owner[table[:, 0]]].any()) for marked in (ended, grouped))
        groups.append(ChannelGroup(layer + suffix, len(runs), tuple(members), positions, *notes))
    frozen = []
    for k in map(int, np.flatnonzero(made)):
        tensor, classes = own[k]
        why = reasons[classes]
        for reason in dict.fromkeys(why[why >= 0].tolist()):
            frozen.append(Frozen(_layer(tensor), int((why == reason).sum()), texts[reason]))
    frozen += _made_by_none(tracer, own, (reasons, texts), produced)
    return Partition(tuple(groups), tuple(dict.fromkeys(frozen)), group_of[roots], unit_of[roots])


def _marked(roots: Atoms, labels: Iterable[Label]) -> NDArray[np.bool_]:
    """Say of each class whether one of the labels holds it."""
    marked = np.zeros(len(roots), dtype=bool)
    marked[roots[_concatenate([x.ravel() for x in labels if not isinstance(x, str)])]] = True
    return marked


def _layer(tensor: str) -> str:
    layer, _, leaf = tensor.rpartition(".")
    return tensor if not layer or leaf.isdigit() else layer


def _make(
    tracer: Tracer, own: list[tuple[str, Atoms]], made: NDArray[np.bool_], roots: Atoms
) -> None:
    """Find the parameters that make channels after their dimensions were merged or glued.

    Args:
        tracer: Knows the labels of such channels.
        own: Of each dimension of parameters and buffers the tensor and the classes.
        made: Of each whether it makes channels; is added to.
        roots: The class of each atom.
    """
    unmade = np.zeros(len(roots), dtype=bool)
    for label, _ in tracer.made:
        unmade[roots[label.ravel()]] = True
    for k in map(int, np.flatnonzero(made[: len(own)])):
        unmade[own[k][1]] = False
    for k, (tensor, classes) in enumerate(own):
        if tensor in tracer.parameters and unmade[classes].any():
            made[k] = True
            unmade[classes] = False


def _made_by_none(
    tracer: Tracer,
    own: list[tuple[str, Atoms]],
    reasons: tuple[Atoms, list[str]],
    produced: NDArray[np.bool_],
) -> list[Frozen]:
    """Return what stays of parameters without any dimension that a layer makes.

    Args:
        tracer: Knows the parameters.
        own: Of each dimension of parameters and buffers the tensor and the classes.
        reasons: The number of each class's reason, and their texts.
        produced: The classes that a layer makes.
    """
    told = produced.copy()
    known = {tensor for tensor, classes in own if produced[classes].any()}
    frozen = []
    for tensor, classes in own:
        untold = classes[~told[classes]]
        if tensor not in tracer.parameters or not len(untold):
            continue
        for reason in dict.fromkeys(reasons[0][untold].tolist()):
            count = int((reasons[0][untold] == reason).sum())
            if reason < 0:
                frozen.append(Frozen(_layer(tensor), count, "is made by no layer that was seen"))
            elif tensor not in known:
                frozen.append(Frozen(_layer(tensor), count, reasons[1][reason]))
        told[untold] = True
    return frozen


def _alike(places: Atoms, starts: Atoms) -> list[tuple[Atoms, Atoms]]:
    """Sort runs of numbers by their content.

    Args:
        places: The runs, one after the other.
        starts: Where each begins.

    Returns:
        The content of each kind of run, and where the runs of that kind begin.
    """
    lengths = np.diff(starts, append=len(places))
    found = []
    for length in np.unique(lengths):
        begins = starts[lengths == length]
        rows = np.ascontiguousarray(places[begins[:, None] + np.arange(length)])
        whole = rows.view(np.dtype((np.void, rows.itemsize * length))).ravel()  # a row as one value
        _, first, kind = np.unique(whole, return_index=True, return_inverse=True)
        by_kind = begins[np.argsort(kind, kind="stable")]
        ends = np.cumsum(np.bincount(kind)).tolist()
        found += [
            (rows[row], by_kind[begin:end])
            for row, (begin, end) in zip(first.tolist(), pairwise([0, *ends]), strict=True)
        ]
    return found


def _concatenate(arrays: list[Atoms]) -> Atoms:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int64)
