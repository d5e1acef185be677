"""Keep the units whose score reaches a threshold, the layer's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.selectors.base import Decision
from prunus.selectors.rank import lowest
from prunus.selectors.reach import top
from prunus.space import Space, UnitGroup, first_match, must_match
from prunus.types import Keep, Scores, Target


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Units stay whose score is at least q; a target moves all thresholds by a common factor.

    With `Deviations` as the criterion q is the quality parameter of Han et al., NeurIPS 2015,
    arXiv:1506.02626, section 3: what is smaller than q standard deviations goes. Scores of -inf
    go whatever the target.

    Args:
        q: One threshold for all layers, or shell pattern of group names -> threshold, first match
            wins; a layer that matches none stays whole, as with the threshold 0.
        min_keep: Units of highest score that every group keeps at least.

    Raises:
        ValueError: A threshold or `min_keep` is below 0.
    """

    q: float | Mapping[str, float] = 1.0
    min_keep: int = 1

    def __post_init__(self) -> None:
        for pattern, value in self._patterns.items():
            if not value >= 0:
                raise ValueError(f"q[{pattern!r}] must be at least 0, got {value:g}.")
        if self.min_keep < 0:
            raise ValueError(f"min_keep must be at least 0, got {self.min_keep}.")

    @property
    def _patterns(self) -> Mapping[str, float]:
        return self.q if isinstance(self.q, Mapping) else {"*": self.q}

    def select(
        self,
        space: Space | None,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence | None = None,
    ) -> Decision:
        """Choose; with a target of sparsity or density its count is met exactly.

        Raises:
            TargetError: The target is a cost, or more than the layers with a threshold have.
        """
        if isinstance(self.q, Mapping):
            every = (
                groups if space is None else (*space.embeddings, *space.weights, *space.removable)
            )
            must_match("q", self.q, [one.name for one in every])
        limits = {group.name: first_match(group.name, self._patterns, 0.0) for group in groups}
        if target is not None:
            return Decision(self._reach(groups, scores, limits, target))
        keep = {g.name: scores[g.name] >= limits[g.name] for g in groups}
        for group in groups:
            if int(keep[group.name].sum()) < self.min_keep:
                keep[group.name] = top(scores[group.name], self.min_keep)
        return Decision(keep)

    def _reach(
        self,
        groups: Sequence[UnitGroup],
        scores: Scores,
        limits: Mapping[str, float],
        target: Target,
    ) -> Keep:
        if target.metric not in ("sparsity", "density"):
            raise TargetError(f"{target.metric} is a cost of channels; ask for sparsity.")
        share = target.removed
        ranked = {g.name: _relative(scores[g.name], limits[g.name], self.min_keep) for g in groups}
        gone = sum(int(rank.isneginf().sum()) for rank in ranked.values())
        free = sum(int(rank.isfinite().sum()) for rank in ranked.values())
        total = sum(group.size for group in groups)
        if round(share * total) > gone + free:
            raise TargetError(
                f"{target.metric} {target.value:g} cannot be reached: the layers with a threshold "
                f"above 0 make at most a sparsity of {(gone + free) / total:.3f}, with "
                f"min_keep={self.min_keep}."
            )
        marked = lowest(list(ranked.values()), max(gone, round(share * total)))
        return {name: ~mark for name, mark in zip(ranked, marked, strict=True)}


def _relative(scores: Tensor, limit: float, least: int) -> Tensor:
    """Return scores in units of the threshold, +inf for what stays in any case."""
    alone = scores.isneginf()
    stays = torch.full_like(scores, torch.inf)
    found = (scores / limit if limit else stays).masked_fill(alone, -torch.inf)
    return torch.where(top(scores, least), stays, found) if least else found
