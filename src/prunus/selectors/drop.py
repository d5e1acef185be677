"""Drop some of the smallest weights by chance, and let some others return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.selectors.base import Decision
from prunus.selectors.reach import top
from prunus.space import Space, UnitGroup, first_match, must_match
from prunus.types import Keep, Scores, Target


@dataclass(frozen=True, kw_only=True)
class DropOutIn:
    """Each candidate goes with probability `p_out`, each weight that is gone returns with `p_in`.

    Candidates are the share `q` of the present units that score lowest. In the long run as many
    return as go: the sparsity s settles where q p_out (1 - s) = p_in s, and its distance to that
    shrinks by the factor 1 - q p_out - p_in from one decision to the next. Of layers with one p_in,
    one with a lower q settles at a lower sparsity; the target is that of all together. Source: Jia
    et al., "DropPruning for Model Compression", 2018, arXiv:1812.02035, for dropping out and in;
    the probabilities as they are here are ours.

    Args:
        q: Share of the present units that are candidates, in (0, 1); or shell pattern of group
            names -> a layer's own, first match wins; a layer that matches none stays whole.
        p_out: With which probability a candidate goes, in (0, 1].
        p_in: With which probability one that is gone returns, in [0, 1]; None for that with which
            the sparsity settles at the target, q p_out (1 - s) / s where all have one q.
        scope: Candidates are the lowest of each "layer", or of the whole network ("global").
        settle: From this share of the schedule on nothing returns, and no more is gone than the
            target says; the last decision meets it exactly, by score. Where chance has removed a
            few too many by then, as many return.

    Raises:
        ValueError: A field is out of range, or layers are to differ in a global ranking.
    """

    q: float | Mapping[str, float] = 0.2
    p_out: float = 0.5
    p_in: float | None = None
    scope: Literal["layer", "global"] = "layer"
    settle: float = 0.8

    def __post_init__(self) -> None:
        for pattern, q in self._patterns.items():
            if not 0 < q < 1:
                name = f"q[{pattern!r}]" if isinstance(self.q, Mapping) else "q"
                raise ValueError(f"{name} must be in (0, 1), got {q:g}.")
        if not 0 < self.p_out <= 1:
            raise ValueError(f"p_out must be in (0, 1], got {self.p_out:g}.")
        if self.p_in is not None and not 0 <= self.p_in <= 1:
            raise ValueError(f"p_in must be in [0, 1], got {self.p_in:g}.")
        if self.scope not in ("layer", "global"):
            raise ValueError(f"scope must be 'layer' or 'global', got {self.scope!r}.")
        if not 0 <= self.settle <= 1:
            raise ValueError(f"settle must be in [0, 1], got {self.settle:g}.")
        if self.scope == "global" and isinstance(self.q, Mapping):
            raise ValueError("layers ranked together have one q; give a number, or scope='layer'.")

    @property
    def _patterns(self) -> Mapping[str, float]:
        return self.q if isinstance(self.q, Mapping) else {"*": self.q}

    def select(
        self,
        space: Space | None,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose.

        Raises:
            TargetError: The target is a cost or missing, or more than the layers with a q have.
            ValueError: A pattern of `q` fits no group.
        """
        if target is None or target.metric not in ("sparsity", "density"):
            raise TargetError("weights drop out and in around a sparsity or density; ask for one.")
        if isinstance(self.q, Mapping):
            must_match("q", self.q, [group.name for group in groups])
        pools = [list(groups)] if self.scope == "global" else [[group] for group in groups]
        rates = [first_match(pool[0].name, self._patterns, 0.0) for pool in pools]
        sizes = [sum(group.size for group in pool) for pool in pools]
        shares = _shares(sizes, rates, target)
        keep: Keep = {}
        for pool, q, share in zip(pools, rates, shares, strict=True):
            whole = [torch.ones(group.size, dtype=torch.bool) for group in pool]
            present = torch.cat(
                [evidence.keep.get(g.name, all_) for g, all_ in zip(pool, whole, strict=True)]
            )
            score = torch.cat([scores[group.name] for group in pool])
            chosen = self._chosen(score, present, q, share, evidence)
            parts = torch.split(chosen, [group.size for group in pool])
            keep |= {group.name: part for group, part in zip(pool, parts, strict=True)}
        return Decision(keep)

    def _chosen(
        self, score: Tensor, present: Tensor, q: float, share: float, evidence: Evidence
    ) -> Tensor:
        active, total = int(present.sum()), len(present)
        settling = evidence.progress >= self.settle
        chance = torch.rand(total, generator=evidence.generator)
        rest = top(score.masked_fill(~present, -torch.inf), active - round(q * active))
        dropped = present & ~rest & (chance < self.p_out)
        returning = ~present & (chance < (0.0 if settling else self._p_in(q, share)))
        keep = present & ~dropped | returning
        goal = min(round(share * total), total - 1)
        surplus = int((~keep).sum()) - goal
        if settling and surplus > 0:
            latest = torch.where(dropped, 1 + score, chance)  # those of this decision come first
            return keep | top(latest.masked_fill(keep, -torch.inf), surplus)
        if evidence.progress >= 1 or not keep.any():
            return top(score.masked_fill(~keep, -torch.inf), total - goal)
        return keep

    def _p_in(self, q: float, share: float) -> float:
        if self.p_in is not None:
            return self.p_in
        return min(1.0, q * self.p_out * (1 - share) / share) if share else 1.0


def _shares(sizes: Sequence[int], rates: Sequence[float], target: Target) -> list[float]:
    """Return the sparsity of each pool such that all settle with one probability of return.

    With r = p_in / p_out a pool settles at q / (q + r); r is bisected until all together have the
    target.
    """
    share = target.removed
    if not share or (any(rates) and len(set(rates)) == 1):
        return [share] * len(sizes)
    most = sum(size for size, q in zip(sizes, rates, strict=True) if q)
    if share * sum(sizes) >= most:
        raise TargetError(
            f"{target.metric} {target.value:g} cannot be reached: layers with a q hold only "
            f"{most / sum(sizes):.3f} of the units; add patterns for others."
        )
    low, high = 0.0, max(rates) * (1 - share) / share  # with r = high none is sparser than asked
    for _ in range(60):
        middle = (low + high) / 2
        found = [q / (q + middle) for q in rates]
        gone = sum(size * one for size, one in zip(sizes, found, strict=True))
        low, high = (middle, high) if gone > share * sum(sizes) else (low, middle)
    return found
