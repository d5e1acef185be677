"""Keep the weights of highest score within each row, or within each few of a row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.selectors.base import Decision
from prunus.space import Space, UnitGroup
from prunus.space.unit_groups import WeightGroup
from prunus.types import Keep, Scores, Target

_PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The same share of every row of a weight (all that one output reads), or N of every M of it.

    Args:
        pattern: "2:4" keeps the two highest of every four weights along the row, as sparse tensor
            cores need them; rows whose length is no multiple stay whole. None for a share.

    Raises:
        ValueError: The pattern is not "N:M" with N below M.
    """

    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is None:
            return
        found = _PATTERN.fullmatch(self.pattern) if isinstance(self.pattern, str) else None
        if found is None or int(found[1]) >= int(found[2]):
            raise ValueError(
                f"pattern must be 'N:M' with N below M, such as '2:4', got {self.pattern!r}."
            )

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence | None = None,
    ) -> Decision:
        """Choose; a pattern alone says how many.

        Raises:
            TargetError: The target is a cost, or another share than the pattern's.
            ValueError: The units are not single weights.
        """
        keep: Keep = {}
        for group in groups:
            if not isinstance(group, WeightGroup) or group.unit != "weight":
                raise ValueError(f"rows are of single weights, but {group.name!r} has others.")
            table = scores[group.name].reshape(group.weight.shape[0], -1)
            keep[group.name] = self._chosen(table, target).reshape(-1)
        return Decision(keep)

    def _chosen(self, table: Tensor, target: Target | None) -> Tensor:
        rows, length = table.shape
        if self.pattern is None:
            if target is None:
                return torch.ones_like(table, dtype=torch.bool)
            return _highest(table, max(1, length - round(_share(target) * length)))
        count, of = map(int, self.pattern.split(":"))
        if target is not None and abs(_share(target) - (1 - count / of)) > 1e-6:
            raise TargetError(
                f"{target.metric} {target.value:g} cannot be reached: the pattern {self.pattern} "
                f"removes {1 - count / of:g} of the weights; ask for that, or take pattern=None."
            )
        if length % of:
            return torch.ones_like(table, dtype=torch.bool)
        return _highest(table.reshape(-1, of), count).reshape(rows, length)


def _share(target: Target) -> float:
    if target.metric not in ("sparsity", "density"):
        raise TargetError(f"{target.metric} is a cost of channels, and rows lose single weights.")
    return target.value if target.metric == "sparsity" else 1 - target.value


def _highest(table: Tensor, count: int) -> Tensor:
    """Mark the `count` highest of each row; ties in order of index."""
    order = table.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(table, dtype=torch.bool).scatter_(1, order, True)
