"""What a method left of one network, as a pattern for others: a share per stage.

Source: Liu, Sun, Zhou, Huang and Darrell, "Rethinking the Value of Network Pruning", ICLR 2019,
arXiv:1810.05270, section 5: guided pruning (the mean share of channels over the layers of a stage),
guided sparsification (the mean share at each position of the 3x3 kernels of a stage, from which
masks are sampled), and both transferred to another network.
Deviation: kernels of other sizes, and linear layers, have shares of their own; a network with
another number of stages takes shares interpolated at the same relative depth.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from statistics import fmean
from typing import TypeAlias, TypeGuard

import numpy as np
import torch
from torch import Tensor

from prunus.criteria.base import Evidence
from prunus.space import UnitGroup, stages
from prunus.space.unit_groups import WeightGroup
from prunus.types import Keep, Scores

Kernel: TypeAlias = tuple[int, ...]
"""Size of a kernel where units are weights, such as (3, 3); () for linear layers and channels."""


@dataclass(frozen=True)
class Pattern:
    """Units that a pattern keeps score 1 or more, and are kept by a threshold of 1.

    A unit scores share / r: for channels r is the rank (k + 1/2) / units in a random order, so that
    a layer keeps just its share; a weight draws r uniformly from (0, 1], so that it stays with the
    probability of its position. The highest scores of all layers together are the pattern with all
    shares times one factor.

    Attributes:
        stages: From the first stage to the last, layers computed at equally many positions: size of
            the kernel -> share kept at each of its positions, in [0, 1]; one number for channels.

    Raises:
        ValueError: There is no stage, or a share is out of range.
    """

    stages: tuple[Mapping[Kernel, tuple[float, ...]], ...]

    def __post_init__(self) -> None:
        if not self.stages or not all(self.stages):
            raise ValueError("a pattern has at least one stage, each with a share; got none.")
        for stage in self.stages:
            for kernel, shares in stage.items():
                if len(shares) != prod(kernel) or not all(0 <= share <= 1 for share in shares):
                    raise ValueError(
                        f"a kernel of size {kernel} has {prod(kernel)} shares in [0, 1], got "
                        f"{shares}."
                    )

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Score every unit; what is kept of a layer depends on its stage alone."""
        scores: Scores = {}
        found = stages(groups)
        for place, stage in enumerate(found):
            depth = _depth(place, len(found))
            for group in stage:
                kernel = _kernel(group)
                shares = torch.tensor(self._shares(kernel, depth))
                shares = shares.repeat(group.size // prod(kernel))
                if _single(group):
                    rank = 1 - torch.rand(group.size, generator=evidence.generator)
                else:
                    order = torch.randperm(group.size, generator=evidence.generator)
                    rank = (order + 0.5) / group.size
                scores[group.name] = (shares / rank).float()
        return scores

    def _shares(self, kernel: Kernel, depth: float) -> list[float]:
        """Return the share at each position of a kernel at a relative depth in [0, 1]."""
        depths = [_depth(place, len(self.stages)) for place in range(len(self.stages))]
        known = [(d, s[kernel]) for d, s in zip(depths, self.stages, strict=True) if kernel in s]
        if not known:  # no layer had such kernels: the mean over those of a stage stands for all
            means = [fmean(map(fmean, stage.values())) for stage in self.stages]
            return [float(np.interp(depth, depths, means))] * prod(kernel)
        at, shares = zip(*known, strict=True)
        return [float(np.interp(depth, at, column)) for column in zip(*shares, strict=True)]


def pattern(groups: Sequence[UnitGroup], keep: Keep) -> Pattern:
    """Return the pattern of a decision: means over the layers of each stage, all weighing alike.

    Args:
        groups: The units that were decided on, in order of use; branches have no stage.
        keep: Group name -> bool, shape (units,), True = kept.
    """
    found = []
    for stage in stages(groups):
        shares: dict[Kernel, list[Tensor]] = defaultdict(list)
        for group in stage:
            kernel = _kernel(group)
            kept = keep[group.name].double().reshape(-1, prod(kernel))
            shares[kernel].append(kept.mean(0))
        found.append({k: tuple(torch.stack(s).mean(0).tolist()) for k, s in shares.items()})
    return Pattern(tuple(found))


def _depth(place: int, count: int) -> float:
    return place / (count - 1) if count > 1 else 0.0


def _single(group: UnitGroup) -> TypeGuard[WeightGroup]:
    """Whether its units are single weights."""
    return isinstance(group, WeightGroup) and group.unit == "weight"


def _kernel(group: UnitGroup) -> Kernel:
    return group.weight.shape[2:] if _single(group) else ()
