"""Keep the weights whose gain per second is above that of the network as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.selectors.base import Decision
from prunus.selectors.rank import lowest
from prunus.selectors.time_model import TimeModel
from prunus.space import Space, UnitGroup
from prunus.types import Scores, Target


@dataclass(frozen=True, kw_only=True)
class RatioGreedy:
    """Maximise gain / seconds over the weights kept; weights may go, stay or return.

    The gain is the sum of the scores of what is kept, and of the evidence's gathered sums where
    nothing is pruned (biases, norms). Of each layer's n present weights all but the int(d n)
    smallest stay in any case; these and the absent ones are taken in order of score per second as
    long as that exceeds gain / seconds of what is taken already, which is optimal.

    Source: Jiang et al., "PruneFL", IEEE TNNLS 2022, arXiv:1909.12326, section IV, algorithm 2; d
    as in their code.
    Deviation: exact counts, ties kept in order of index; the code keeps all weights that tie with
    the int(d n)-th smallest.

    Args:
        time: Seconds of a round.
        share: d at the beginning, in (0, 1).
        halvings: How often d halves over the schedule, at least 0; 1 over the authors' 10,000
            rounds.

    Raises:
        ValueError: A field is out of range.
    """

    time: TimeModel = field(default_factory=TimeModel)
    share: float = 0.3
    halvings: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share must be in (0, 1), got {self.share:g}.")
        if not self.halvings >= 0:
            raise ValueError(f"halvings must be at least 0, got {self.halvings:g}.")

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; a target of density or sparsity bounds how many weights may stay.

        What stays in any case does so above the bound, too.
        """
        share = self.share * 0.5 ** (self.halvings * evidence.progress)
        keep = {group.name: _certain(group, evidence, share) for group in groups}
        owned = {name for group in groups for name in group.tensors}
        others = [x.double().sum() for n, x in evidence.gathered.items() if n not in owned]
        gain = float(sum(others, torch.zeros((), dtype=torch.float64)))
        seconds = self.time.constant_seconds
        gains, prices, places = [], [], []
        for group in groups:
            score, certain = scores[group.name].double(), keep[group.name]
            price = self.time.weight_seconds(group)
            gain += float(score[certain].sum())
            seconds += price * int(certain.sum())
            free = (~certain).nonzero().ravel()
            places.append(free)
            gains.append(score[free])
            prices.append(torch.full((len(free),), price, dtype=torch.float64))
        most = None
        if target is not None:
            total = sum(group.size for group in groups)
            most = max(0, round(target.kept * total) - sum(int(k.sum()) for k in keep.values()))
        taken = ratio_greedy(gain, seconds, torch.cat(gains), torch.cat(prices), most)
        start = 0
        for group, free in zip(groups, places, strict=True):
            keep[group.name][free[taken[start : start + len(free)]]] = True
            start += len(free)
        return Decision(keep)


def ratio_greedy(
    gain: float, seconds: float, gains: Tensor, prices: Tensor, most: int | None = None
) -> Tensor:
    """Choose the subset that maximises (gain + its gains) / (seconds + its prices).

    Args:
        gain: Of what is kept in any case.
        seconds: That takes so long, above 0.
        gains: float64 (candidates,), at least 0.
        prices: float64 (candidates,), seconds, at least 0.
        most: At most so many are chosen, those of the highest gain per second.

    Returns:
        bool (candidates,).

    Raises:
        ValueError: What is kept in any case takes no time.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, got {seconds:g}.")
    ratios = torch.where(gains > 0, gains / prices, 0.0)  # infinite for what takes no time
    chosen = torch.zeros(len(gains), dtype=torch.bool)
    # the ratio of what is taken only grows, so what does not exceed it now never will
    worth = (ratios > gain / seconds).nonzero().ravel()
    order = worth[torch.sort(ratios[worth], descending=True, stable=True).indices]
    if not len(order) or most == 0:
        return chosen
    after = (gain + gains[order].cumsum(0)) / (seconds + prices[order].cumsum(0))
    before = torch.cat([torch.tensor([gain / seconds], dtype=torch.float64), after[:-1]])
    stop = (ratios[order] <= before).nonzero().ravel()
    count = int(stop[0]) if len(stop) else len(order)
    chosen[order[: count if most is None else min(count, most)]] = True
    return chosen


def _certain(group: UnitGroup, evidence: Evidence, share: float) -> Tensor:
    """Return the present units without the smallest `share` of them."""
    certain = evidence.keep.get(group.name, torch.ones(group.size, dtype=torch.bool)).clone()
    size = group.gather(evidence.weights).abs().sum(dim=1).float().cpu()
    present = certain.nonzero().ravel()
    (small,) = lowest([size[present]], int(share * len(present)))
    certain[present[small]] = False
    return certain
