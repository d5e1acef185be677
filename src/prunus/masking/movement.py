"""Scores that learn whether a weight moves towards zero or away from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunus.masking.base import Site
from prunus.masking.learning import Learning
from prunus.masking.substitution import moved
from prunus.types import Mask, Scores


@dataclass(frozen=True, kw_only=True)
class Movement:
    """A score S per weight, learned through W' = W * M(S) as if M were the identity.

    The gradients are dL/dS = dL/dW' * W for every weight, masked or not, and dL/dW = dL/dW' * M.
    Masked weights get no gradient: momentum and weight decay of the optimizer move them on, as in
    the authors' code. They return when their score does. M is the mask that was last
    decided (the highest scores), or, with a threshold, sigmoid(S) > threshold, to which belongs the
    penalty strength * mean of sigmoid(S).

    Source: Sanh, Wolf and Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", NeurIPS 2020,
    arXiv:2005.07683, sections 4 and 5.

    Args:
        threshold: None for the highest scores, or of the soft variant, in (0, 0.5).
        strength: Of its penalty.
        speed: Learning rate of the scores (Adam), as a multiple of the optimizer's.

    Raises:
        ValueError: A field is out of range.
    """

    threshold: float | None = None
    strength: float = 1.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 0.5:
            raise ValueError(f"threshold must be in (0, 0.5), got {self.threshold:g}.")
        if self.strength < 0 or self.speed < 0:
            raise ValueError("strength and speed must not be below 0.")

    def on(self, site: Site) -> "Movements":
        """Begin with scores of zero."""
        return Movements(site, self)


class Movements(Learning):
    """The scores of one network's weights."""

    mends = False

    def __init__(self, site: Site, movement: Movement) -> None:
        self._movement = movement
        self._sizes = {group.name: group.size for group in site.groups}
        weights = dict(site.model.named_parameters())
        self._mask = {n: torch.ones_like(weights[n], dtype=torch.bool) for n in self._sizes}
        self._floor = 0.0
        if movement.threshold is not None:
            self._floor = math.log(movement.threshold) - math.log(1 - movement.threshold)
        super().__init__(site, torch.zeros(sum(self._sizes.values())))

    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Replace the mask; what it drops keeps its value until the mask is settled."""
        self._mask = {name: mask[name].clone() for name in self._sizes}

    def load(self, mask: Mask) -> None:
        """Take up a mask that was in place before."""
        self.set(mask)

    def settle(self) -> None:
        """Set what the mask drops to zero and hold it there."""
        self._leave()
        self._hard.set(self._mask)

    def penalty(self) -> Tensor | float:
        """Return the mean of sigmoid(S), times the strength, in the soft variant."""
        if self._movement.threshold is None:
            return 0.0
        return self._movement.strength * self.values.sigmoid().mean()

    def scores(self) -> Scores:
        """Return S, above 0 where it is above the threshold."""
        return self._by_weight((self.values.detach() - self._floor).cpu())

    def _standing_in(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        self._mask = {name: moved(kept, self.values.device) for name, kept in self._mask.items()}
        kept = self._kept()
        through = self._by_weight(self.values - self.values.detach())  # zero, with a derivative
        return {
            name: weights[name] * (kept[name] + part.view(weights[name].shape)).to(weights[name])
            for name, part in through.items()
        }

    def _kept(self) -> Mask:
        """Return which weights take part."""
        if self._movement.threshold is None:
            return self._mask
        above = self._by_weight(self.values.detach() > self._floor)
        return {name: part.view(self._mask[name].shape) for name, part in above.items()}

    def _by_weight(self, values: Tensor) -> dict[str, Tensor]:
        parts = torch.split_with_sizes(values, [*self._sizes.values()])
        return dict(zip(self._sizes, parts, strict=True))

    def _learn(self, gradient: Tensor, rate: float) -> None:
        self._adam(gradient, rate * self._movement.speed)

    def _fold(self) -> None:
        weights = dict(self._model.named_parameters())
        for name, kept in self._kept().items():
            weights[name].mul_(kept.to(weights[name]))
