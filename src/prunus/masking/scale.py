"""Scale factors that a proximal step brings to exactly zero."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.masking.base import Site
from prunus.masking.factors import Factors
from prunus.masking.learning import Learning
from prunus.space import stages
from prunus.types import Scores


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A factor lambda >= 0 per unit, 1 at first, with an L1 penalty that acts as a proximal step.

    With the gradient g of the task's loss and S_a(z) = sign(z) max(|z| - a, 0):

        z = S_{rate * strength}(lambda - rate * g)
        v = momentum * v + z - lambda
        lambda = max(z + momentum * v, 0)

    In the end the factors that are left are multiplied into the weights.

    Source: Huang and Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", ECCV
    2018, arXiv:1707.01213, section 3 (accelerated proximal gradient, in the form with momentum).

    Args:
        strength: Of the penalty.
        momentum: Of the steps.

    Raises:
        ValueError: A field is out of range.
    """

    strength: float = 0.01
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ValueError(f"strength must be above 0, got {self.strength!r}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum:g}.")

    def on(self, site: Site) -> "Scales":
        """Begin with factors of one."""
        return Scales(site, self)


class Scales(Learning):
    """The factors of one network."""

    def __init__(self, site: Site, scale: Scale) -> None:
        if site.space is None:
            raise ValueError("scale factors need a space that says where they act.")
        self._scale = scale
        self._factors = Factors(site.space, site.groups)
        self._stages = stages(group for group in site.groups if group.may_vanish)
        super().__init__(site, torch.ones(self._factors.count))

    def penalty(self) -> Tensor | float:
        """Return 0: the proximal step does all."""
        return 0.0

    def scores(self) -> Scores:
        """Return the factors."""
        return self._factors.by_group(self.values)

    def settle(self) -> None:
        """Fold the factors into the weights.

        Warns:
            UserWarning: All branches of a stage are zero.
        """
        scores = self.scores()
        for stage in self._stages:
            if not self._settled and not any(scores[group.name].any() for group in stage):
                warnings.warn(
                    f"all {len(stage)} branches of the stage of {stage[0].name!r} have the factor "
                    "0; a smaller strength would leave some.",
                    stacklevel=2,
                )
        super().settle()

    def _standing_in(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return self._factors.multiplied(weights, self.values)

    def _learn(self, gradient: Tensor, rate: float) -> None:
        values, speed = self.values, self._moments[0]
        moved = values - rate * gradient
        z = moved.sign() * (moved.abs() - rate * self._scale.strength).clamp_min(0)
        speed.mul_(self._scale.momentum).add_(z - values)
        values.copy_((z + self._scale.momentum * speed).clamp_min(0))

    def _fold(self) -> None:
        self._factors.fold(self._model, self.values)
