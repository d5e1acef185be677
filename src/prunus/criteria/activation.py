"""Scores from what the network computes on samples: no targets, no gradients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from prunus.criteria.base import Evidence
from prunus.criteria.flattened import as_maps, before_flattening
from prunus.criteria.sight import unread, unseen
from prunus.space import UnitGroup
from prunus.space.unit_groups import Channels, WeightGroup
from prunus.space.units import Member
from prunus.types import Scores


@dataclass(frozen=True)
class ActiveShare:
    """Share of a channel's activations that are not zero, where the next layer reads them.

    Source: Hu et al., "Network Trimming", 2016, arXiv:1607.03250, section 3.1: 1 - APoZ, the
    average percentage of zeros.
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the shares, in [0, 1]."""
        return _per_map(groups, evidence, lambda maps: (maps != 0).float().mean(dim=(-2, -1)))

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return the channels that no layer is seen to read."""
        return unread(groups, evidence, _readers)


@dataclass(frozen=True)
class Rank:
    """Average rank of a channel's feature maps, where the next layer reads them.

    Source: Lin et al., "HRank", CVPR 2020, arXiv:2002.10179, section 3.2. Maps that a linear layer
    reads flattened are put together again. Channels without a map (of a linear layer) have rank one
    where they are active.
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the ranks, from 0 to the shorter side of a map."""
        return _per_map(groups, evidence, lambda maps: torch.linalg.matrix_rank(maps).float())

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return the channels that no layer is seen to read."""
        return unread(groups, evidence, _readers)


@dataclass(frozen=True)
class InputNorm:
    """|w| times the norm of the input that it multiplies, over all samples.

    For linear layers and for convolutions, whose inputs are the channels they read. Source: Sun et
    al., "Wanda", ICLR 2024, arXiv:2306.11695, equation 1.
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return one score per weight, or kernel, >= 0."""
        layers = {g.name: g.name.rpartition(".")[0] for g in groups if isinstance(g, WeightGroup)}
        if len(layers) < len(groups):
            raise ValueError("input norms score weights, not channels; prune single weights.")
        squares: dict[str, Tensor] = {}
        for found in evidence.inputs(list(dict.fromkeys(layers.values()))):
            for name, x in ((name, x) for name, calls in found.items() for x in calls):
                channels = _channels_first(x, evidence.model.get_submodule(name))
                norm = channels.double().square().sum(dim=1)
                squares[name] = squares[name] + norm if name in squares else norm
        scores: Scores = {}
        for group in groups:
            weight = evidence.weights[group.name].abs()
            square = squares.get(layers[group.name])
            if square is None:
                raise ValueError(
                    f"no batch of the calibration reaches {layers[group.name]!r}, so what "
                    f"{group.name!r} multiplies is not seen; leave it out with skip."
                )
            into = square.sqrt().to(weight)
            spread = into.reshape(-1, weight.shape[1])  # each group of a convolution reads its own
            rows = spread.repeat_interleave(weight.shape[0] // len(spread), dim=0)
            view = rows.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
            entries = group.gather({group.name: weight * view})
            scores[group.name] = entries.sum(dim=1).float().cpu()
        return scores

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return the weights whose input is not seen."""
        return unseen(groups, evidence)


def _channels_first(x: Tensor, layer: nn.Module) -> Tensor:
    """Return what a layer reads as (channels, everything else)."""
    dim = -1
    if isinstance(layer, _ConvNd):
        dim = 1 if x.ndim > len(layer.kernel_size) + 1 else 0  # there may be no batch
    return x.movedim(dim, 0).reshape(x.shape[dim], -1)


def _per_map(
    groups: Sequence[UnitGroup], evidence: Evidence, measure: Callable[[Tensor], Tensor]
) -> Scores:
    """Average a measure of feature maps, (..., rows, columns) -> (...), over all samples."""
    found_by = {}
    for group in groups:
        found_by[group.name] = (
            _readers(group, evidence.model) if isinstance(group, Channels) else []
        )
        if not found_by[group.name]:
            raise ValueError(
                f"no convolution or linear layer reads {group.name!r} as channels as they are, so "
                "what they compute is not seen; leave it out with skip, or take a criterion of the "
                "weights."
            )
    total = {group.name: torch.zeros(group.size) for group in groups}
    count = dict.fromkeys(total, 0)
    layers = [*dict.fromkeys(reader.layer for found in found_by.values() for reader in found)]
    linear = {n for n in layers if isinstance(evidence.model.get_submodule(n), nn.Linear)}
    shapes = before_flattening(evidence, [*linear])
    for found in evidence.inputs(layers):
        for name, readers in found_by.items():
            reader = next((reader for reader in readers if reader.layer in found), None)
            if reader is None:
                continue
            for x in map(Tensor.float, found[reader.layer]):
                if reader.layer in linear:
                    x = x.reshape(-1, x.shape[-1])
                    maps = x[:, as_maps(reader.index, shapes.get(reader.layer, ()))]
                else:
                    maps = x.reshape(*x.shape[:2], -1, x.shape[-1])[:, reader.index]
                total[name] += measure(maps).mean(dim=2).sum(dim=0).cpu()  # over a unit's maps
                count[name] += len(x)
    for name, readers in found_by.items():
        if not count[name]:
            raise ValueError(
                f"no batch of the calibration reaches {readers[0].layer!r}, so what it reads of "
                f"{name!r} is not seen; leave it out with skip."
            )
    return {name: score / count[name] for name, score in total.items()}


def _readers(group: Channels, model: nn.Module) -> list[Member]:
    """Return where layers read the channels of a group as they are: none but those of the group.

    A transposed convolution will do, since only its input counts.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found = []
    for member in group.group.members:
        layer = modules.get(member.layer)
        plain = isinstance(layer, nn.Linear) or getattr(layer, "groups", 0) == 1
        dim = 0 if getattr(layer, "transposed", False) else 1
        if plain and member.tensor.endswith("weight") and member.dim == dim and not member.produces:
            found.append(member)
    return found
