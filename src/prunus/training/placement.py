"""Where the tensors of a model and its inputs lie: device and memory layout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from prunus.types import Example, call_arguments


@contextmanager
def placed(model: nn.Module, device: torch.device, layout: torch.memory_format) -> Iterator[None]:
    """Move a model, in place, for the duration of the block, and back afterwards.

    The layout matters afterwards as well: kernels for different layouts round differently, so a
    model that kept the layout of its training would not agree bit for bit with the same weights
    loaded from a file.

    Args:
        model: Its parameters lie on one device.
        device: Where to.
        layout: Of four-dimensional parameters.
    """
    before = next((parameter.device for parameter in model.parameters()), device)
    strided = any(
        parameter.ndim == 4 and not parameter.is_contiguous() for parameter in model.parameters()
    )
    model.to(device).to(memory_format=layout)
    try:
        yield
    finally:
        model.to(before).to(
            memory_format=torch.channels_last if strided else torch.contiguous_format
        )


def moved(
    inputs: Example,
    device: torch.device,
    layout: torch.memory_format = torch.preserve_format,
) -> Example:
    """Return inputs on the device, those of four dimensions in the layout."""

    def move(x: Tensor) -> Tensor:
        x = x.to(device, non_blocking=True)
        strided = x.ndim == 4 and layout != torch.preserve_format
        return x.contiguous(memory_format=layout) if strided else x

    found: Example = (
        move(inputs) if isinstance(inputs, Tensor) else tree_map_only(Tensor, move, inputs)
    )
    return found


def answer(model: nn.Module, inputs: Example) -> Any:
    """Return what the model makes of one input, several, or named ones."""
    args, kwargs = call_arguments(inputs)
    return model(*args, **kwargs)
