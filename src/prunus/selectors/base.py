"""What every selector is given and must return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from prunus.space import Space, UnitGroup
from prunus.types import Keep, Scores, Target


@dataclass(frozen=True)
class Decision:
    """Which units stay.

    Attributes:
        keep: Group name -> bool, shape (units,), True = kept.
        patch: Parameter name -> new values that belong to the decision, or None.
    """

    keep: Keep
    patch: Mapping[str, Tensor] | None = None


class Selector(Protocol):
    """Which units stay, given their scores and how small the network is to become?"""

    def select(
        self, space: Space, groups: Sequence[UnitGroup], scores: Scores, target: Target | None
    ) -> Decision:
        """Choose; without a target the selector's own amounts hold.

        Raises:
            TargetError: The target is out of reach; the message says how far it got.
        """
