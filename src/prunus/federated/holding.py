"""What a client does to its network while it trains."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.masking import Hard
from prunus.types import Mask


class Holding:
    """Holds a mask while a client trains, and sums up gradients, masked weights' too.

    Args:
        model: What is trained.
        mask: What is kept of it.
        gathers: Whether gradients are summed up.

    Attributes:
        sums: Parameter name -> the sum of its gradients, float32.
    """

    def __init__(self, model: nn.Module, mask: Mask, gathers: bool) -> None:
        self._hard, self._gathers = Hard(model, lambda: gathers), gathers
        self._hard.set(mask)
        self._parameters = dict(model.named_parameters())
        self.sums: dict[str, Tensor] = {}

    def penalty(self) -> float:
        """Return nothing to add to the loss."""
        return 0.0

    @torch.no_grad()
    def step(self, optimizer: Optimizer) -> None:
        """Take in the gradients and put masked weights back to zero."""
        for name, parameter in self._parameters.items():
            if self._gathers and parameter.grad is not None:
                before = self.sums.get(name)
                grad = parameter.grad.detach().float()
                self.sums[name] = grad.clone() if before is None else before.add_(grad)
        self._hard.apply()

    def state(self) -> dict[str, Any]:
        """Return nothing: a client's round is not resumed."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Do nothing."""

    def done(self) -> None:
        """Let the network go."""
        self._hard.detach()
