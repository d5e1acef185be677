"""How replaceable a filter is by the others of its layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup
from prunus.types import Scores


@dataclass(frozen=True)
class MedianDistance:
    """Sum of the distances to all other filters: the one nearest to the median is replaceable.

    Source: He et al., "Filter Pruning via Geometric Median", CVPR 2019, arXiv:1811.00250, section
    3.3, in the form of its practical computation (equation 7).
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the summed Euclidean distances, >= 0."""
        found: Scores = {}
        for group in groups:
            filters = group.gather(evidence.weights).float()
            exact = "donot_use_mm_for_euclid_dist"
            found[group.name] = torch.cdist(filters, filters, compute_mode=exact).sum(dim=1).cpu()
        return found
