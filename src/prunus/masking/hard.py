"""Hard masks: removed weights are exactly zero after every optimizer step."""

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunus.masking.base import Site
from prunus.types import Mask, Scores


class Hard:
    """Keeps the masked weights of a model at zero, whatever the optimizer does.

    The weights are multiplied in place after each step, so momentum, weight decay and mixed
    precision cannot move them. Their gradients are set to zero as soon as a backward pass has left
    them, so that a norm by which gradients are clipped is that of the kept weights. The modules
    have no hooks and no parametrizations, the state-dict keys stay, and copies are plain. When the
    mask changes, the optimizer state of units that were removed or came back is set to zero.

    Args:
        model: The network being trained; only parameters are masked, never buffers.
        dense: Says whether masked weights keep their gradients in the step under way.
    """

    mends = False

    def __init__(self, model: nn.Module, dense: Callable[[], bool] = lambda: False) -> None:
        self._parameters = dict(model.named_parameters())
        self._dense = dense
        self._hooks: list[RemovableHandle] = []
        self.mask: Mask = {}
        self._weights: list[Tensor] = []
        self._factors: list[Tensor] = []

    @classmethod
    def on(cls, site: Site) -> Self:
        """Begin on a network."""
        return cls(site.model, site.dense)

    @torch.no_grad()
    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Replace the mask and apply it.

        Args:
            mask: Parameter name -> bool; entries that keep everything cost nothing.
            optimizer: Its state is zeroed where the mask changed.
        """
        before = self.mask
        self.mask = {
            name: kept.clone()
            for name, kept in mask.items()
            if name in self._parameters and not kept.all()
        }
        self._weights = [self._parameters[name] for name in self.mask]
        self._factors = [
            _factor(weight, kept)
            for weight, kept in zip(self._weights, self.mask.values(), strict=True)
        ]
        self._watch()
        self.apply()
        if optimizer is not None:
            clear_changed(optimizer, self._parameters, before, self.mask)

    def load(self, mask: Mask) -> None:
        """Take up a mask that was in place before."""
        self.set(mask)

    def apply(self, rate: float | None = None, scale: float = 1.0) -> None:
        """Set the masked weights to zero; called after every optimizer step."""
        self.multiply()

    def penalty(self) -> Tensor | float:
        """Return 0: a mask adds nothing to the loss."""
        return 0.0

    def detach(self) -> None:
        """Leave the network as it is: its masked weights are zero."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def scores(self) -> Scores:
        """Return nothing: a mask learns nothing."""
        return {}

    def state(self) -> Mapping[str, Tensor]:
        """Return nothing: the mask is all there is."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""

    def settle(self) -> None:
        """Hold the mask from now on, as has been done all along."""

    @torch.no_grad()
    def multiply(self) -> None:
        """Set the masked weights to zero."""
        for k in range(len(self._weights)):
            self._follow(k)
        if self._weights:
            torch._foreach_mul_(self._weights, self._factors)

    def _follow(self, k: int) -> Tensor:
        weight, factor = self._weights[k], self._factors[k]
        if factor.device != weight.device or factor.stride() != weight.stride():
            self._factors[k] = _factor(weight, factor)  # the model was moved since
        return self._factors[k]

    def _watch(self) -> None:
        """Let every backward pass mask the gradients that it leaves."""
        Hard.detach(self)
        own = weakref.ref(self)  # a mask that nobody holds any more is not kept by its hooks

        def masked(k: int, weight: Tensor) -> None:
            if (hard := own()) is not None:
                hard._mask_gradient(k, weight)

        self._hooks = [
            weight.register_post_accumulate_grad_hook(partial(masked, k))  # type: ignore[no-untyped-call]
            for k, weight in enumerate(self._weights)
            if weight.requires_grad
        ]

    @torch.no_grad()
    def _mask_gradient(self, k: int, weight: Tensor) -> None:
        if weight.grad is not None and not weight.grad.is_sparse and not self._dense():
            weight.grad.mul_(self._follow(k))


def _factor(weight: Tensor, kept: Tensor) -> Tensor:
    """Return ones and zeros laid out like `weight`, which makes the product fastest."""
    return torch.empty_like(weight).copy_(kept)


def clear_changed(
    optimizer: Optimizer, parameters: Mapping[str, Tensor], before: Mask, after: Mask
) -> None:
    """Zero the optimizer's state of weights that were removed or came back."""
    for name in before.keys() | after.keys():
        weight = parameters[name]
        whole = torch.ones(weight.shape, dtype=torch.bool)
        same = before.get(name, whole) == after.get(name, whole)
        clear_state(optimizer, weight, same)


def clear_state(optimizer: Optimizer, parameter: Tensor, keep: Tensor) -> None:
    """Zero the optimizer's per-weight state (momentum, moments) where `keep` is False."""
    if keep.all():
        return
    for value in _state(optimizer, parameter).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.mul_(keep.to(value.device, value.dtype))


def _state(optimizer: Optimizer, parameter: Tensor) -> Mapping[str, object]:
    found: Mapping[str, object] = optimizer.state.get(parameter, {})
    return found
