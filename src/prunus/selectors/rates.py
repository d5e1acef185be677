"""Layers that lose the same share of what remains again and again, each at a rate of its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.selectors.base import Decision
from prunus.selectors.topk import TopK
from prunus.space import Space, UnitGroup, first_match, must_match
from prunus.types import Keep, Scores, Target

_USUAL = 0.2


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The units of highest score, (1 - rate)^k of each layer after k rounds.

    Without a target, k is the progress of the schedule times `rounds`. With one, k is such that all
    layers together keep what is asked, so that the rates say only how layers share the loss. Counts
    are exact: a layer of n units keeps round(n (1 - rate)^k). What is gone stays gone.

    Source: the layer-wise rates of Frankle and Carbin, ICLR 2019, arXiv:1803.03635, section 2 and
    figure 2; `scope="global"` is that of their section 4.

    Args:
        rate: Share of what remains that a round removes, in (0, 1); None for 0.2.
        rates: Shell pattern of group names -> a layer's own rate, in [0, 1); first match wins.
        last: Factor on `rate` for the network's last layer in order of use, in [0, 1].
        scope: "layer", or "global" for one ranking over all layers, which have one rate then.
        rounds: How many rounds the schedule is long.

    Raises:
        ValueError: A field is out of range, or layers are to differ in a global ranking.
    """

    rate: float | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    last: float = 1.0
    scope: Literal["layer", "global"] = "layer"
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.scope not in ("layer", "global"):
            raise ValueError(f"scope must be 'layer' or 'global', got {self.scope!r}.")
        if self.rate is not None and not 0 < self.rate < 1:
            raise ValueError(f"rate must be in (0, 1), got {self.rate:g}.{_hint(self.rate)}")
        for pattern, rate in self.rates.items():
            if not 0 <= rate < 1:
                raise ValueError(
                    f"rates[{pattern!r}] must be in [0, 1), got {rate:g}.{_hint(rate)}"
                )
        if not 0 <= self.last <= 1:
            raise ValueError(f"last must be in [0, 1], got {self.last:g}.")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}.")
        if self.scope == "global" and (self.rates or self.last != 1):
            raise ValueError(
                "layers ranked together have one rate; leave rates and last out, or take "
                "scope='layer'."
            )

    def check_target(self, target: Target) -> None:
        """Refuse a target that the given rate does not lead to in the given number of rounds.

        Raises:
            TargetError: It takes another number of rounds, to the nearest whole one.
        """
        density = target.kept
        if self.rate is None or target.metric not in ("sparsity", "density"):
            return
        needed = max(1, round(math.log(density) / math.log(1 - self.rate)))
        if needed != self.rounds:
            raise TargetError(
                f"{target.metric} {target.value:g} takes {needed} rounds at a rate of "
                f"{self.rate:g}, got rounds={self.rounds}; give that number, or leave out the "
                "rate or the target."
            )

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; without a target the progress of the schedule says how much.

        Raises:
            TargetError: The target is a cost.
            ValueError: A score is NaN, or a pattern of `rates` fits no group.
        """
        must_match("rates", self.rates, [group.name for group in groups])
        output = space.weights[-1].name if space.weights else ""
        kept = [1 - self._rate(group, output in group.tensors) for group in groups]
        if target is None:
            time = self.rounds * evidence.progress
        else:
            time = _time([group.size for group in groups], kept, _density(target))
        ranked = {
            name: score.masked_fill(~evidence.keep[name], -math.inf)
            if name in evidence.keep
            else score
            for name, score in scores.items()
        }
        pools = [list(groups)] if self.scope == "global" else [[group] for group in groups]
        keep: Keep = {}
        for pool, share in zip(pools, kept, strict=False):  # in a global ranking all are the same
            gone = Target(sparsity=1 - share**time)
            keep |= TopK().select(space, pool, ranked, gone).keep
        return Decision(keep)

    def _rate(self, group: UnitGroup, is_last: bool) -> float:
        usual = _USUAL if self.rate is None else self.rate
        return first_match(group.name, self.rates, usual * (self.last if is_last else 1))


def _density(target: Target) -> float:
    if target.metric not in ("sparsity", "density"):
        raise TargetError(
            f"{target.metric} {target.value:g} is a cost, and rates are shares of units; ask for "
            "sparsity or density."
        )
    return target.kept


def _time(sizes: Sequence[int], kept: Sequence[float], density: float) -> float:
    """Return after how many rounds, a fraction too, layers together have the density."""
    least = sum(size for size, share in zip(sizes, kept, strict=True) if share == 1)
    if density * sum(sizes) <= least and density < 1:
        raise TargetError(
            f"density {density:g} cannot be reached: layers with a rate of 0 alone hold "
            f"{least / sum(sizes):.3f} of the units."
        )

    def left(time: float) -> float:
        return sum(size * math.pow(share, time) for size, share in zip(sizes, kept, strict=True))

    low, high = 0.0, 1.0
    while left(high) > density * sum(sizes):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > density * sum(sizes) else (low, middle)
    return high if density < 1 else 0.0


def _hint(rate: float) -> str:
    return f" Did you mean {rate / 100:g}?" if 1 < rate < 100 else ""
