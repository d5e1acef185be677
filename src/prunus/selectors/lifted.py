"""A mask for a while only."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prunus.criteria import Evidence
from prunus.selectors.base import Decision, Selector
from prunus.space import Space, UnitGroup
from prunus.types import Scores, Target


@dataclass(frozen=True, kw_only=True)
class Lifted:
    """What `of` chooses until the schedule ends; from then on everything is there again.

    Args:
        of: Chooses before the end.
    """

    of: Selector

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; a schedule that ends where it begins never masks anything."""
        if evidence.progress < 1:
            return self.of.select(space, groups, scores, target, evidence)
        return Decision({group.name: torch.ones(group.size, dtype=torch.bool) for group in groups})
