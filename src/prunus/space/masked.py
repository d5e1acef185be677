"""The masked network: what the small one is to compute."""

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
    for name, kept in mask.items():
        if name not in tensors:
            raise ValueError(f"the mask names {name!r}, which the model does not have.")
        if kept.shape != tensors[name].shape:
            raise ValueError(
                f"mask[{name!r}] must have shape {tuple(tensors[name].shape)}, got "
                f"{tuple(kept.shape)}."
            )
        tensors[name].masked_fill_(~kept.to(tensors[name].device), 0)
