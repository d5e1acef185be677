"""Scores that let some removed weights return: drop the smallest, grow as many others."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
from torch import Tensor

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup
from prunus.types import Scores


@dataclass(frozen=True, kw_only=True)
class DropGrow:
    """Weights that stay before those that return, before all others, at an unchanged number.

    Of the present weights of a layer the share `fraction / 2 (1 + cos(pi t))` of smallest magnitude
    goes, where t is how much of the schedule is over, and as many of the others return: at random
    (Mocanu et al., "SET", Nature Communications 2018, arXiv:1707.04780) or where the gradient of
    the loss is largest (Evci et al., "RigL", ICML 2020, arXiv:1911.11134, section 3). Before there
    is a decision, weights are chosen at random.

    Args:
        grow: Which weights return.
        fraction: The share that is exchanged at first, in (0, 1).
    """

    grow: Literal["random", "gradient"] = "gradient"
    fraction: float = 0.3

    def __post_init__(self) -> None:
        if self.grow not in ("random", "gradient"):
            raise ValueError(f"grow must be 'random' or 'gradient', got {self.grow!r}.")
        if not 0 < self.fraction < 1:
            raise ValueError(f"fraction must be in (0, 1), got {self.fraction:g}.")

    @property
    def dense_gradients(self) -> bool:
        """Whether masked weights are to have gradients in the step before an update."""
        return self.grow == "gradient"

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return 2 and more for what stays, 1 for what returns, less for the rest.

        Raises:
            ValueError: Weights are to return by their gradients, and there are none.
        """
        share = self.fraction / 2 * (1 + cos(pi * evidence.progress))
        return {group.name: self._of(group, evidence, share) for group in groups}

    def _of(self, group: UnitGroup, evidence: Evidence, share: float) -> Tensor:
        chance = torch.rand(group.size, generator=evidence.generator)
        present = evidence.keep.get(group.name)
        if present is None:
            return chance
        size = group.gather(evidence.weights).abs().sum(dim=1).float().cpu()
        growth = chance
        count = min(int(share * int(present.sum())), int((~present).sum()))
        if self.grow == "gradient" and count:
            try:
                growth = group.gather(evidence.gradients_now).abs().sum(dim=1).float().cpu()
            except KeyError as error:
                raise ValueError(
                    f"{error.args[0]!r} has no gradient to grow weights by; call pruner.step after "
                    "optimizer.step and before optimizer.zero_grad, and leave weights that are not "
                    "trained out with skip."
                ) from None
        stays = present.clone()
        stays[_extreme(size, present, count, largest=False)] = False
        returns = torch.zeros_like(present)
        returns[_extreme(growth, ~present, count, largest=True)] = True
        rank = size / (2 * float(size.max()) or 1.0)
        return torch.where(stays, 2 + rank, torch.where(returns, torch.ones(()), rank))


def _extreme(values: Tensor, among: Tensor, count: int, *, largest: bool) -> Tensor:
    """Return where the largest or smallest values are, ties in order of index."""
    places = among.nonzero().ravel()
    if not count:
        return places[:0]
    found = -values[places] if largest else values[places]
    limit = found.kthvalue(count).values
    first, tied = found < limit, found == limit
    return places[first | tied & (tied.cumsum(0) <= count - first.sum())]
