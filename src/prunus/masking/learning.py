"""What maskings share that learn numbers of their own while the network trains."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunus.masking.base import Site
from prunus.masking.hard import Hard
from prunus.masking.substitution import Substitution, moved
from prunus.types import Mask, Scores


class Learning(ABC):
    """Learns `values` with the loss, and holds a hard mask from when it is settled.

    While it learns, weights times what follows from the values stand in for the weights during each
    forward. The values are no parameters of the model: no optimizer knows them, and weight decay
    does not act on them. They take their own step after each of the optimizer's, with its learning
    rate; gradients are averaged over ranks. A step whose gradient is not finite is left out, as
    gradient scalers leave out the optimizer's.

    Args:
        site: Where.
        values: What is learned, float32.
    """

    mends = True  # what was learned goes into the weights

    def __init__(self, site: Site, values: Tensor) -> None:
        self.values = values.requires_grad_()
        self._model = site.model
        self._hard = Hard(site.model)
        self._settled = False
        self._moments = torch.zeros(2, *values.shape)
        self._steps = 0
        self._substitution = Substitution(site.model, self._present)

    @abstractmethod
    def _standing_in(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return what stands in for some weights during a forward."""

    @abstractmethod
    def _learn(self, gradient: Tensor, rate: float) -> None:
        """Let the values take a step."""

    @abstractmethod
    def _fold(self) -> None:
        """Change the weights, so that without the substitution they compute the same."""

    @abstractmethod
    def penalty(self) -> Tensor | float:
        """Return what is added to the loss."""

    @abstractmethod
    def scores(self) -> Scores:
        """Return what has been learned of each unit; larger = keep."""

    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Zero what the mask drops; it is held when it is settled."""
        self._hard.set(mask, optimizer)

    def load(self, mask: Mask) -> None:
        """Take up a mask that was in place before."""
        self._hard.load(mask)

    def apply(self, rate: float | None = None, scale: float = 1.0) -> None:
        """Let the values take their step; once settled, hold the mask.

        Raises:
            ValueError: There is a gradient, but no learning rate.
        """
        if self._settled:
            self._hard.apply()
            return
        self._substitution.restore()
        gradient = self._averaged()
        if gradient is not None:
            if rate is None:
                raise ValueError(
                    "the method learns with the optimizer's learning rate; pass the optimizer that "
                    "trains the pruned weights: pruner.step(optimizer)."
                )
            with torch.no_grad():
                gradient = gradient / scale
                if gradient.isfinite().all():
                    self._learn(gradient, rate)
        self.values.grad = None

    def settle(self) -> None:
        """Learn no more: what was learned goes into the weights, and the mask is held."""
        self._stop()
        self._hard.apply()

    def detach(self) -> None:
        """Fold what was learned into the weights and leave the network plain."""
        self._stop()
        self._hard.detach()

    def state(self) -> Mapping[str, Tensor]:
        """Return what was learned, and what its next step depends on."""
        return {
            "values": self.values.detach(),
            "moments": self._moments,
            "steps": torch.tensor(self._steps),
            "settled": torch.tensor(self._settled),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore it; the weights of a settled network hold what was learned already."""
        with torch.no_grad():
            self.values.copy_(state["values"])
            self._moments.copy_(state["moments"])
        self._steps = int(state["steps"])
        if state["settled"]:
            self._leave()

    def _stop(self) -> None:
        if not self._settled:
            self._leave()
            with torch.no_grad():
                self._fold()

    def _leave(self) -> None:
        self._substitution.detach()
        self._settled = True

    def _present(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        device = next(iter(weights.values())).device
        self.values = moved(self.values, device)  # the model may have been
        self._moments = moved(self._moments, device)
        return self._standing_in(weights)

    def _adam(self, gradient: Tensor, rate: float) -> None:
        """Take a step of Adam (Kingma and Ba, ICLR 2015) with its usual settings."""
        self._steps += 1
        first, second = self._moments
        first.lerp_(gradient, 0.1)
        second.lerp_(gradient.square(), 0.001)
        size = (second / (1 - 0.999**self._steps)).sqrt_().add_(1e-8)
        self.values.addcdiv_(first, size, value=-rate / (1 - 0.9**self._steps))

    def _averaged(self) -> Tensor | None:
        """Return the gradient, the mean over all ranks, each of which has seen its own samples."""
        gradient = self.values.grad
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            gradient = torch.zeros_like(self.values) if gradient is None else gradient
            distributed.all_reduce(gradient)
            gradient /= distributed.get_world_size()
        return gradient
