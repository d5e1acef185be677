"""Soft masks: removed weights are set to zero once, and train on from there."""

from typing import Self

import torch
from torch.optim import Optimizer

from prunus.masking.base import Site
from prunus.masking.hard import Hard
from prunus.types import Mask


class Soft(Hard):
    """Zeroes what removed units own when the mask changes, and lets it grow until it is settled.

    Of channels these are the filters alone. Biases, normalisations and the weights that read them
    are zeroed when the mask is settled: filters with zeros before and behind would have no gradient
    and never return.

    Source: He et al., "Soft Filter Pruning", IJCAI 2018, arXiv:1808.06866, section 3.2. The
    optimizer's state stays, as there.

    Args:
        site: The network being trained, and the units that are removed from it.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site.model, lambda: not self._settled)
        self._groups = site.groups
        self._settled = False

    @classmethod
    def on(cls, site: Site) -> Self:
        """Begin on a network."""
        return cls(site)

    @torch.no_grad()
    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Replace the mask and zero what the removed units own, once."""
        super().set(mask)
        device = next(iter(self._parameters.values())).device
        for group in self._groups:
            group.scale(self._parameters, group.gather(mask).any(dim=1).to(device))

    def load(self, mask: Mask) -> None:
        """Take up a mask whose weights have trained on since it was made."""
        super().set(mask)

    @torch.no_grad()
    def apply(self, rate: float | None = None, scale: float = 1.0) -> None:
        """Leave the weights alone until the mask is settled."""
        if self._settled:
            self.multiply()

    def settle(self) -> None:
        """Hold the mask from now on."""
        self._settled = True
        self.multiply()
