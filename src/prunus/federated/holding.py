"""What a client does to its network while it trains."""

from functools import partial
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
        sums: Parameter name -> the sum of its gradients, float32, where the network is trained.
    """

    def __init__(self, model: nn.Module, mask: Mask, gathers: bool) -> None:
        self.sums: dict[str, Tensor] = {}
        # Before the mask's own hooks, so that training goes on as if nothing were summed up.
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._add, name))  # type: ignore[no-untyped-call]
            for name, parameter in model.named_parameters()
            if gathers and parameter.requires_grad
        ]
        self._hard = Hard(model)
        self._hard.set(mask)

    def penalty(self) -> float:
        """Return nothing to add to the loss."""
        return 0.0

    @torch.no_grad()
    def _add(self, name: str, parameter: Tensor) -> None:
        """Take in the gradient that a backward pass leaves."""
        if parameter.grad is not None:
            before, grad = self.sums.get(name), parameter.grad.detach().float()
            self.sums[name] = grad.clone() if before is None else before.add_(grad)

    def step(self, optimizer: Optimizer) -> None:
        """Put masked weights back to zero."""
        self._hard.apply()

    def state(self) -> dict[str, Any]:
        """Return nothing: a client's round is not resumed."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Do nothing."""

    def done(self) -> None:
        """Let the network go."""
        self._hard.detach()
        for hook in self._hooks:
            hook.remove()
