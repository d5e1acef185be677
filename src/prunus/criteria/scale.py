"""The scale that a normalisation gives to a channel."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup
from prunus.types import Scores


@dataclass(frozen=True)
class BatchNormScale:
    """|gamma| of a channel's batch norm, the mean where there are several.

    Channels without a batch norm score infinity: they go last. Source: Liu et al., "Network
    Slimming", ICCV 2017, arXiv:1708.06519, section 3.
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the scales, >= 0.

        Raises:
            ValueError: No channel has a batch norm.
        """
        found: Scores = {}
        for group in groups:
            scales = [
                evidence.weights[name].abs()[index.to(evidence.weights[name].device)].mean(dim=1)
                for name, index in group.scales.items()
            ]
            whole = torch.full((group.size,), float("inf"))
            found[group.name] = torch.stack(scales).mean(dim=0).float().cpu() if scales else whole
        if all(score.isinf().all() for score in found.values()):
            raise ValueError(
                "no channel has a batch norm with weights to be ranked by; take another criterion."
            )
        return found
