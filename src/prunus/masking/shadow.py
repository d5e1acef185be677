"""Masked weights that take no part and keep their value, so that they may return with it."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunus.masking.base import Site
from prunus.masking.hard import Hard, clear_changed
from prunus.masking.substitution import Substitution, moved
from prunus.types import Mask, Scores


class Shadow:
    """Computes with masked weights at zero, but keeps their last values, frozen, in the model.

    A later mask that is decided by the values of all weights may take some back. Once settled,
    masked weights are zero.

    Args:
        site: Where.
    """

    mends = False

    def __init__(self, site: Site) -> None:
        self._parameters = dict(site.model.named_parameters())
        self._hard = Hard(site.model)
        self._mask: Mask = {}
        self._factors: dict[str, Tensor] = {}
        self._frozen: dict[str, Tensor] = {}
        self._settled = False
        self._substitution = Substitution(site.model, self._masked)

    @classmethod
    def on(cls, site: Site) -> Self:
        """Begin on a network."""
        return cls(site)

    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Replace the mask; the optimizer's state is zeroed where it changed."""
        before = self._mask
        self.load(mask)
        if optimizer is not None:
            clear_changed(optimizer, self._parameters, before, self._mask)

    @torch.no_grad()
    def load(self, mask: Mask) -> None:
        """Take up a mask; the weights that it drops stay as they are in the model."""
        self._mask = {n: m for n, m in mask.items() if n in self._parameters and not m.all()}
        self._factors, self._frozen = {}, {}
        for name, kept in self._mask.items():
            weight = self._parameters[name]
            self._factors[name] = torch.empty_like(weight).copy_(kept)
            self._frozen[name] = weight * (1 - self._factors[name])

    @torch.no_grad()
    def apply(self, rate: float | None = None, scale: float = 1.0) -> None:
        """Undo what the optimizer did to masked weights; once settled, hold them at zero."""
        if self._settled:
            self._hard.apply()
            return
        self._substitution.restore()
        for name in self._mask:
            weight = self._parameters[name]
            self._follow(name, weight)
            weight.mul_(self._factors[name]).add_(self._frozen[name])

    def penalty(self) -> Tensor | float:
        """Return 0: a mask adds nothing to the loss."""
        return 0.0

    def settle(self) -> None:
        """Set masked weights to zero and hold them there."""
        self.detach()
        self._hard.set(self._mask)

    def detach(self) -> None:
        """Set masked weights to zero and leave the network plain."""
        self._settled = True
        self._substitution.detach()
        self._hard.detach()
        for name, kept in self._mask.items():
            with torch.no_grad():
                self._parameters[name].mul_(kept.to(self._parameters[name]))

    def scores(self) -> Scores:
        """Return nothing: a mask learns nothing."""
        return {}

    def state(self) -> Mapping[str, Tensor]:
        """Return nothing: the model holds the masked weights' values."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""

    def _masked(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        for name in self._mask:
            self._follow(name, weights[name])
        return {name: weights[name] * factor for name, factor in self._factors.items()}

    def _follow(self, name: str, weight: Tensor) -> None:
        self._factors[name] = moved(self._factors[name], weight.device)  # the model may have been
        self._frozen[name] = moved(self._frozen[name], weight.device)
