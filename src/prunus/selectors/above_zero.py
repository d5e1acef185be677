"""Keep the units whose score is above zero."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from prunus.criteria import Evidence
from prunus.selectors.base import Decision
from prunus.selectors.reach import top
from prunus.selectors.topk import TopK
from prunus.space import Space, UnitGroup
from prunus.types import Scores, Target


@dataclass(frozen=True)
class AboveZero:
    """Exactly what training has brought to zero goes, unless a target asks for another amount.

    Args:
        ranked: Chooses where there is a target; its `min_keep` also holds without one.
    """

    ranked: TopK = field(default_factory=TopK)

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence | None = None,
    ) -> Decision:
        """Choose; for what is raised with a target see `TopK`."""
        if target is not None:
            return self.ranked.select(space, groups, scores, target, evidence)
        keep = {group.name: scores[group.name] > 0 for group in groups}
        for group in groups:
            if not group.may_vanish:
                keep[group.name] |= top(scores[group.name], max(1, self.ranked.min_keep))
        return Decision(keep)
