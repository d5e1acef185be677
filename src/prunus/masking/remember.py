"""Hard masks whose removed weights, when they return, have the value they had."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.masking.hard import Hard
from prunus.types import Mask


class Remember(Hard):
    """Holds removed weights at zero and gives those that come back the value they went with.

    The optimizer's state of both starts afresh.

    Args:
        model: The network being trained.
        dense: As for `Hard`.
    """

    mends = True

    def __init__(self, model: nn.Module, dense: Callable[[], bool] = lambda: False) -> None:
        super().__init__(model, dense)
        self._last: dict[str, Tensor] = {}

    @torch.no_grad()
    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Replace the mask; note what goes and restore what returns."""
        for name in self.mask.keys() | (mask.keys() & self._parameters.keys()):
            weight = self._parameters[name]
            whole = torch.ones(weight.shape, dtype=torch.bool)
            before, now = (one.get(name, whole).to(weight.device) for one in (self.mask, mask))
            if not torch.equal(before, now):
                last = self._last.setdefault(name, torch.zeros_like(weight))
                last.copy_(torch.where(before & ~now, weight, last))
                weight.copy_(torch.where(now & ~before, last, weight))
        super().set(mask, optimizer)

    def load(self, mask: Mask) -> None:
        """Take up a mask that was in place before; `load_state` brings the values."""
        super().set(mask)

    def state(self) -> Mapping[str, Tensor]:
        """Return the values that weights went with."""
        return self._last

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the values."""
        self._last = {
            name: torch.empty_like(self._parameters[name]).copy_(last)
            for name, last in state.items()
        }
