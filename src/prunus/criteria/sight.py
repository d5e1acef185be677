"""Which units can be judged by what a layer reads: not every layer shows its input."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from torch import nn
from torch.nn.modules.conv import _ConvNd

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup
from prunus.space.unit_groups import Channels, WeightGroup
from prunus.space.units import Member

_UNREAD = (
    "is read by no convolution or linear layer, called as a module, that takes its channels as "
    "they are, so that what is made of them is not seen"
)
_UNSEEN = (
    "is not the weight of a linear layer, or of a convolution that is not transposed, called as a "
    "module, so that what it multiplies is not seen"
)

_TIED = (
    "is tied to {}, and not in all of these places the weight of a linear layer, or of a "
    "convolution that is not transposed, called as a module, so that not all it multiplies is seen"
)


@runtime_checkable
class Limited(Protocol):
    """A criterion, selector or masking that cannot judge every group: those stay whole."""

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return the groups that it cannot judge -> why, to follow the name of the group."""


def has_windows(layer: nn.Module | None) -> bool:
    """Say whether a layer is linear, or a convolution that is not transposed."""
    return isinstance(layer, nn.Linear | _ConvNd) and not getattr(layer, "transposed", False)


def unread(
    groups: Sequence[UnitGroup],
    evidence: Evidence,
    readers: Callable[[Channels, nn.Module], Sequence[Member]],
) -> dict[str, str]:
    """Return the groups of channels that none of their readers is seen to read, with the reason."""
    called = evidence.shapes()
    return {
        group.name: _UNREAD
        for group in groups
        if isinstance(group, Channels)
        and not any(reader.layer in called for reader in readers(group, evidence.model))
    }


def unseen(groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
    """Return the groups of weights whose input is not seen, with the reason.

    A weight that is tied, such as that of a head to an embedding, is to be seen in all its places.
    """
    called = evidence.shapes()
    modules = dict(evidence.model.named_modules(remove_duplicate=False))
    parameters = dict(evidence.model.named_parameters(remove_duplicate=False))

    def seen(name: str) -> bool:
        layer, _, leaf = name.rpartition(".")
        return leaf == "weight" and has_windows(modules.get(layer)) and layer in called

    found = {}
    for group in groups:
        if isinstance(group, WeightGroup):
            own = parameters[group.name]
            tied = [n for n, p in parameters.items() if p is own and n != group.name]
            if not all(map(seen, (group.name, *tied))):
                found[group.name] = _TIED.format(", ".join(tied)) if tied else _UNSEEN
    return found
