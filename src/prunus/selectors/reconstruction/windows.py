"""What each output of a layer reads, at sampled positions: a convolution as a matrix product."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

_ENTRIES = 1 << 23
"""So many numbers are unrolled at a time: 64 MiB in double precision."""


@dataclass(frozen=True)
class Windows:
    """The input of a convolution or linear layer, and which part of it each output reads.

    Attributes:
        values: Shape (samples, channels, points): what the layer was given, padded.
        points: int64, shape (positions, kernel): the points that each output position reads. A
            linear layer reads one; its positions are tokens.
        groups: Groups of the convolution.
    """

    values: Tensor
    points: Tensor
    groups: int

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw output positions of every sample, with replacement.

        Returns:
            Of each the sample and the position, int64, shape (samples * count,).
        """
        samples = torch.arange(len(self.values)).repeat_interleave(count)
        positions = torch.randint(len(self.points), samples.shape, generator=generator)
        device = self.values.device
        return samples.to(device), positions.to(device)

    def some(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return every output position of every sample, or draw where there are more than `count`.

        Returns:
            As `draw`.
        """
        every = len(self.points)
        if every > count:
            return self.draw(count, generator)
        device = self.values.device
        samples = torch.arange(len(self.values), device=device).repeat_interleave(every)
        return samples, torch.arange(every, device=device).repeat(len(self.values))

    def parts(self, samples: Tensor, positions: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield what the outputs at these places read, a bounded number of places at a time.

        Yields:
            Which places, and float64 of shape (places, groups, channels / groups, kernel).
        """
        channels, kernel = self.values.shape[1], self.points.shape[1]
        step = max(1, _ENTRIES // (channels * kernel))
        for start in range(0, len(samples), step):
            part = slice(start, start + step)
            read = self.values[samples[part, None], :, self.points[positions[part]]]
            read = read.double().transpose(1, 2)  # places, channels, kernel
            yield part, read.reshape(len(read), self.groups, -1, kernel)


def windows(layer: nn.Module, x: Tensor) -> Windows:
    """Return what a layer reads of its input `x`; it must have windows."""
    if isinstance(layer, nn.Linear):
        tokens = x.reshape(len(x) if x.ndim > 1 else 1, -1, x.shape[-1])
        points = torch.arange(tokens.shape[1], device=x.device)[:, None]
        return Windows(tokens.transpose(1, 2), points, 1)
    assert isinstance(layer, _ConvNd)
    dims = len(layer.kernel_size)
    x = x if x.ndim == dims + 2 else x[None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    index = torch.arange(x[0, 0].numel(), device=x.device).view(x.shape[2:])
    for dim, (size, stride, gap) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ):
        index = index.unfold(dim, gap * (size - 1) + 1, stride)[..., ::gap]
    return Windows(x.flatten(2), index.reshape(-1, *layer.kernel_size).flatten(1), layer.groups)


def outputs(layer: nn.Module, z: Tensor) -> Tensor:
    """Return what a layer has put out, shape (samples, outputs, positions)."""
    if isinstance(layer, nn.Linear):
        return z.reshape(len(z) if z.ndim > 1 else 1, -1, z.shape[-1]).transpose(1, 2)
    assert isinstance(layer, _ConvNd)
    return (z if z.ndim == len(layer.kernel_size) + 2 else z[None]).flatten(2)
