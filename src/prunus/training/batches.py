"""Shuffling, augmenting and normalising whole batches, without a loop over images."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Split = Literal["train", "val", "test"]

IGNORED = -100
"""The label of what does not count; also what PyTorch's cross-entropy leaves out by default."""


def labelled(labels: Tensor) -> int:
    """Return how many labels count."""
    return int((labels != IGNORED).sum())


def generator(*key: int) -> torch.Generator:
    """Return a CPU random generator seeded from several non-negative integers."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


def batch_bounds(count: int, size: int) -> list[tuple[int, int]]:
    """Return (begin, end) of each training batch of an epoch of `count` samples.

    The last batch holds what remains; a single remaining sample joins the batch before it, because
    batch norm cannot train on one sample.
    """
    edges = list(range(0, count, size))
    if size > 1 and count % size == 1 and len(edges) > 1:
        edges.pop()
    return list(zip(edges, [*edges[1:], count], strict=True))


def crop_and_flip(images: Tensor, padding: int, flip: bool, random: torch.Generator) -> Tensor:
    """Pad with zeros, crop at random to the old size and mirror, in one gather of whole pixels.

    Args:
        images: (batch, height, width, channels), any type.
        padding: Pixels of zeros at each side.
        flip: Whether half of the images, at random, are mirrored left to right.
        random: Draws the offsets and the mirrored images.

    Returns:
        Shape and type of `images`.
    """
    batch, height, width, channels = images.shape
    padded = functional.pad(images, (0, 0, padding, padding, padding, padding))
    rows, columns = torch.arange(height), torch.arange(width).expand(batch, width)
    down, right = torch.randint(2 * padding + 1, (2, batch, 1), generator=random)
    if flip:
        mirrored = torch.rand(batch, 1, generator=random) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    first = torch.arange(batch).unsqueeze(1) * padded.shape[1] + rows + down
    pixels = (first * padded.shape[2]).unsqueeze(2) + (columns + right).unsqueeze(1)
    return padded.view(-1, channels).index_select(0, pixels.flatten()).view(images.shape)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean and divide by the standard deviation.

    Args:
        images: (batch, height, width, channels) or (batch, features); uint8 is divided by 255
            first.
        mean: One value per channel, or one for all.
        std: As `mean`.

    Returns:
        float32 (batch, channels, height, width) in channels-last memory, or (batch, features).
    """
    deviation = torch.tensor(std, dtype=torch.float64)
    shift = (-torch.tensor(mean, dtype=torch.float64) / deviation).float()
    scale = (1 / (deviation * (255 if images.dtype == torch.uint8 else 1))).float()
    if images.ndim == 2:
        return images.to(torch.float32, copy=True).mul_(scale).add_(shift)
    # A whole row of pixels is the inner dimension, long enough for vector instructions.
    _, _, width, channels = images.shape
    rows = images.flatten(2).to(torch.float32, copy=True)
    rows.mul_(scale.expand(width, channels).flatten())
    rows.add_(shift.expand(width, channels).flatten())
    return rows.view(images.shape).permute(0, 3, 1, 2)
