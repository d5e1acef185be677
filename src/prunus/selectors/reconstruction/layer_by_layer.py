"""Score and choose one layer after the other, each on what the pruned ones before it make."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunus.criteria import Criterion, Evidence, Limited
from prunus.selectors.base import Decision, Selector
from prunus.selectors.reconstruction.course import Course, in_order
from prunus.space import Space, UnitGroup
from prunus.types import Scores, Target


@dataclass(frozen=True, kw_only=True)
class LayerByLayer:
    """A criterion and a selector, applied to one layer at a time, on the network as it is by then.

    Every layer is to meet the target by itself, so that it must be a sparsity or density.

    Args:
        criterion: How important each unit of a layer is.
        selector: Which of them stay.
    """

    criterion: Criterion
    selector: Selector

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; `scores` are not looked at.

        Raises:
            TargetError: The target is out of the selector's reach.
            ValueError: What the criterion needs is not among the evidence.
        """
        course = Course(space, evidence)
        for group in evidence.track(in_order(space, groups), "layers"):
            own = self.criterion.score([group], course.evidence)
            chosen = self.selector.select(space, [group], own, target, course.evidence)
            course.settle(group, chosen.keep[group.name], chosen.patch)
        return course.decision()

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return what the criterion cannot judge."""
        return (
            self.criterion.unable(groups, evidence) if isinstance(self.criterion, Limited) else {}
        )
