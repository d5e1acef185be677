"""Other weights for a network and a smaller one, so that what is at zero hides nothing."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from prunus.space.remove import sliced

Index: TypeAlias = Mapping[str, Mapping[int, Tensor]]
"""Tensor name -> dimension -> positions that stay."""


@contextmanager
def redrawn(dense: nn.Module, small: nn.Module, index: Index, *, buffers: bool) -> Iterator[None]:
    """Give both random weights of the scale of the present ones; buffers come back afterwards.

    Args:
        dense: Is changed in place.
        small: The same without what is not in `index`; is changed in place, too.
        index: What stays.
        buffers: Draw buffers of floating-point numbers, too; positive ones where all are.
    """
    generator = torch.Generator().manual_seed(0)
    theirs: dict[str, Tensor] = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    before: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for name, parameter in dense.named_parameters():
            if parameter.is_floating_point() and parameter.numel():
                drawn = _like(parameter, generator)
                parameter.copy_(drawn)
                if name in theirs:
                    theirs[name].copy_(sliced(drawn, dict(index.get(name, {}))))
        for name, tensor in dense.named_buffers() if buffers else ():
            left = sliced(tensor, dict(index.get(name, {})))
            if tensor.is_floating_point() and tensor.numel() and name in theirs:
                if left.shape != theirs[name].shape:
                    continue
                before += [(x, x.clone()) for x in (tensor, theirs[name])]
                positive = bool((tensor >= 0).all() and tensor.any())
                drawn = _like(tensor, generator)
                tensor.copy_(drawn.abs() if positive else drawn)
                theirs[name].copy_(sliced(tensor, dict(index.get(name, {}))))
    try:
        yield
    finally:
        for present, value in before:
            present.copy_(value)


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal numbers of the scale of a tensor, at most one."""
    scale = float(tensor.double().square().mean().sqrt())
    scale = min(scale, 1.0) if 0 < scale < float("inf") else 0.1
    drawn = torch.randn(tensor.shape, generator=generator) * scale
    return drawn.to(tensor)
