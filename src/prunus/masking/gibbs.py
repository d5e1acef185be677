"""Masks drawn anew for every forward, from a distribution that hardens while training goes on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.masking.base import Site
from prunus.masking.hard import Hard
from prunus.masking.ising import chromatic, coupled, independent, quantile
from prunus.masking.substitution import Substitution
from prunus.space import UnitGroup
from prunus.space.unit_groups import Channels, WeightGroup
from prunus.space.units import Member
from prunus.types import Keep, Mask, Scores

Hamiltonian = Literal["weight", "kernel", "filter"]

_RANGE: dict[Hamiltonian, tuple[float, float]] = {
    "weight": (0.0, 4.0),
    "kernel": (0.0, 4.0),
    "filter": (-2.5, 0.0),
}
_COUPLING: dict[Hamiltonian, float] = {"weight": 0.0, "kernel": 0.01, "filter": 1.0}


@dataclass(frozen=True, kw_only=True)
class Gibbs:
    """Multiplies weights by masks sampled from exp(-beta H), with beta rising along a logarithm.

    Source: Labach and Valaee, GLOBECOM 2020, arXiv:2006.04981. Weights under a mask keep their
    values and may return; the mask is a constant in the backward pass. In eval mode the network
    computes with the weights, kernels or filters of largest mean square, which is also the mask at
    the end.
    Deviations: beta rises at every step instead of every epoch; the paper samples single weights in
    eval mode, too.

    Args:
        hamiltonian: Whether single weights, kernels or filters go: its energy lets the weights of a
            kernel, or of a filter, agree.
        beta: log10 of the first and of the last inverse temperature; the paper's by default.
        ramp: Share of the schedule after which beta rises no more.
        coupling: How strongly weights agree; the paper's by default.
        sweeps: Of the sampler of filters.

    Raises:
        ValueError: A field is out of range.
    """

    hamiltonian: Hamiltonian = "weight"
    beta: tuple[float, float] | None = None
    ramp: float = 0.64
    coupling: float | None = None
    sweeps: int = 50

    def __post_init__(self) -> None:
        if self.hamiltonian not in _RANGE:
            raise ValueError(
                f"hamiltonian must be one of {', '.join(_RANGE)}, got {self.hamiltonian!r}."
            )
        if not 0 < self.ramp <= 1:
            raise ValueError(f"ramp must be in (0, 1], got {self.ramp!r}.")
        if self.sweeps < 1:
            raise ValueError(f"sweeps must be at least 1, got {self.sweeps!r}.")

    def at(self, progress: float) -> float:
        """Return beta when a share `progress` of the schedule is over."""
        low, high = self.beta or _RANGE[self.hamiltonian]
        rising: float = 10 ** (low + (high - low) * min(1.0, progress / self.ramp))
        return rising

    @property
    def strength(self) -> float:
        """The coupling c."""
        return _COUPLING[self.hamiltonian] if self.coupling is None else self.coupling

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return the groups of which no masks can be sampled, such as heads -> why."""
        return {
            group.name: "is no filter of one layer, which masks are sampled for"
            for group in groups
            if not isinstance(group, WeightGroup) and _filters(group, evidence.weights) is None
        }

    def on(self, site: Site) -> "Sampled":
        """Begin on a network.

        Raises:
            TargetError: The target is not a share of units.
        """
        return Sampled(site, self)


