"""The control that fine-tuning is compared with: the small network trained from scratch.

Source: Liu, Sun, Zhou, Huang and Darrell, ICLR 2019, arXiv:1810.05270, section 3 and the authors'
code.
"""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from prunus.seeds import seeded
from prunus.space.masked import apply_mask, check_mask
from prunus.types import Mask


class Scalable(Protocol):
    """Training settings, as far as a budget needs to know them."""

    def scaled(self, factor: float) -> Self:
        """Return the settings with length and schedule times `factor`."""
        ...


Settings = TypeVar("Settings", bound=Scalable)


def reinitialise(
    model: nn.Module,
    seed: int,
    mask: Mask | None = None,
    *,
    norm_weight: float | Mapping[str, float] = 1.0,
) -> None:
    """Give a network fresh weights, in place; the global random state stays as it was.

    Convolutions are drawn from N(0, 2 / n) with n the connections that leave an input channel:
    n = k * k * C_out for a dense kernel, n = nnz(mask) / C_in for a masked one. Linear layers are
    drawn from N(0, 0.01^2), biases are zero, normalisations start as the identity. A module of
    another type draws its own `reset_parameters`. Last, masked weights are set to zero.

    Deviation: n is divided by the groups of a grouped convolution, so that it counts connections
    there as well; the paper's networks have none.

    Args:
        model: The pruned architecture, or the dense one with a mask.
        seed: Of the new weights.
        mask: State-dict name -> bool, True = kept.
        norm_weight: Initial scale of batch norms, or module name -> that of each (1 where it is not
            named), as `norm_weights` gives it; the authors use 0.5 for the CIFAR VGG.

    Raises:
        ValueError: The mask does not fit, or a parameter's module cannot draw it afresh; nothing
            was changed.
    """
    mask = mask or {}
    state = model.state_dict(keep_vars=True)
    check_mask(state, mask)
    modules = dict(model.named_modules())
    for name, module in modules.items():
        held = [key for key, _ in module.named_parameters(recurse=False)]
        if held and _reset(module) is None:
            raise ValueError(
                f"{name or 'the model'} ({type(module).__name__}) has parameters {', '.join(held)} "
                "and no method reset_parameters that draws them; give it one."
            )
    with seeded(seed, {p.device for p in model.parameters()}), torch.no_grad():
        for name, module in modules.items():
            own = norm_weight.get(name, 1.0) if isinstance(norm_weight, Mapping) else norm_weight
            _draw(module, mask.get(f"{name}.weight" if name else "weight"), own)
    apply_mask(model, mask)


def norm_weights(model: nn.Module) -> dict[str, float]:
    """Return the scale of each batch norm, on average, by module name.

    Args:
        model: As it was drawn, so that another network can begin like it.
    """
    return {
        name: float(module.weight.detach().mean())
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.affine
    }


def _draw(module: nn.Module, kept: Tensor | None, norm_weight: float) -> None:
    if isinstance(module, _ConvNd):
        connections = module.weight.numel() if kept is None else int(kept.sum())
        fan_out = max(1, connections) / module.in_channels
        module.weight.normal_(0, (2 / fan_out) ** 0.5)
    elif isinstance(module, nn.Linear):
        module.weight.normal_(0, 0.01)
    else:
        if (reset := _reset(module)) is not None:
            reset()
        if isinstance(module, _BatchNorm) and module.affine:
            module.weight.fill_(norm_weight)
        return
    if module.bias is not None:
        module.bias.zero_()


def _reset(module: nn.Module) -> Callable[[], None] | None:
    # torch's attention has only the second name.
    for name in ("reset_parameters", "_reset_parameters"):
        method: Callable[[], None] | None = getattr(module, name, None)
        if method is not None:
            return method
    return None


def scratch_settings(
    settings: Settings,
    dense_macs: float,
    pruned_macs: float,
    budget: Literal["E", "B"],
    cap: float | None = None,
) -> Settings:
    """Return the settings with which a pruned network is trained from scratch.

    Scratch-E trains for as many epochs as the dense network, scratch-B for as many MACs: its
    length and schedule are stretched by dense_macs / pruned_macs.

    Args:
        settings: Of the dense network.
        dense_macs: Multiply-accumulates of the dense network for one input.
        pruned_macs: The same of the pruned one.
        budget: "E" for equal epochs, "B" for an equal budget.
        cap: Largest factor; 2 in the paper's ImageNet experiments, None on CIFAR.

    Raises:
        ValueError: A cost, the budget or the cap is out of range.
    """
    if not 0 < pruned_macs <= dense_macs:
        raise ValueError(
            f"pruned_macs must be above 0 and at most dense_macs, got {pruned_macs:g} and "
            f"{dense_macs:g}."
        )
    if cap is not None and cap < 1:
        raise ValueError(f"cap must be at least 1, got {cap:g}; leave it out for none.")
    if budget == "E":
        return settings
    if budget != "B":
        raise ValueError(f"budget must be 'E' or 'B', got {budget!r}.")
    factor = dense_macs / pruned_macs
    return settings.scaled(factor if cap is None else min(factor, cap))
