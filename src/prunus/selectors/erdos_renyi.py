"""Densities that differ by layer: small layers stay denser."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.selectors.base import Decision
from prunus.selectors.reach import top
from prunus.space import Space, UnitGroup
from prunus.space.unit_groups import WeightGroup
from prunus.types import Keep, Scores, Target


@dataclass(frozen=True)
class ErdosRenyi:
    """In each layer the weights, or blocks, of highest score, at a density by the layer's sides.

    The density of a layer is proportional to (n_out + n_in + kernel sides) / (n_out n_in kernel),
    cut at one, so that the whole has the density asked for. Source: Mocanu et al., Nature
    Communications 2018, arXiv:1707.04780, in the form with kernels of Evci et al., ICML 2020,
    arXiv:1911.11134, section 3.
    """

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence | None = None,
    ) -> Decision:
        """Choose.

        Raises:
            TargetError: The target is a cost, or missing.
            ValueError: The units are channels.
        """
        if target is None or target.metric not in ("sparsity", "density"):
            raise TargetError("layers get their density from a sparsity or density; ask for one.")
        density = target.kept
        shares = densities([_weight(group) for group in groups], density)
        keep: Keep = {}
        for group, share in zip(groups, shares, strict=True):
            keep[group.name] = top(scores[group.name], max(1, round(share * group.size)))
        return Decision(keep)


def densities(groups: Sequence[WeightGroup], density: float) -> list[float]:
    """Return the density of each layer, in (0, 1]; over all weights they make `density`."""
    sizes = [float(prod(g.weight.shape)) for g in groups]
    raw = [sum(g.weight.shape) / prod(g.weight.shape) for g in groups]
    full: set[int] = set()
    while True:
        rest = [k for k in range(len(groups)) if k not in full]
        left = density * sum(sizes) - sum(sizes[k] for k in full)
        factor = left / sum(raw[k] * sizes[k] for k in rest) if rest else 0.0
        over = {k for k in rest if raw[k] * factor > 1}
        if not over:
            return [1.0 if k in full else raw[k] * factor for k in range(len(groups))]
        full |= over


def _weight(group: UnitGroup) -> WeightGroup:
    if not isinstance(group, WeightGroup):
        raise ValueError(f"these densities are of weights, but {group.name!r} has channels.")
    return group
