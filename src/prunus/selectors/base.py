"""What every selector is given and must return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from prunus.criteria import Evidence
from prunus.space import Space, UnitGroup
from prunus.types import Keep, Scores, Target


@dataclass(frozen=True)
class Decision:
    """Which units stay.

    Attributes:
        keep: Group name -> bool, shape (units,), True = kept.
        patch: Parameter or buffer name -> new values that belong to the decision: what remains
            makes up for what goes.
    """

    keep: Keep
    patch: Mapping[str, Tensor] = field(default_factory=dict)


class Selector(Protocol):
    """Which units stay, given their scores and how small the network is to become?"""

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; without a target the selector's own amounts hold.

        Args:
            space: What may be removed, and what it costs.
            groups: The competing units.
            scores: Group name -> one float per unit; empty for a method without a criterion.
            target: How small the network is to become.
            evidence: What may be looked at beside the scores; it is not changed.

        Raises:
            TargetError: The target is out of reach; the message says how far it got.
        """


_INSIDE = ("ranked", "amounts", "of", "selector")


def innermost(selector: Selector) -> Selector:
    """Return what says how much goes inside a selector that adds to what another one does.

    Args:
        selector: One that has another as its `ranked`, `amounts`, `of` or `selector`; any other is
            returned as it is.
    """
    inside = next((found for name in _INSIDE if (found := getattr(selector, name, None))), None)
    return selector if inside is None else innermost(inside)
