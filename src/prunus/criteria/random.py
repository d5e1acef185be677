"""No criterion at all: the control every other one has to beat."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup
from prunus.types import Scores


@dataclass(frozen=True)
class Random:
    """Uniform random scores from the evidence's generator."""

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return one number in [0, 1) per unit."""
        return {
            group.name: torch.rand(group.size, generator=evidence.generator) for group in groups
        }