class Sampled:
    """Sampled masks on a network until the schedule ends, and a hard one from then on.

    Args:
        site: The network.
        choice: The distribution.
    """

    mends = False

    def __init__(self, site: Site, choice: Gibbs) -> None:
        target = site.target
        if target is None or target.metric not in ("sparsity", "density"):
            raise TargetError("sampled masks need the share of units to go; ask for a sparsity.")
        self.choice = choice
        self._share = target.removed
        self._model, self._end = site.model, max(1, site.end)
        weights = dict(site.model.named_parameters())
        self._units = [_Units.of(group, weights) for group in site.groups]
        self._space = site.space
        self._hard = Hard(site.model)
        self._substitution = Substitution(site.model, self._masked)
        self._steps = 0
        self._seed = int(torch.randint(2**62, (), generator=site.generator))
        self._generator = torch.Generator().manual_seed(self._seed)

    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Take up the final mask."""
        self._hard.set(mask, optimizer)

    def load(self, mask: Mask) -> None:
        """Take up a mask that was in place before."""
        self._hard.load(mask)

    def penalty(self) -> Tensor | float:
        """Return 0."""
        return 0.0

    def apply(self, rate: float | None = None, scale: float = 1.0) -> None:
        """Let beta rise; once the mask is final, hold it."""
        self._steps += 1
        self._substitution.restore()
        self._hard.apply()

    def settle(self) -> None:
        """End the sampling and hold the mask from now on."""
        self._substitution.detach()

    def detach(self) -> None:
        """Leave the network as it is: its masked weights are zero."""
        self._substitution.detach()
        self._hard.detach()

    def scores(self) -> Scores:
        """Return nothing: the weights say it all."""
        return {}

    def state(self) -> Mapping[str, Tensor]:
        """Return the step, and where the sampler's random numbers are."""
        return {"steps": torch.tensor(self._steps), "random": self._generator.get_state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        self._steps = int(state["steps"])
        device = next(iter(self._model.parameters())).device
        self._generator_on(device).set_state(state["random"])

    def _masked(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weights = {one.name: one.rows(parameters[one.name].detach()) for one in self._units}
        kept = self._sample(weights) if self._model.training else self._largest(weights)
        masked = {
            one.name: parameters[one.name] * one.back(kept[one.name], parameters[one.name])
            for one in self._units
        }
        if self.choice.hamiltonian == "filter":
            masked |= self._rest(
                {one.group: kept[one.name].any(dim=1) for one in self._units}, parameters
            )
        return masked

    def _rest(self, keep: Keep, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mask what belongs to whole filters beside their weights: biases, normalisations."""
        assert self._space is not None
        sampled = {one.name for one in self._units}
        return {
            name: parameters[name] * kept.to(parameters[name].device)
            for name, kept in self._space.mask(keep).items()
            if name in parameters and name not in sampled and not kept.all()
        }

    def _sample(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draw a mask for each tensor, shapes (units, entries)."""
        beta, choice = self.choice.at(self._steps / self._end), self.choice
        energy = {}
        start = {}
        for name, rows in weights.items():
            squares = rows.float().square()
            means = squares.mean(dim=1)
            level = quantile(means, self._share)
            energy[name] = level - squares
            start[name] = torch.where(means > level, 1.0, -1.0)
        alike: dict[tuple[int, int], list[str]] = defaultdict(list)
        for one in self._units:  # units of equal shapes are sampled together
            alike[one.halves].append(one.name)
        found: dict[str, Tensor] = {}
        for (n, _), names in alike.items():
            field = torch.cat([energy[name] for name in names])
            generator = self._generator_on(field.device)
            if choice.hamiltonian == "filter" and n:
                initial = torch.cat([start[name] for name in names]) * n
                parts = chromatic(
                    (field[:, :n], field[:, n:]),
                    initial,
                    beta,
                    choice.strength,
                    choice.sweeps,
                    generator,
                )
                drawn = torch.cat(parts, dim=1)
            elif choice.hamiltonian == "weight":
                drawn = independent(field, beta, generator)
            else:  # also filters of a single channel, which have no second half
                drawn = coupled(field, beta, choice.strength, generator)
            sizes = [len(energy[name]) for name in names]
            found |= dict(zip(names, torch.split(drawn, sizes), strict=True))
        return found

    def _largest(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep the units of largest mean square, shapes (units, 1)."""
        kept = {}
        for name, rows in weights.items():
            means = rows.float().square().mean(dim=1)
            count = max(1, len(means) - round(self._share * len(means)))
            kept[name] = torch.zeros_like(means, dtype=torch.bool)
            kept[name][means.topk(count).indices] = True
            kept[name] = kept[name][:, None]
        return kept

    def _generator_on(self, device: torch.device) -> torch.Generator:
        if self._generator.device.type != device.type:  # the model was moved
            self._generator = torch.Generator(device).manual_seed(self._seed)
        return self._generator


@dataclass(frozen=True)
class _Units:
    """Where the units of a group lie in their weight.

    Attributes:
        group: The group's name.
        name: The weight.
        dim: The dimension of the units; None where units are weights or kernels.
        entries: Weights of a unit.
        halves: Weights in the two halves of a unit's input channels.
    """

    group: str
    name: str
    dim: int | None
    entries: int
    halves: tuple[int, int]

    @classmethod
    def of(cls, group: UnitGroup, parameters: Mapping[str, Tensor]) -> "_Units":
        """Find the weight of a group.

        Raises:
            ValueError: Its units are no weights, kernels or filters of one layer.
        """
        if isinstance(group, WeightGroup) and group.height > 1:
            raise ValueError(
                f"masks are sampled for weights, kernels and filters, but {group.name!r} has "
                f"blocks of {group.height} output channels; take another unit."
            )
        if isinstance(group, WeightGroup):
            return cls(group.name, group.name, None, group.entries, (0, group.entries))
        made = _filters(group, parameters)
        if made is None:
            raise ValueError(
                f"{group.name!r} has units that are no filters of one layer; skip it, or sample "
                "weights or kernels."
            )
        dim, weight = made.dim, parameters[made.tensor]
        entries = weight.numel() // weight.shape[dim]
        inputs = weight.movedim(dim, 0).shape[1]
        first = inputs // 2 * (entries // inputs)
        return cls(group.name, made.tensor, dim, entries, (first, entries - first))

    def rows(self, weight: Tensor) -> Tensor:
        """Return the entries of each unit, shape (units, entries)."""
        moved = weight if self.dim is None else weight.movedim(self.dim, 0)
        return moved.reshape(-1, self.entries)

    def back(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return what `rows` gave, shape (units, entries) or (units, 1), laid out as the weight."""
        if self.dim is None:
            return rows.expand(-1, self.entries).reshape(weight.shape).to(weight.dtype)
        moved = weight.movedim(self.dim, 0).shape
        shaped = rows.expand(-1, self.entries).reshape(moved)
        return shaped.movedim(0, self.dim).to(weight.dtype)


def _filters(group: UnitGroup, parameters: Mapping[str, Tensor]) -> Member | None:
    """Return where the filters of a group are; None where its units are no filters of one layer."""
    made = group.group.producers if isinstance(group, Channels) else ()
    weights = [member for member in made if parameters[member.tensor].ndim > 1]
    return weights[0] if len(weights) == 1 and group.channels == 1 else None
