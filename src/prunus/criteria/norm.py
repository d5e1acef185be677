"""Size of a unit's weights: the oldest and still the hardest criterion to beat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup
from prunus.types import Scores


@dataclass(frozen=True, kw_only=True)
class L1:
    """Sum, or mean, of |w| over a unit.

    For single weights this is the magnitude |w| (Han et al., NeurIPS 2015); for filters the score
    of Li et al., ICLR 2017, arXiv:1608.08710, section 3.1. Coupled filters are scored together.

    Args:
        reduce: "sum", or "mean" to compare units of different size (a global ranking of filters).
    """

    reduce: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        _check_reduce(self.reduce)

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the L1 norm of each unit, float32, >= 0."""
        return {group.name: self._of(group.gather(evidence.weights)) for group in groups}

    def _of(self, entries: Tensor) -> Tensor:
        if entries.shape[1] == 1:
            return entries.abs().ravel().float().cpu()
        total = entries.abs().sum(dim=1, dtype=torch.float32)
        return (total / entries.shape[1] if self.reduce == "mean" else total).cpu()


@dataclass(frozen=True, kw_only=True)
class L2:
    """Euclidean norm, or root mean square, of a unit's weights.

    Source: He et al., "Soft Filter Pruning", IJCAI 2018, arXiv:1808.06866, equation 1 (p = 2).

    Args:
        reduce: "sum" of squares, or their "mean", below the root.
    """

    reduce: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        _check_reduce(self.reduce)

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the L2 norm of each unit, float32, >= 0."""
        return {group.name: self._of(group.gather(evidence.weights)) for group in groups}

    def _of(self, entries: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(entries.float(), dim=1)
        return (norm / entries.shape[1] ** 0.5 if self.reduce == "mean" else norm).cpu()


@dataclass(frozen=True, kw_only=True)
class Deviations:
    """|w| in standard deviations of the layer's weights, so that one threshold fits all layers.

    Source: Han, Pool, Tran and Dally, NeurIPS 2015, arXiv:1506.02626, section 3. A deviation is
    taken around the mean; the size of a kernel is its mean |w|. What the present decision has
    dropped scores -inf, so that it does not return.

    Args:
        of: The deviation of the weights "remaining", taken anew at each decision, or of all, as
            they were before the first one ("original").
    """

    of: Literal["remaining", "original"] = "remaining"

    def __post_init__(self) -> None:
        if self.of not in ("remaining", "original"):
            raise ValueError(f"of must be 'remaining' or 'original', got {self.of!r}.")

    def anchor(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, Tensor]:
        """Return the deviations of all weights, where they are to hold from then on."""
        if self.of == "remaining":
            return {}
        return {group.name: _spread(group.gather(evidence.weights)) for group in groups}

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return each unit's size, float32, >= 0 or -inf."""
        return {group.name: self._of(group, evidence) for group in groups}

    def _of(self, group: UnitGroup, evidence: Evidence) -> Tensor:
        entries = group.gather(evidence.weights).float().cpu()
        present = evidence.keep.get(group.name, torch.ones(group.size, dtype=torch.bool))
        spread = evidence.anchor.get(group.name)
        spread = _spread(entries[present]) if spread is None else spread
        return (entries.abs().mean(dim=1) / spread).masked_fill(~present, -torch.inf)


def _spread(entries: Tensor) -> Tensor:
    return entries.float().cpu().std(correction=0).clamp_min(1e-12)


def _check_reduce(reduce: str) -> None:
    if reduce not in ("sum", "mean"):
        raise ValueError(f"reduce must be 'sum' or 'mean', got {reduce!r}.")
