"""What every importance score is given and must return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prunus.space import UnitGroup
from prunus.types import Scores


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at.

    Attributes:
        weights: Parameter name -> values, detached.
        generator: Source of every random choice.
    """

    weights: Mapping[str, Tensor]
    generator: torch.Generator


class Criterion(Protocol):
    """How important is each unit? Larger = keep."""

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Score every unit.

        Args:
            groups: The competing units.
            evidence: What may be looked at; it is not changed.

        Returns:
            Group name -> float32, shape (units,), on the CPU.
        """
