"""An exponential moving average of a model's weights and statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Average of the parameters and floating buffers; other buffers are the model's own.

    average = d * average + (1 - d) * weight, with d = min(decay, (1 + t) / (10 + t)) at update t,
    so that a short run is not dominated by the initial weights. A weight that is exactly zero is
    zero in the average as well: what a mask removed does not come back.

    Args:
        model: Whose weights are averaged.
        decay: In (0, 1); close to 1 for a long memory.

    Attributes:
        average: Name -> the average.
        updates: How many there were.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._live: dict[str, Tensor] = dict(model.named_parameters())
        self._masked = set(self._live)
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                self._live[name] = buffer
        self.average = {name: value.detach().clone() for name, value in self._live.items()}
        self.updates = 0
        self._decay = decay

    def update(self) -> None:
        """Take in the model's present weights."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        live = [value.detach() for value in self._live.values()]
        torch._foreach_lerp_(list(self.average.values()), live, 1 - decay)

    def load(self, average: dict[str, Tensor], updates: int) -> None:
        """Restore an average."""
        self.updates = updates
        for name, value in self.average.items():
            value.copy_(average[name])

    @torch.no_grad()
    def give(self) -> None:
        """Copy the average into the model."""
        for name, value in self._live.items():
            average = self.average[name]
            value.copy_(average * (value != 0) if name in self._masked else average)

    @contextmanager
    def given(self) -> Iterator[None]:
        """Let the model hold the average inside the block, and its own weights again afterwards."""
        own = {name: value.detach().clone() for name, value in self._live.items()}
        self.give()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._live.items():
                    value.copy_(own[name])
