"""Every rule against brute force: what moves when one channel is silenced?

A label says that two positions of a tensor carry the same channel, or that a dimension carries
none. For each operation a channel of the input is changed, and only the positions that the output's
label gives to this channel may change.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from prunus.space.rules import RULES
from prunus.space.tracer import Functions, Recorder, Tracer

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "in-place relu": lambda x: x.clone().relu_(),
    "hardswish": F.hardswish,
    "add itself": lambda x: x + x.sigmoid(),
    "multiply by a number": lambda x: 3 * x,
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "max pool": lambda x: F.max_pool2d(x, 2),
    "average pool": lambda x: F.avg_pool2d(x, 2),
    "adaptive pool": lambda x: F.adaptive_avg_pool2d(x, 3),
    "adaptive max pool": lambda x: F.adaptive_max_pool2d(x, 2),
    "global pool": lambda x: x.mean((2, 3)),
    "sum of pixels": lambda x: x.sum((2, 3), keepdim=True),
    "largest pixel": lambda x: x.amax((2, 3)),
    "upsample": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "flatten": lambda x: x.flatten(1),
    "flatten and back": lambda x: x.flatten(1).view(2, 6, 4, 4),
    "pixels last": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, 3),
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x[:, :, :1, :1].squeeze(3).squeeze(2),
    "batch away": lambda x: x.reshape(-1, 4, 4),
    "cat": lambda x: torch.cat([x, 2 * x], 1),
    "cat of pixels": lambda x: torch.cat([x, x], 2),
    "stack": lambda x: torch.stack([x, 2 * x], 1),
    "split": lambda x: torch.split(x, [2, 4], 1)[1],
    "chunk": lambda x: x.chunk(2, 1)[0],
    "slice": lambda x: x[:, 1:4],
    "pixels by two": lambda x: x[:, :, ::2, ::2],
    "pad pixels": lambda x: F.pad(x, (1, 1, 1, 1)),
    "pad channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "expand": lambda x: x.unsqueeze(1).expand(-1, 3, -1, -1, -1),
    "glu": lambda x: F.glu(x, 1),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "pixel shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2),
    "unflatten": lambda x: x.unflatten(1, (3, 2)),
    "instance norm": lambda x: F.instance_norm(x),
    "softmax of pixels": lambda x: x.flatten(2).softmax(2),
    "depthwise": lambda x: F.conv2d(x, torch.ones(6, 1, 3, 3), groups=6),
}


def traced(operation: Callable[[Tensor], Tensor], x: Tensor, dim: int) -> tuple[Tracer, Tensor]:
    tracer = Tracer()
    labels = ["fixed"] * x.ndim
    labels[dim] = tracer.labels.new(x.shape[dim])
    tracer.assign(x, labels)
    with torch.no_grad(), Functions(tracer, RULES.functions), Recorder(tracer, RULES):
        out = operation(x)
    tracer.labels.settle()
    return tracer, out


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_channel_moves_only_the_positions_that_carry_its_label(name: str) -> None:
    x = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(1))
    tracer, out = traced(OPERATIONS[name], x, dim=1)
    labels = [None if isinstance(x, str) else tracer.labels.find(x) for x in tracer.of(out)]
    classes = tracer.labels.find(np.arange(6))
    reasons = tracer.labels.classes()[1]

    for channel in range(6):
        if reasons[classes[channel]]:
            continue  # a frozen channel never goes, so nothing is claimed about it
        changed = x.clone()
        changed[:, channel] += 1 + torch.rand(2, 4, 4)
        moved = (OPERATIONS[name](changed) != OPERATIONS[name](x)).numpy()
        allowed = np.zeros(out.shape, dtype=bool)
        for dim, label in enumerate(labels):
            if label is not None:
                shape = [1] * out.ndim
                shape[dim] = -1
                allowed |= np.isin(label, classes[channel]).reshape(shape)
        assert not (moved & ~allowed).any()


@pytest.mark.parametrize(
    ("operation", "dim"),
    [
        (lambda x: x.softmax(1), 1),
        (lambda x: x.mean(1), 1),
        (lambda x: x.sum(), 1),
        (lambda x: x[:, 2], 1),
        (lambda x: torch.unbind(x, 1)[0], 1),
        (lambda x: x.flip(1), 1),
        (lambda x: x.cumsum(1), 1),
        (lambda x: x + torch.arange(6.0).view(6, 1, 1), 1),
        (lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (6,)), 1),
    ],
)
def test_operations_that_name_or_mix_channels_freeze_them(
    operation: Callable[[Tensor], Tensor], dim: int
) -> None:
    tracer, _ = traced(operation, torch.randn(2, 6, 4, 4), dim)

    roots, reasons = tracer.labels.classes()

    assert all(reasons[root] for root in roots[:6])


def test_every_rule_names_an_operation_that_exists() -> None:
    missing = [
        name
        for name in RULES.operations
        if name != "pointwise" and not hasattr(torch.ops.aten, name)
    ]

    assert not missing
