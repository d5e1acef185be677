"""Soft masks: removed weights are set to zero once, and train on from there."""

import torch
from torch import nn
from torch.optim import Optimizer

from prunus.masking.hard import Hard
from prunus.types import Mask


class Soft(Hard):
    """Zeroes masked weights when the mask changes and lets them grow again until it is settled.

    Source: He et al., "Soft Filter Pruning", IJCAI 2018, arXiv:1808.06866, section 3.2. The
    optimizer's state stays, as there.

    Args:
        model: The network being trained.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._settled = False

    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Replace the mask and zero what it drops, once."""
        super().set(mask)
        self.multiply()

    def load(self, mask: Mask) -> None:
        """Take up a mask whose weights have trained on since it was made."""
        super().set(mask)

    @torch.no_grad()
    def apply(self, rate: float = 0.0) -> None:
        """Leave the weights alone until the mask is settled."""
        if self._settled:
            self.multiply()

    def settle(self) -> None:
        """Hold the mask from now on."""
        self._settled = True
        self.multiply()
