"""Remove the channels whose joint contribution to the next layer is smallest, one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.selectors.base import Decision
from prunus.selectors.reconstruction.contributions import contributions, draw
from prunus.selectors.reconstruction.course import (
    Course,
    Reader,
    in_order,
    must_be_finite,
    readers,
    unable,
    widths,
)
from prunus.selectors.reconstruction.solve import toward
from prunus.selectors.reconstruction.windows import windows
from prunus.selectors.topk import TopK
from prunus.space import Space, UnitGroup
from prunus.types import Scores, Target


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Channels go that together add least to what the next layers compute, on samples.

    Of each sample some (position, output) pairs of the layers that read the channels are drawn.
    What channel c adds to such an output before its activation is x_c; the channel to go next is
    the one for which the sum over pairs of (the sum of x over all that is gone) squared stays
    smallest. By the Gram matrix G of the x it costs G_cc + 2 sum of G_ct over t gone. Then the
    kept slices of each reading weight are scaled by least squares, so that they add up to what all
    of them did. Layers are taken in order, each on the network as it is by then.

    Source: Luo, Wu and Lin, "ThiNet", ICCV 2017, arXiv:1707.06342, section 3.2.

    Args:
        amounts: How many channels each layer keeps; its scope matters as if all scores were equal.
        samples: Pairs drawn of each sample and reading layer.
        refit: Scale what is kept.

    Raises:
        ValueError: There are no pairs.
    """

    amounts: TopK = field(default_factory=lambda: TopK(scope="layer"))
    samples: int = 10
    refit: bool = True

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}.")

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose.

        Raises:
            TargetError: The target is out of reach.
            ValueError: There is no calibration; no layer is seen to read a group; or what a layer
                computes is not finite.
        """
        count = widths(self.amounts, space, groups, target)
        course = Course(space, evidence)
        for group in evidence.track(in_order(space, groups), "layers"):
            if count[group.name] == group.size:
                course.settle(group, torch.ones(group.size, dtype=torch.bool), {})
                continue
            reading = readers(group, course.model)
            grams = self._grams(group, reading, course)
            keep = ~cheapest(torch.stack(grams).sum(dim=0), group.size - count[group.name])
            patch = {}
            for reader, gram in zip(reading, grams, strict=True) if self.refit else ():
                factor = torch.ones(group.size, dtype=torch.float64)
                factor[keep] = scales(gram, keep)
                patch[reader.weight] = _scaled(course.weight(reader.weight), reader, factor)
            course.settle(group, keep, patch)
        return course.decision()

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return the channels that no layer is seen to read."""
        return unable(groups, evidence)

    def _grams(self, group: UnitGroup, reading: Sequence[Reader], course: Course) -> list[Tensor]:
        """Return the Gram matrix of what the channels add to each reading layer."""
        grams = [torch.zeros(group.size, group.size, dtype=torch.float64) for _ in reading]
        for found in course.evidence.inputs([reader.layer for reader in reading]):
            for reader, gram in zip(reading, grams, strict=True):
                weight = course.weight(reader.weight)
                for read in found.get(reader.layer, ()):
                    seen = windows(course.model.get_submodule(reader.layer), read)
                    pairs = draw(seen, weight, self.samples, course.evidence.generator)
                    rows = contributions(seen, weight, reader.columns, pairs)
                    gram += (rows.T @ rows).cpu()
        for reader, gram in zip(reading, grams, strict=True):
            must_be_finite(reader.layer, gram)
        return grams


def cheapest(gram: Tensor, count: int) -> Tensor:
    """Mark `count` units, each time the one that adds least to 1_T' G 1_T, the cost of all marked.

    Args:
        gram: G, float64, shape (units, units), on the CPU.
        count: How many to mark.

    Returns:
        bool, shape (units,), True = marked. Of equal costs the last unit is marked.
    """
    table = gram.numpy()[::-1, ::-1]  # the first of the smallest is then the last
    cost = table.diagonal().copy()
    marked = torch.zeros(len(gram), dtype=torch.bool)
    for _ in range(count):
        c = int(cost.argmin())
        marked[len(gram) - 1 - c] = True
        cost += 2 * table[c]
        cost[c] = float("inf")
    return marked


def scales(gram: Tensor, keep: Tensor) -> Tensor:
    """Return by what to multiply the kept x for them to add up to what all of them do.

    Least squares; see `toward` for what happens where samples leave it open.
    """
    gone = (~keep).to(gram)
    start = torch.ones(int(keep.sum()), 1, dtype=gram.dtype)
    return (start + toward(gram[keep][:, keep], (gram @ gone)[keep, None])).ravel()


def _scaled(weight: Tensor, reader: Reader, factor: Tensor) -> Tensor:
    """Return a reading weight with the columns of each unit multiplied by its factor."""
    every = torch.ones(weight.shape[1], dtype=weight.dtype, device=weight.device)
    every[reader.columns.to(weight.device)] = factor[:, None].to(weight)
    return weight * every.view(1, -1, *[1] * (weight.ndim - 2))
