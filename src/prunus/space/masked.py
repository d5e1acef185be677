"""The masked network: what the small one is to compute."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunus.types import Mask


@torch.no_grad()
def apply_mask(model: nn.Module, mask: Mask) -> None:
    """Multiply the model's tensors by a mask, in place.

    Raises:
        ValueError: The mask names a tensor the model lacks, or has another shape.
    """
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(model.named_buffers(remove_duplicate=False))
    check_mask(tensors, mask)
    for name, kept in mask.items():
        tensors[name].masked_fill_(~kept.to(tensors[name].device), 0)


def check_mask(state: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> None:
    """Raise a ValueError unless each tensor has a name and the shape of one in `state`."""
    for name, tensor in mask.items():
        if name not in state:
            raise ValueError(f"the model has no tensor {name!r}.")
        if tensor.shape != state[name].shape:
            raise ValueError(
                f"{name} must have shape {tuple(state[name].shape)}, got {tuple(tensor.shape)}."
            )
