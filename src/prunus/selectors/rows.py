"""Keep the weights of highest score within each row, or within each few of a row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.selectors.base import Decision
from prunus.space import Frozen, Space, UnitGroup
from prunus.space.unit_groups import WeightGroup
from prunus.types import Keep, Scores, Target

_PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The same share of every row of a weight (all that one output reads), or N of every M of it.

    Where units are blocks of adjacent outputs, a row is all that these outputs read.

    Args:
        pattern: "2:4" keeps the two highest of every four weights that read adjacent inputs, of a
            kernel at one place of it, as sparse tensor cores need them; weights whose inputs are no
            multiple of four stay whole. None for a share.

    Raises:
        ValueError: The pattern is not "N:M" with N below M.
    """

    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None:
            n_of_m(self.pattern)

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
            ValueError: The units are channels.
        """
        keep: Keep = {}
        for group in groups:
            if not isinstance(group, WeightGroup):
                raise ValueError(f"rows are of weights, but {group.name!r} has channels.")
            table = scores[group.name].reshape(group.rows, -1)
            keep[group.name] = self._chosen(group, table, target).reshape(-1)
        return Decision(keep)

    def _chosen(self, group: WeightGroup, table: Tensor, target: Target | None) -> Tensor:
        share = share_of(target, self.pattern)
        if self.pattern is None:
            length = table.shape[1]
            return highest(table, max(1, length - round(share * length)))
        if not fits(group, self.pattern):
            return torch.ones_like(table, dtype=torch.bool)
        count, of = n_of_m(self.pattern)
        order = by_place(group.weight.shape[1], table.shape[1])
        kept = highest(table[:, order].reshape(-1, of), count).view_as(table)
        return kept[:, order.argsort()]


def n_of_m(pattern: str) -> tuple[int, int]:
    """Return N and M of "N:M".

    Raises:
        ValueError: It is something else, or N is not below M.
    """
    found = _PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    if found is None or int(found[1]) >= int(found[2]):
        raise ValueError(f"pattern must be 'N:M' with N below M, such as '2:4', got {pattern!r}.")
    return int(found[1]), int(found[2])


def fits(group: WeightGroup, pattern: str) -> bool:
    """Say whether a pattern N:M divides the inputs of a weight, its second dimension."""
    return group.weight.shape[1] % n_of_m(pattern)[1] == 0


def by_place(inputs: int, length: int) -> Tensor:
    """Return the order in which a row has all inputs at one place of the kernel, then the next.

    Args:
        inputs: Of the weight, its second dimension.
        length: Of a row: places of the kernel for each input.
    """
    return torch.arange(length).reshape(inputs, -1).t().flatten()


def unfitting(groups: Sequence[UnitGroup], pattern: str) -> list[Frozen]:
    """Return the weights that a pattern leaves whole, because of how many inputs they have."""
    _, of = n_of_m(pattern)
    shapes = {
        g.name: g.weight.shape
        for g in groups
        if isinstance(g, WeightGroup) and not fits(g, pattern)
    }
    return [
        Frozen(name, rows, f"has {inputs} inputs, no multiple of the {of} of the pattern {pattern}")
        for name, (rows, inputs, *_) in shapes.items()
    ]


def share_of(target: Target | None, pattern: str | None) -> float:
    """Return the share of weights that goes; without a target, that of the pattern, or none.

    Raises:
        TargetError: The target is a cost, or another share than the pattern's.
    """
    count, of = (1, 1) if pattern is None else n_of_m(pattern)
    if target is None:
        return 1 - count / of
    if target.metric not in ("sparsity", "density"):
        raise TargetError(f"{target.metric} is a cost of channels, and rows lose single weights.")
    share = target.removed
    if pattern is not None and abs(share - (1 - count / of)) > 1e-6:
        raise TargetError(
            f"{target.metric} {target.value:g} cannot be reached: the pattern {pattern} removes "
            f"{1 - count / of:g} of the weights; ask for that, or take pattern=None."
        )
    return share


def highest(table: Tensor, count: int) -> Tensor:
    """Mark the `count` highest of each row; ties in order of index."""
    order = table.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(table, dtype=torch.bool).scatter_(1, order, True)
