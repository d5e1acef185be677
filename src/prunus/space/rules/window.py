"""Pooling, resampling and padding: each channel is treated alone, positions are mixed."""

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.labels import Label
from prunus.space.tracer import Call, Tracer

_SPATIAL = {"1d": 1, "2d": 2, "3d": 3}


TREATED = (
    *("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d"),
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *(
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "_upsample_nearest_exact2d",
    ),
    *(
        "upsample_linear1d",
        "upsample_bilinear2d",
        "_upsample_bilinear2d_aa",
        "upsample_trilinear3d",
    ),
    *("upsample_bicubic2d", "_upsample_bicubic2d_aa"),
    *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d", "grid_sampler_2d"),
)
"""Operations over windows of one to three dimensions."""


def window(tracer: Tracer, call: Call) -> None:
    """Freeze the spatial dimensions, pass batch and channels through."""
    labels = tracer.of(call.tensors[0])
    spatial = next((count for suffix, count in _SPATIAL.items() if suffix in call.name), 2)
    for tensor in call.tensors[1:]:
        first, *others = tracer.of(tensor)
        tracer.labels.join(first, labels[0])
        for label in others:
            tracer.labels.freeze(label, "is a spatial position")
    for label in labels[-spatial:]:
        tracer.labels.freeze(label, "is a spatial position")
    fixed: list[Label] = ["is a spatial position"] * spatial
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            tracer.assign(out, [*labels[:-spatial], *fixed])


def fractional(tracer: Tracer, call: Call) -> None:
    """fractional_max_pool: windows begin where the random numbers of each channel say."""
    source, samples = call["self"], call["random_samples"]
    labels, numbers, spatial = tracer.of(source), tracer.of(samples), samples.shape[-1]
    *batch, channels = labels[:-spatial]
    if isinstance(numbers[1], str):
        tracer.labels.freeze(channels, "has random numbers that are drawn for all channels at once")
    tracer.labels.join(channels, numbers[1])
    if batch and len(samples) == len(source):
        tracer.labels.join(batch[0], numbers[0])
    else:  # there may be numbers for more than are given
        for label in (*batch, numbers[0]):
            tracer.labels.freeze(label, "is one of a batch with more random numbers")
    for label in (*labels[-spatial:], numbers[2]):
        tracer.labels.freeze(label, "is a spatial position")
    fixed: list[Label] = ["is a spatial position"] * spatial
    for out in call.out:
        tracer.assign(out, [*labels[:-spatial], *fixed])


def unpool(tracer: Tracer, call: Call) -> None:
    """max_unpool2d: each channel goes to the places of the channel that was pooled."""
    data, places = tracer.of(call["self"]), tracer.of(call["indices"])
    for label, place in zip(data[:-2], places[:-2], strict=True):
        tracer.labels.join(label, place)
    for label in (*data[-2:], *places[-2:]):
        tracer.labels.freeze(label, "is a spatial position")
    fixed: list[Label] = ["is a spatial position"] * 2
    tracer.assign(call.out, [*data[:-2], *fixed])


def regions(tracer: Tracer, call: Call) -> None:
    """roi_align, roi_pool: pieces of a map as a batch of their own, channel by channel."""
    labels = tracer.of(call["input"])
    for label in (labels[0], *labels[2:]):
        tracer.labels.freeze(label, "is cut into regions")
    for leaf in tree_leaves(call.out):
        if isinstance(leaf, Tensor):
            fixed: Label = "is a region"
            tracer.assign(leaf, [fixed, labels[1], fixed, fixed])


def im2col(tracer: Tracer, call: Call) -> None:
    """unfold: a channel becomes as many adjacent ones as its window has positions."""
    labels = tracer.of(call["self"])
    channels = labels[-3]
    for label in labels[-2:]:
        tracer.labels.freeze(label, "is a spatial position")
    if not isinstance(channels, str):
        channels = np.repeat(channels, call["kernel_size"][0] * call["kernel_size"][1])
    tracer.assign(call.out, [*labels[:-3], channels, "is a spatial position"])


def col2im(tracer: Tracer, call: Call) -> None:
    """fold: the adjacent channels of one window are added up into one channel."""
    labels = tracer.of(call["self"])
    channels = labels[-2]
    tracer.labels.freeze(labels[-1], "is a spatial position")
    if not isinstance(channels, str):
        window = call["kernel_size"][0] * call["kernel_size"][1]
        table = channels.reshape(-1, window)
        tracer.labels.join(table, table[:, :1])
        channels = table[:, 0].copy()
    spatial: list[Label] = ["is a spatial position"] * 2
    tracer.assign(call.out, [*labels[:-2], channels, *spatial])
