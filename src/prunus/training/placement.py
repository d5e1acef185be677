"""Where a model's tensors lie while it trains: device and memory layout, put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def placed(model: nn.Module, device: torch.device, layout: torch.memory_format) -> Iterator[None]:
    """Move a model, in place, for the duration of the block.

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
