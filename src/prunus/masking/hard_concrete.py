"""Stochastic gates that are exactly zero with a probability that can be differentiated."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.masking.base import Site
from prunus.masking.factors import Factors
from prunus.masking.learning import Learning
from prunus.types import Scores

_LOW, _HIGH, _TEMPERATURE = -0.1, 1.1, 2 / 3  # the paper's gamma, zeta and beta


def stretched(s: Tensor) -> Tensor:
    """Stretch (0, 1) to (-0.1, 1.1) and clip to [0, 1]."""
    return (s * (_HIGH - _LOW) + _LOW).clamp(0, 1)


def sample(log_alpha: Tensor, noise: Tensor) -> Tensor:
    """Return gates for `noise` uniform in (0, 1); gradients reach `log_alpha`."""
    logit = noise.log() - (1 - noise).log()
    return stretched(((logit + log_alpha) / _TEMPERATURE).sigmoid())


def open_chance(log_alpha: Tensor) -> Tensor:
    """Return the probability that a gate is not zero."""
    return (log_alpha - _TEMPERATURE * math.log(-_LOW / _HIGH)).sigmoid()


def without_noise(log_alpha: Tensor) -> Tensor:
    """Return the gates of the trained network."""
    return stretched(log_alpha.sigmoid())


@dataclass(frozen=True, kw_only=True)
class HardConcrete:
    """A stochastic gate in [0, 1] per unit, redrawn in each forward of training.

    s = sigmoid((log u - log(1 - u) + log alpha) / beta) with u uniform, stretched to (-0.1, 1.1)
    and clipped to [0, 1]. The penalty is strength * C(P(gate != 0)) / C, what the network costs
    when each unit counts as much as the probability that its gate is not zero. In eval mode, and
    in the end, when they are multiplied into the weights, gates are the clipped and stretched
    sigmoid(log alpha).

    Source: Louizos, Welling and Kingma, "Learning Sparse Neural Networks through L0
    Regularization", ICLR 2018, arXiv:1712.01312, sections 2.2 and 2.3. Deviation: log alpha takes
    its own steps of Adam, whatever the optimizer of the weights.

    Args:
        strength: Of the penalty.
        dropped: 1 - sigmoid(log alpha) at the beginning, in (0, 1).
        speed: Learning rate of log alpha, as a multiple of the optimizer's.

    Raises:
        ValueError: A field is out of range.
    """

    strength: float = 1.0
    dropped: float = 0.1
    speed: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.dropped < 1:
            raise ValueError(f"dropped must be in (0, 1), got {self.dropped:g}.")
        if self.strength < 0 or self.speed < 0:
            raise ValueError("strength and speed must not be below 0.")

    def on(self, site: Site) -> "ConcreteGates":
        """Begin on a network, with gates apart by a little noise."""
        return ConcreteGates(site, self)


class ConcreteGates(Learning):
    """The stochastic gates of one network."""

    def __init__(self, site: Site, gate: HardConcrete) -> None:
        if site.space is None:
            raise ValueError("stochastic gates need a space that says where they act.")
        self._gate = gate
        self._generator = site.generator
        self._factors = Factors(site.space, site.groups)
        metric = "params" if site.target is None else site.target.metric
        self._metric = "density" if metric == "sparsity" else metric
        noise = torch.randn(self._factors.count, generator=site.generator)
        middle = math.log(1 - gate.dropped) - math.log(gate.dropped)
        super().__init__(site, middle + 0.01 * noise)

    def penalty(self) -> Tensor | float:
        """Return the expected cost as a fraction of the whole, times the strength."""
        expected = self._factors.cost(self._metric, open_chance(self.values))
        return self._gate.strength * expected.float()

    def scores(self) -> Scores:
        """Return log alpha, shifted to be above 0 where the trained gate is."""
        return self._factors.by_group(self.values + math.log(-_HIGH / _LOW))

    def _standing_in(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if not self._model.training:
            return self._factors.multiplied(weights, without_noise(self.values))
        noise = torch.rand(self._factors.count, generator=self._generator)
        noise = noise.clamp_(1e-6, 1 - 1e-6).to(self.values.device)
        return self._factors.multiplied(weights, sample(self.values, noise))

    def _learn(self, gradient: Tensor, rate: float) -> None:
        self._adam(gradient, rate * self._gate.speed)

    def _fold(self) -> None:
        self._factors.fold(self._model, without_noise(self.values))
