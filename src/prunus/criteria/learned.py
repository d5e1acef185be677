"""What the masking has learned of each unit while the network trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup
from prunus.types import Scores


@dataclass(frozen=True)
class Learned:
    """The gate, factor or score that training has given to a unit."""

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return what was learned.

        Raises:
            ValueError: The masking learns nothing, or there was no training.
        """
        for group in groups:
            if group.name not in evidence.learned:
                raise ValueError(
                    f"nothing was learned of the units of {group.name!r}; this criterion belongs "
                    "to a masking that learns while the network trains."
                )
        return {group.name: evidence.learned[group.name] for group in groups}
