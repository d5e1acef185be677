"""Learn how many weights to keep while training, from whether fewer would be cheaper."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.selectors.base import Decision
from prunus.selectors.time_model import TimeModel
from prunus.space import Space, UnitGroup
from prunus.types import Scores, Target


@dataclass(frozen=True, kw_only=True)
class OnlineSize:
    """Take a step in the number of kept weights against the sign of the cost's derivative.

    The cost of k weights is seconds / gain: how long a round takes for what it lowers the loss by.
    In decision m it is compared for the k weights that are present and for the k - step / 2 largest
    of them; the next number is k - step if fewer are cheaper and k + step if not, with step =
    (most - least) / sqrt(2 m). Of the present weights the largest stay; of the absent ones those
    with the largest gain come first.

    Source: Han, Wang and Leung, "Adaptive Gradient Sparsification for Efficient Federated Learning:
    An Online Learning Approach", ICDCS 2020, arXiv:2001.04756, algorithms 2 and 3, on model size as
    Jiang et al., IEEE TNNLS 2022, arXiv:1909.12326, section VI, compare PruneFL with it.
    Deviation: what a round lowers the loss by is taken from gathered squared gradients, as in
    PruneFL, where the source evaluates the loss of both networks; the range of k is not narrowed.

    Args:
        time: Seconds of a round.
        decisions: How many there are over the schedule, which `Evidence.progress` counts.
        least: Smallest share of the weights, in (0, 1).

    Raises:
        ValueError: A field is out of range.
    """

    time: TimeModel = field(default_factory=TimeModel)
    decisions: int = 20
    least: float = 0.01

    def __post_init__(self) -> None:
        if self.decisions < 1:
            raise ValueError(f"decisions must be at least 1, got {self.decisions}.")
        if not 0 < self.least < 1:
            raise ValueError(f"least must be in (0, 1), got {self.least:g}.")

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; a target of density or sparsity is the largest share."""
        sizes = [group.size for group in groups]
        total = sum(sizes)
        gains = torch.cat([scores[group.name].double() for group in groups])
        prices = torch.cat(
            [
                torch.full((g.size,), self.time.weight_seconds(g), dtype=torch.float64)
                for g in groups
            ]
        )
        present = torch.cat([_present(group, evidence) for group in groups])
        order = _order(groups, evidence, gains, present)
        owned = {name for group in groups for name in group.tensors}
        others = sum(float(x.sum()) for n, x in evidence.gathered.items() if n not in owned)

        def cost(count: int) -> float:
            kept = order[:count]
            gain = others + float(gains[kept].sum())
            seconds = self.time.constant_seconds + float(prices[kept].sum())
            return seconds / gain if gain > 0 else float("inf")

        most = total if target is None else round(target.kept * total)
        least = max(1, min(most, round(self.least * total)))
        number = 1 + round(evidence.progress * (self.decisions - 1))
        step = (most - least) / sqrt(2 * number)
        now = int(present.sum())
        fewer = max(least, round(now - step / 2))
        sign = -1 if cost(fewer) < cost(now) else 1
        count = min(most, max(least, round(now + sign * step)))
        keep = torch.zeros(total, dtype=torch.bool)
        keep[order[:count]] = True
        parts = torch.split(keep, sizes)
        return Decision({g.name: part.clone() for g, part in zip(groups, parts, strict=True)})


def _present(group: UnitGroup, evidence: Evidence) -> Tensor:
    return evidence.keep.get(group.name, torch.ones(group.size, dtype=torch.bool))


def _order(
    groups: Sequence[UnitGroup], evidence: Evidence, gains: Tensor, present: Tensor
) -> Tensor:
    """Return the places of all weights: the present by size, then the absent by gain."""
    size = torch.cat([g.gather(evidence.weights).abs().sum(dim=1).double().cpu() for g in groups])

    def ranked(places: Tensor, values: Tensor) -> Tensor:
        return places[torch.sort(values[places], descending=True, stable=True).indices]

    here, gone = present.nonzero().ravel(), (~present).nonzero().ravel()
    return torch.cat([ranked(here, size), ranked(gone, gains)])
