"""One number per unit, as a factor of the weights that read the unit.

Multiplying the columns of everything that reads a channel is multiplying the channel itself, after
its batch norm and whatever else lies in between: a factor of zero gives exactly what is computed
without the channel. On a residual stream one factor serves all that write into it. The factor of a
residual branch multiplies its last layer.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunus.masking.substitution import moved
from prunus.space import Space, UnitGroup


class Factors:
    """Where the factors of all units of some groups act.

    A vector of factors has one entry per unit, group after group.

    Args:
        space: What the groups belong to.
        groups: Channels that can be gated, or residual branches.

    Raises:
        ValueError: The units of a group have no place for a factor.

    Attributes:
        sizes: Units of each group.
        group_of: int64, shape (units,): the index of each unit's group.
    """

    def __init__(self, space: Space, groups: Sequence[UnitGroup]) -> None:
        self.names = [group.name for group in groups]
        self.sizes = [group.size for group in groups]
        self.count = sum(self.sizes)
        sizes = torch.tensor(self.sizes, dtype=torch.int64)
        self.group_of = torch.arange(len(groups)).repeat_interleave(sizes)
        self._space = space
        removable = [found.name for found in space.removable]
        self._places = torch.tensor([removable.index(name) for name in self.names])
        self._dense = space.widths({})
        # which factor each position of a (tensor, dimension) takes; the last one is a constant 1
        at: dict[tuple[str, int | None], Tensor] = {}
        first = 0
        for group in groups:
            if not group.factors:
                raise ValueError(f"the units of {group.name!r} have no place for a factor.")
            for factor in group.factors:
                size = 1 if factor.dim is None else space.shapes[factor.tensor][factor.dim]
                place = factor.tensor, factor.dim
                which = at.setdefault(place, torch.full((size,), self.count))
                which[factor.index] = torch.arange(first, first + group.size)[:, None]
            first += group.size
        self._at = at
        self._index = torch.cat(list(at.values()))
        self._lengths = [len(which) for which in at.values()]

    def multiplied(self, weights: Mapping[str, Tensor], factors: Tensor) -> dict[str, Tensor]:
        """Return the weights on which factors act, times them.

        Args:
            weights: Parameters by name.
            factors: Shape (units,); gradients reach it.
        """
        self._index = moved(self._index, factors.device)
        padded = torch.cat([factors, factors.new_ones(1)])
        parts = torch.split_with_sizes(padded.index_select(0, self._index), self._lengths)
        found: dict[str, Tensor] = {}
        for (name, dim), part in zip(self._at, parts, strict=True):
            weight = found.get(name, weights[name])
            view = [1] * weight.ndim
            if dim is not None:
                view[dim] = -1
            found[name] = weight * part.view(view).to(weight.dtype)
        return found

    @torch.no_grad()
    def fold(self, model: nn.Module, factors: Tensor) -> None:
        """Multiply the weights themselves, once and for all."""
        weights = dict(model.named_parameters())
        for name, value in self.multiplied(weights, factors).items():
            weights[name].copy_(value)

    def cost(self, metric: str, factors: Tensor) -> Tensor:
        """Return what is left of a cost, in [0, 1], when each unit counts as much as its factor.

        Gradients reach the factors. It is bilinear in the factors of what a layer reads and makes.

        Args:
            metric: "macs", "params" or "bytes", or "density" for the share of units.
            factors: Shape (units,).
        """
        if metric == "density":
            return factors.mean()
        sums = factors.new_zeros(len(self.sizes)).index_add(0, self._on(factors), factors)
        widths = self._dense.index_copy(0, self._places, sums.to(self._dense))
        cost = self._space.cost(metric)
        return cost.at(widths) / cost.dense

    def largest(self, values: Tensor) -> Tensor:
        """Mark the unit of largest value in each group, the first of equal ones; shape (units,)."""
        of, groups = self._on(values), len(self.sizes)
        most = values.new_full((groups,), float("-inf")).scatter_reduce(0, of, values, "amax")
        number = torch.arange(self.count, device=values.device)
        among = number.where(values == most.index_select(0, of), self.count)
        first = number.new_full((groups,), self.count).scatter_reduce(0, of, among, "amin")
        return torch.zeros_like(values, dtype=torch.bool).index_fill(0, first, True)

    def by_group(self, values: Tensor) -> dict[str, Tensor]:
        """Return group name -> its part of `values`, float32 on the CPU."""
        parts = torch.split_with_sizes(values.detach().float().cpu(), self.sizes)
        return dict(zip(self.names, parts, strict=True))

    def _on(self, values: Tensor) -> Tensor:
        self.group_of = moved(self.group_of, values.device)
        return self.group_of
