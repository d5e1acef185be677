"""Choose channels by LASSO on what they add to the next layer, then fit that layer anew."""

from collections.abc import Iterator, Sequence
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
from prunus.selectors.reconstruction.lasso import chosen
from prunus.selectors.reconstruction.solve import toward
from prunus.selectors.reconstruction.watch import Watch, missing
from prunus.selectors.reconstruction.windows import Windows, windows
from prunus.selectors.topk import TopK
from prunus.space import Space, UnitGroup
from prunus.types import Scores, Target

_LEAST = 1e-3
"""Outputs that a batch norm scales by less, relative to its largest factor, stay as they are."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Channels stay that a LASSO needs for what the next layers put out; those are then refitted.

    With z_i what channel i adds to an output of a layer that reads it, and t what that output was
    in the network before any pruning, beta minimises 1/(2n) |t - sum beta_i z_i|^2 + penalty
    |beta|_1. The penalty is bisected until the wanted number of beta, or up to 1.1 times as many,
    are not zero; of these the largest stay. Then weight and bias of each reading layer are fitted
    by least squares, with the network as it is by then giving the inputs and the network as it was
    the outputs, so that errors do not add up. Layers are taken in order.

    Outputs count as the batch norm right behind the layer scales them. Where they go into a sum,
    the layer also makes up for what earlier pruning has changed in the other operand.

    Source: He, Zhang and Sun, ICCV 2017, arXiv:1707.06168, sections 3.1 to 3.3.

    Args:
        amounts: How many channels each layer keeps; its scope matters as if all scores were equal.
        samples: Outputs drawn of each sample for the choice, and positions for the fit.

    Raises:
        ValueError: There are no samples.
    """

    amounts: TopK = field(default_factory=lambda: TopK(scope="layer"))
    samples: int = 10

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
            keep = chosen(*self._design(reading, course, evidence), count[group.name])
            course.settle(group, keep, {})
            for reader in reading:
                course.settle(group, keep, self._fitted(reader, course, evidence))
        return course.decision()

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return the channels that no layer is seen to read."""
        return unable(groups, evidence)

    def _design(
        self, reading: Sequence[Reader], course: Course, evidence: Evidence
    ) -> tuple[Tensor, Tensor]:
        """Return Z'Z / n and Z't / n over the outputs drawn of all layers that read a group."""
        units = len(reading[0].columns)
        gram = torch.zeros(units, units, dtype=torch.float64)
        moment, n = torch.zeros(units, dtype=torch.float64), 0
        for reader, seen, lacking, factor in _seen(reading, course, evidence):
            weight = course.weight(reader.weight)
            pairs = draw(seen, weight, self.samples, evidence.generator)
            z = contributions(seen, weight, reader.columns, pairs) * factor[pairs.outputs, None]
            t = z.sum(dim=1) + lacking[pairs.samples, pairs.outputs, pairs.positions]
            gram += (z.T @ z).cpu()
            moment += (z.T @ t).cpu()
            n += len(z)
        return gram / max(1, n), moment / max(1, n)

    def _fitted(self, reader: Reader, course: Course, evidence: Evidence) -> dict[str, Tensor]:
        """Return weight and bias of a reading layer such that its outputs are what they were."""
        weight = course.weight(reader.weight).clone()
        bias: Tensor | None = getattr(course.model.get_submodule(reader.layer), "bias", None)
        live = weight.transpose(0, 1).flatten(1).any(dim=1)  # what is gone has columns of zeros
        gram, moment = torch.zeros(()), torch.zeros(())
        for _, seen, lacking, factor in _seen([reader], course, evidence):
            gain = factor.where(factor.abs() > _LEAST * factor.abs().max(), torch.inf)
            samples, positions = seen.some(self.samples, evidence.generator)
            for part, read in seen.parts(samples, positions):
                x = read[:, :, live].flatten(2)  # places, groups, entries
                if bias is not None:
                    x = torch.cat([x, torch.ones_like(x[:, :, :1])], dim=2)
                wanted = lacking[samples[part], :, positions[part]] / gain
                wanted = wanted.reshape(len(wanted), seen.groups, -1)
                gram = gram + torch.einsum("pgc,pgd->gcd", x, x)
                moment = moment + torch.einsum("pgc,pgo->gco", x, wanted)
        if gram.ndim == 0:
            return {}
        change = toward(gram, moment).transpose(1, 2).flatten(0, 1)  # outputs, entries
        kernel = weight.shape[2:]
        entries = int(live.sum()) * kernel.numel()
        weight[:, live] += change[:, :entries].reshape(len(weight), -1, *kernel)
        if bias is None:
            return {reader.weight: weight}
        name = reader.weight.removesuffix("weight") + "bias"
        return {reader.weight: weight, name: bias.detach() + change[:, entries]}


def _seen(
    reading: Sequence[Reader], course: Course, evidence: Evidence
) -> Iterator[tuple[Reader, Windows, Tensor, Tensor]]:
    """Run the network as it was and as it is on each batch, and look at some layers.

    Yields:
        The layer, what it reads now, and what its outputs lack; see `missing`.
    """
    layers = [reader.layer for reader in reading]
    before, now = Watch(evidence.model, layers), Watch(course.model, layers)
    for inputs, _ in evidence.batches():
        was, found = before.run(inputs), now.run(inputs)
        for reader in reading:
            if reader.layer in found and reader.layer in was:
                layer, passage = course.model.get_submodule(reader.layer), found[reader.layer]
                lacking, factor = missing(layer, was[reader.layer], passage)
                must_be_finite(reader.layer, passage.read, lacking)
                yield reader, windows(layer, passage.read), lacking, factor
