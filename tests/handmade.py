"""Small networks written by hand, as users bring them, each with what pruning tools stumble on.

`NETWORKS` maps a name to a function that builds the network and an example input: one tensor, a
tuple of positional inputs or a dict of keyword inputs, with a batch of two. Builders seed nothing.
Every network runs in eval and in train mode, and with any batch of two or more.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, rnn
from torch.utils.checkpoint import checkpoint

from prunus.types import Example

Networks = dict[str, Callable[[], tuple[nn.Module, Example]]]


def image(side: int = 8, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, side, side)


def sequence(length: int = 6, width: int = 16) -> Tensor:
    return torch.randn(2, length, width)


def words(length: int = 7, vocabulary: int = 20) -> Tensor:
    return torch.randint(1, vocabulary, (2, length))


class ConvBlock(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inside: int, outside: int, kernel: int = 3, stride: int = 1) -> None:
        conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


class PooledHead(nn.Module):
    def __init__(self, width: int, classes: int = 4) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


# --- plain chains --------------------------------------------------------------------------------


class LeNet(nn.Module):
    """The tutorial's network: its flattening has the number of features written down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 24), nn.Linear(24, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.max_pool2d(torch.tanh(self.conv2(x)), 2)
        x = x.view(-1, 400)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


class CountedFlatten(nn.Module):
    """Counts the features itself, as older code does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 12, 3, 2), nn.Linear(12 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        features = 1
        for size in x.size()[1:]:
            features *= size
        return self.fc(x.view(-1, features))


class PermutedFlatten(nn.Module):
    """Flattens with the channels last, so that a channel owns strided columns of the next layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 10, 3, 2, 1), nn.Linear(160, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).permute(0, 2, 3, 1).reshape(x.shape[0], -1))


class AlexNetLRN(nn.Module):
    """Local response normalisation mixes neighbouring channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.LocalResponseNorm(3)
        self.conv2, self.head = nn.Conv2d(12, 16, 3, padding=1), PooledHead(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv2(self.norm(F.relu(self.conv1(x))))))


def vgg() -> nn.Module:
    features = nn.Sequential(
        *(ConvBlock(3, 8), ConvBlock(8, 8), nn.MaxPool2d(2)),
        *(ConvBlock(8, 16), ConvBlock(16, 16), nn.MaxPool2d(2)),
        nn.AdaptiveAvgPool2d(2),
    )
    classifier = [nn.Linear(64, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 10)]
    return nn.Sequential(features, nn.Flatten(), *classifier)


def all_convolutional() -> nn.Module:
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(ConvBlock(3, 12), ConvBlock(12, 16, 3, 2), nn.Conv2d(16, 4, 1), *pool)


def mlp_of_norms() -> nn.Module:
    first = [nn.Linear(12, 24), nn.BatchNorm1d(24), nn.LeakyReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*first, nn.Linear(24, 20), nn.LayerNorm(20), nn.GELU(), nn.Linear(20, 3))


def conv1d() -> nn.Module:
    body = [nn.Conv1d(4, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2)]
    return nn.Sequential(*body, nn.Conv1d(16, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5))


def conv3d() -> nn.Module:
    body = [nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.AvgPool3d(2)]
    return nn.Sequential(*body, nn.Conv3d(8, 12, 2), nn.ELU(), nn.Flatten(), nn.Linear(12, 5))


PLAIN: Networks = {
    "mlp": lambda: (
        nn.Sequential(
            *(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4))
        ),
        torch.randn(2, 12),
    ),
    "mlp_of_norms": lambda: (mlp_of_norms(), torch.randn(2, 12)),
    "lenet_constant_view": lambda: (LeNet(), image(28, 1)),
    "counted_flatten": lambda: (CountedFlatten(), image()),
    "permuted_flatten": lambda: (PermutedFlatten(), image()),
    "alexnet_lrn": lambda: (AlexNetLRN(), image()),
    "vgg": lambda: (vgg(), image(16)),
    "all_convolutional": lambda: (all_convolutional(), image()),
    "conv1d": lambda: (conv1d(), torch.randn(2, 4, 16)),
    "conv3d": lambda: (conv3d(), torch.randn(2, 1, 4, 4, 4)),
}


# --- residual sums and concatenations ------------------------------------------------------------


class BasicBlock(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.downsample = None
        if stride > 1:
            conv = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += identity
        return F.relu(out)


class Bottleneck(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(width, inner, 1), ConvBlock(inner, inner))
        self.expand, self.bn = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.expand(self.body(x))) + x)


class PreActivation(nn.Module):
    """Norm and ReLU come first, so the sum itself is never normalised until the head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))


class PaddedShortcut(nn.Module):
    """Option A of ResNet: every second pixel, and zeros for the new channels, half on each side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = ConvBlock(3, 8), ConvBlock(8, 16, 3, 2)
        self.conv, self.head = nn.Conv2d(16, 16, 3, padding=1), PooledHead(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0)
        return self.head(F.relu(self.conv(self.block(x)) + shortcut))


class IdentityConcat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grow = ConvBlock(3, 10), ConvBlock(10, 6)
        self.last, self.head = ConvBlock(16, 12), PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(torch.cat([x, self.grow(x)], 1)))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 6 * k) for k in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 6 * k, 6, 3, padding=1) for k in range(3))
        self.transition = nn.Sequential(nn.BatchNorm2d(26), nn.ReLU(), nn.Conv2d(26, 12, 1))
        self.head = PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return self.head(F.avg_pool2d(self.transition(torch.cat(features, 1)), 2))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBlock(3, 12)
        self.one, self.three = ConvBlock(12, 6, 1), ConvBlock(12, 8)
        self.five = nn.Sequential(ConvBlock(12, 5, 1), ConvBlock(5, 7, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvBlock(12, 4, 1))
        self.head = PooledHead(25)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.cat((self.one(x), self.three(x), self.five(x), self.pool(x)), 1))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = ConvBlock(3, 16), PooledHead(16)
        self.down, self.up = nn.Linear(16, 8), nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, _, _ = x.size()
        scale = F.adaptive_avg_pool2d(x, 1).view(b, c)
        scale = torch.sigmoid(self.up(F.relu(self.down(scale)))).view(b, c, 1, 1)
        return self.head(x * scale.expand_as(x))


class InvertedResidual(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden, bias=False)
        self.conv = nn.Sequential(
            *(nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()),
            *(depthwise, nn.BatchNorm2d(hidden), nn.ReLU6()),
            *(nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class RepVGG(nn.Module):
    """Three branches with their own norms, one of them the identity, summed before the ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.identity = ConvBlock(3, 12), nn.BatchNorm2d(12)
        self.dense = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12))
        self.point = nn.Sequential(nn.Conv2d(12, 12, 1), nn.BatchNorm2d(12))
        self.head = PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(F.relu(sum([self.dense(x), self.point(x), self.identity(x)])))


class Highway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Linear(10, 20), nn.Linear(20, 3)
        self.change = nn.ModuleList(nn.Linear(20, 20) for _ in range(2))
        self.gate = nn.ModuleList(nn.Linear(20, 20) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for change, gate in zip(self.change, self.gate, strict=True):
            share = torch.sigmoid(gate(x))
            x = share * F.relu(change(x)) + (1 - share) * x
        return self.out(x)


class EulerSteps(nn.Module):
    """A neural ODE by hand: the same block adds its small change again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Linear(6, 12), nn.Linear(12, 3)
        self.change = nn.Sequential(nn.Linear(13, 20), nn.Tanh(), nn.Linear(20, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for step in range(4):
            time = x.new_full((x.shape[0], 1), step / 4)
            x = x + 0.25 * self.change(torch.cat([x, time], 1))
        return self.out(x)


class ConvNeXt(nn.Module):
    """Channels-last layer norm and linear layers, a layer scale, and stochastic depth."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, 2)
        self.depthwise = nn.Conv2d(12, 12, 7, padding=3, groups=12)
        self.norm, self.up, self.down = nn.LayerNorm(12), nn.Linear(12, 24), nn.Linear(24, 12)
        self.scale = nn.Parameter(0.1 * torch.ones(12))
        self.head = PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        inner = (self.scale * self.down(F.gelu(self.up(inner)))).permute(0, 3, 1, 2)
        if self.training:
            inner = inner * inner.new_empty(len(x), 1, 1, 1).bernoulli_(0.8).div_(0.8)
        return self.head(x + inner)


class Res2Net(nn.Module):
    """Four parts of the channels, each added to the next before its own convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = ConvBlock(3, 16), PooledHead(16)
        self.convs = nn.ModuleList(ConvBlock(4, 4) for _ in range(3))
        self.mix = nn.Conv2d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        parts = torch.split(x, 4, 1)
        out = [parts[0]]
        for conv, part in zip(self.convs, parts[1:], strict=True):
            out.append(conv(part if len(out) == 1 else part + out[-1]))
        return self.head(F.relu(x + self.mix(torch.cat(out, 1))))


class Ghost(nn.Module):
    """Half the channels are cheap depthwise copies of the other half; a slice cuts the surplus."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.cheap = ConvBlock(3, 9), nn.Conv2d(9, 9, 3, padding=1, groups=9)
        self.last, self.head = ConvBlock(16, 10), PooledHead(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return self.head(self.last(torch.cat([x, self.cheap(x)], dim=1)[:, :16, :, :]))


RESIDUAL: Networks = {
    "resnet_basic": lambda: (
        nn.Sequential(ConvBlock(3, 8), BasicBlock(8, 8, 1), BasicBlock(8, 16, 2), PooledHead(16)),
        image(),
    ),
    "resnet_bottleneck": lambda: (
        nn.Sequential(ConvBlock(3, 16), Bottleneck(16, 8), Bottleneck(16, 12), PooledHead(16)),
        image(),
    ),
    "resnet_preactivation": lambda: (
        nn.Sequential(
            *(nn.Conv2d(3, 12, 3), PreActivation(12), PreActivation(12)),
            *(nn.BatchNorm2d(12), nn.ReLU(), PooledHead(12)),
        ),
        image(),
    ),
    "resnet_padded_shortcut": lambda: (PaddedShortcut(), image()),
    "identity_concat": lambda: (IdentityConcat(), image()),
    "densenet": lambda: (DenseNet(), image()),
    "inception": lambda: (Inception(), image()),
    "squeeze_excite": lambda: (SqueezeExcite(), image()),
    "inverted_residual": lambda: (
        nn.Sequential(ConvBlock(3, 8), InvertedResidual(8, 24), PooledHead(8)),
        image(),
    ),
    "repvgg": lambda: (RepVGG(), image()),
    "highway": lambda: (Highway(), torch.randn(2, 10)),
    "euler_steps": lambda: (EulerSteps(), torch.randn(2, 6)),
    "convnext": lambda: (ConvNeXt(), image()),
    "res2net": lambda: (Res2Net(), image()),
    "ghost": lambda: (Ghost(), image()),
}


# --- groups and the order of channels ------------------------------------------------------------


class ChannelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 1)
        self.second, self.third = (nn.Conv2d(12, 12, 3, padding=1, groups=3) for _ in range(2))
        self.head = PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(self.first(x)))
        b, c, h, w = x.shape
        x = x.view(b, 3, c // 3, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return self.head(F.relu(self.third(x)))


class ShuffledGroups(nn.Module):
    """ShuffleNet's first version: PyTorch's shuffle between two grouped convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = ConvBlock(3, 12), PooledHead(12)
        self.first, self.second = (nn.Conv2d(12, 12, 1, groups=3) for _ in range(2))
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)

    def forward(self, x: Tensor) -> Tensor:
        x = F.channel_shuffle(F.relu(self.first(self.stem(x))), 3)
        return self.head(F.relu(self.second(self.depthwise(x))))


class ShuffleUnit(nn.Module):
    """ShuffleNet V2: one half passes through, then the channels are interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.shuffle = ConvBlock(3, 16), PooledHead(16), nn.ChannelShuffle(2)
        depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.branch = nn.Sequential(ConvBlock(8, 8, 1), depthwise, ConvBlock(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = self.stem(x).chunk(2, dim=1)
        return self.head(self.shuffle(torch.cat((kept, self.branch(changed)), dim=1)))


class SwappedHalves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = ConvBlock(3, 16), ConvBlock(16, 16), PooledHead(16)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, 1)
        return self.head(self.second(torch.cat([right, left], 1)))


class StridedChannels(nn.Module):
    """Even channels gate the odd ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.head = nn.Conv2d(3, 20, 3), ConvBlock(10, 8), PooledHead(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.head(self.last(y[:, ::2] * torch.sigmoid(y[:, 1::2])))


class PickedChannels(nn.Module):
    """narrow, index_select and gather with constant indices."""

    picked: Tensor
    order: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = ConvBlock(3, 16), ConvBlock(8, 12), ConvBlock(6, 12)
        self.head = PooledHead(12)
        self.register_buffer("picked", torch.tensor([0, 2, 3, 7, 8, 11]))
        self.register_buffer("order", torch.tensor([5, 4, 0, 1, 3, 2, 6, 11, 10, 9, 8, 7]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x).narrow(1, 4, 8))
        x = self.conv3(torch.index_select(x, 1, self.picked))
        return self.head(x.gather(1, self.order.view(1, -1, 1, 1).expand(x.shape)))


class RolledChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = ConvBlock(3, 12), ConvBlock(12, 12), PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.head(self.conv2(x.roll(3, 1) + x.flip(1)))


class CumulatedChannels(nn.Module):
    """Each channel is the sum of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = ConvBlock(3, 10), ConvBlock(10, 12), PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.stem(x).cumsum(dim=1)))


class Interleaved(nn.Module):
    """The channels of two layers alternate; later each comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = ConvBlock(3, 8), ConvBlock(3, 8)
        self.mix, self.last, self.head = ConvBlock(16, 6), ConvBlock(24, 10), PooledHead(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(torch.stack([self.a(x), self.b(x)], 2).flatten(1, 2))
        return self.head(self.last(torch.cat([x.repeat_interleave(2, 1), x.repeat(1, 2, 1, 1)], 1)))


class StackUnbind(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBlock(3, 8)
        self.branches = nn.ModuleList(nn.Conv2d(8, 12, 3, padding=d, dilation=d) for d in (1, 2, 3))
        self.head = PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        one, two, three = torch.stack([branch(x) for branch in self.branches]).unbind(0)
        return self.head(torch.maximum(one, two) - three)


class SelectiveKernel(nn.Module):
    """A softmax across branches weighs them, separately for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = ConvBlock(3, 8), PooledHead(12)
        self.branches = nn.ModuleList([ConvBlock(8, 12, 3), ConvBlock(8, 12, 5)])
        self.squeeze, self.weigh = nn.Linear(12, 8), nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        found = torch.stack([branch(x) for branch in self.branches], 1)
        weights = self.weigh(F.relu(self.squeeze(found.sum(1).mean((2, 3)))))
        weights = weights.view(x.shape[0], 2, -1).softmax(1)[..., None, None]
        return self.head((found * weights).sum(1))


class ChannelConv(nn.Module):
    """ECA: a convolution that runs along the channels themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = ConvBlock(3, 16), PooledHead(16)
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scale = self.along(x.mean((2, 3)).unsqueeze(1)).sigmoid()
        return self.head(x * scale.transpose(1, 2).unsqueeze(-1))


class ChannelStatistics(nn.Module):
    """CBAM's spatial attention: the mean and the largest of all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = ConvBlock(3, 14), nn.Conv2d(2, 1, 5, padding=2)
        self.head = PooledHead(14)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.head(x * torch.sigmoid(self.conv(both)))


class BlurPool(nn.Module):
    """A depthwise convolution whose kernel is a buffer."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = ConvBlock(3, 12), ConvBlock(12, 16), PooledHead(16)
        ramp = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (ramp[:, None] * ramp).repeat(12, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = F.conv2d(x, self.kernel, stride=2, padding=1, groups=x.shape[1])
        return self.head(self.conv2(x))


ORDER: Networks = {
    "grouped": lambda: (
        nn.Sequential(
            *(nn.Conv2d(3, 16, 1), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 12, 1), PooledHead(12)),
        ),
        image(),
    ),
    "grouped_twice": lambda: (
        nn.Sequential(
            *(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 24, 3, groups=2), nn.ReLU()),
            *(nn.Conv2d(24, 12, 3, groups=3), nn.ReLU(), PooledHead(12)),
        ),
        image(),
    ),
    "depthwise_multiplier": lambda: (
        nn.Sequential(
            *(ConvBlock(3, 8), nn.Conv2d(8, 24, 3, groups=8), nn.BatchNorm2d(24), nn.ReLU()),
            *(nn.Conv2d(24, 10, 1), PooledHead(10)),
        ),
        image(),
    ),
    "channel_shuffle": lambda: (ChannelShuffle(), image()),
    "shuffled_groups": lambda: (ShuffledGroups(), image()),
    "shuffle_unit": lambda: (ShuffleUnit(), image()),
    "swapped_halves": lambda: (SwappedHalves(), image()),
    "strided_channels": lambda: (StridedChannels(), image()),
    "picked_channels": lambda: (PickedChannels(), image()),
    "rolled_channels": lambda: (RolledChannels(), image()),
    "cumulated_channels": lambda: (CumulatedChannels(), image()),
    "interleaved": lambda: (Interleaved(), image()),
    "stack_unbind": lambda: (StackUnbind(), image()),
    "selective_kernel": lambda: (SelectiveKernel(), image()),
    "channel_conv": lambda: (ChannelConv(), image()),
    "channel_statistics": lambda: (ChannelStatistics(), image()),
    "blur_pool": lambda: (BlurPool(), image()),
}


# --- space and channels exchanged; dense prediction ----------------------------------------------


class ShuffleByHand(nn.Module):
    """Pixel shuffle by view and permute: four channels make one of twice the side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.out = ConvBlock(3, 8), ConvBlock(8, 24), nn.Conv2d(6, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.conv1(x))
        b, c, h, w = x.shape
        x = x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return self.out(x.reshape(b, c // 4, 2 * h, 2 * w))


class SpaceToDepth(nn.Module):
    """YOLO's focus: four shifted images side by side in the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = ConvBlock(3, 6), ConvBlock(24, 16), PooledHead(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        corners = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.head(self.conv(torch.cat(corners, 1)))


class UnfoldConv(nn.Module):
    """A convolution as unfold and matrix product, and its sums put back by fold."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = ConvBlock(3, 6), PooledHead(8)
        self.weight = nn.Parameter(torch.randn(72, 54) / 8)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(self.stem(x), 3, padding=1)
        return self.head(F.relu(F.fold(self.weight @ patches, x.shape[2:], 3, padding=1)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = ConvBlock(3, 8), ConvBlock(8, 12), ConvBlock(12, 16)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.up2, self.up1, self.out = ConvBlock(28, 12), ConvBlock(20, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.up(self.bottom(F.max_pool2d(second, 2)))
        x = self.up(self.up2(torch.cat([second, x], 1)))
        return self.out(self.up1(torch.cat([first, x], 1)))


class FeaturePyramid(nn.Module):
    """Lateral sums of upsampled maps; one shared head predicts at every level."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([ConvBlock(3, 8, 3, 2), ConvBlock(8, 12, 3, 2)])
        self.lateral = nn.ModuleList([nn.Conv2d(8, 10, 1), nn.Conv2d(12, 10, 1)])
        self.smooth, self.head = nn.Conv2d(10, 10, 3, padding=1), nn.Conv2d(10, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.stages[0](x)
        coarse = self.lateral[1](self.stages[1](fine))
        upsampled = F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
        fine = self.smooth(self.lateral[0](fine) + upsampled)
        return self.head(fine), self.head(coarse)


class C2f(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.half = outside // 2
        self.first, self.last = ConvBlock(inside, outside, 1), ConvBlock(2 * outside, outside, 1)
        self.blocks = nn.ModuleList(ConvBlock(self.half, self.half) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).split((self.half, self.half), 1))
        parts.extend(block(parts[-1]) for block in self.blocks)
        return self.last(torch.cat(parts, 1))


class Yolo(nn.Module):
    """C2f blocks and decoupled heads; the output is a list, one map per level."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = ConvBlock(3, 8), ConvBlock(12, 12, 3, 2)
        self.early, self.late = C2f(8, 12), C2f(12, 16)
        self.boxes = nn.ModuleList(
            nn.Sequential(ConvBlock(c, 8), nn.Conv2d(8, 4, 1)) for c in (12, 16)
        )
        self.kinds = nn.ModuleList(
            nn.Sequential(ConvBlock(c, 9), nn.Conv2d(9, 3, 1)) for c in (12, 16)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [self.early(self.stem(x))]
        levels.append(self.late(self.down(levels[0])))
        for k in range(len(levels)):
            levels[k] = torch.cat((self.boxes[k](levels[k]), self.kinds[k](levels[k])), 1)
        return levels


class SPPF(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.head = ConvBlock(3, 8), ConvBlock(32, 12, 1), PooledHead(12)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        parts.extend(self.pool(parts[-1]) for _ in range(3))
        return self.head(self.last(torch.cat(parts, 1)))


class ASPP(nn.Module):
    """Dilated branches and a global one, stretched back to the size of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.project = ConvBlock(3, 8), ConvBlock(30, 12, 1)
        self.dilated = nn.ModuleList(nn.Conv2d(8, 10, 3, padding=d, dilation=d) for d in (1, 2))
        self.whole, self.out = nn.Conv2d(8, 10, 1), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        found = [F.relu(conv(x)) for conv in self.dilated]
        whole = F.relu(self.whole(F.adaptive_avg_pool2d(x, 1)))
        found.append(F.interpolate(whole, x.shape[2:], mode="bilinear", align_corners=False))
        return F.interpolate(self.out(self.project(torch.cat(found, 1))), scale_factor=2.0)


class Keypoints(nn.Module):
    """Integral regression: the expected position under a softmax over each heat map."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(3, 12), ConvBlock(12, 10))
        self.heat = nn.Conv2d(10, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        heat = self.heat(self.body(x))
        weights = heat.flatten(2).softmax(-1).view_as(heat)
        place = torch.linspace(-1, 1, heat.shape[-1], dtype=x.dtype)
        return torch.stack([(weights.sum(2) * place).sum(-1), (weights.sum(3) * place).sum(-1)], -1)


class SpatialTransformer(nn.Module):
    """One part of the network says where another part looks."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Sequential(ConvBlock(3, 8, 3, 2), nn.Flatten(), nn.Linear(128, 6))
        self.stem, self.what, self.head = ConvBlock(3, 10), ConvBlock(10, 12), PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.where(x).view(-1, 2, 3)
        features = self.stem(x)
        grid = F.affine_grid(theta, list(features.shape), align_corners=False)
        return self.head(self.what(F.grid_sample(features, grid, align_corners=False)))


class Diffusion(nn.Module):
    """A denoiser with sinusoids of the time step added to its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 12))
        self.stem, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(4, 12)
        self.conv, self.out = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        rates = torch.exp(-torch.arange(4, dtype=x.dtype))
        angles = step[:, None].to(x.dtype) * rates
        time = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        inner = self.stem(x)
        inner = self.conv(F.silu(self.norm(inner + time[:, :, None, None]))) + inner
        return self.out(F.silu(inner))


DENSE_PREDICTION: Networks = {
    "pixel_shuffle": lambda: (
        nn.Sequential(ConvBlock(3, 8), nn.Conv2d(8, 24, 3), nn.PixelShuffle(2), nn.Conv2d(6, 3, 3)),
        image(),
    ),
    "pixel_shuffle_by_hand": lambda: (ShuffleByHand(), image()),
    "pixel_unshuffle": lambda: (
        nn.Sequential(ConvBlock(3, 6), nn.PixelUnshuffle(2), ConvBlock(24, 12), PooledHead(12)),
        image(),
    ),
    "space_to_depth": lambda: (SpaceToDepth(), image()),
    "unfold_fold": lambda: (UnfoldConv(), image()),
    "transposed": lambda: (
        nn.Sequential(
            *(ConvBlock(3, 12), nn.ConvTranspose2d(12, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU()),
            nn.ConvTranspose2d(8, 3, 3, 2, 1, output_padding=1),
        ),
        image(),
    ),
    "transposed_grouped": lambda: (
        nn.Sequential(
            *(ConvBlock(3, 16), nn.ConvTranspose2d(16, 24, 3, 2, groups=4), nn.ReLU()),
            *(nn.Conv2d(24, 12, 1), nn.ConvTranspose2d(12, 12, 2, 2, groups=12)),
            nn.Conv2d(12, 2, 1),
        ),
        image(4),
    ),
    "unet": lambda: (UNet(), image()),
    "feature_pyramid": lambda: (FeaturePyramid(), image()),
    "yolo": lambda: (Yolo(), image()),
    "sppf": lambda: (SPPF(), image()),
    "aspp": lambda: (ASPP(), image()),
    "keypoints": lambda: (Keypoints(), image()),
    "spatial_transformer": lambda: (SpatialTransformer(), image()),
    "diffusion": lambda: (Diffusion(), (image(), torch.tensor([3, 70]))),
}


# --- normalisation, reparametrised weights, activations with parameters --------------------------


class StandardisedConv(nn.Conv2d):
    """Each filter is normalised before it is used."""

    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = centred / (centred.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class LayerNorm2d(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        x = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class PermutedLayerNorm(nn.Module):
    """nn.LayerNorm over the channels of a map, there and back by permute."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = (
            nn.Conv2d(3, 12, 3),
            nn.LayerNorm(12),
            nn.Conv2d(12, 16, 3),
        )
        self.head = PooledHead(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv1(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(F.relu(self.conv2(x)))


class WholeMapNorm(nn.Module):
    """Layer norm over channels, rows and columns at once, with a weight for every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 10, 3), nn.LayerNorm([10, 6, 6])
        self.conv2, self.head = ConvBlock(10, 12), PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv2(self.norm(self.conv1(x))))


class BatchNormAfterConcat(nn.Module):
    """One norm over the channels of two layers, without its own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 10, 3)
        self.norm, self.head = nn.BatchNorm2d(16, affine=False), PooledHead(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(torch.cat([self.a(x), self.b(x)], 1))))


class CosineClassifier(nn.Module):
    """Features and class vectors are scaled to unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 16))
        self.weight, self.scale = nn.Parameter(torch.randn(5, 16)), nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(self.body(x)), F.normalize(self.weight, dim=1))


class AdaptiveInstanceNorm(nn.Module):
    """A style vector gives the scale and the shift of every channel, as in FiLM and AdaIN."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 3, 3, padding=1)
        self.style = nn.Linear(8, 24)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gamma, beta = self.style(style)[:, :, None, None].chunk(2, 1)
        return self.conv2(F.relu(F.instance_norm(self.conv1(x)) * (1 + gamma) + beta))


class FiLM(nn.Module):
    """Two layers per block of maps read the question and modulate the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.stem = nn.Embedding(20, 12), ConvBlock(3, 10)
        self.scale, self.shift = nn.Linear(12, 10), nn.Linear(12, 10)
        self.norm, self.head = nn.BatchNorm2d(10, affine=False), PooledHead(10)

    def forward(self, picture: Tensor, question: Tensor) -> Tensor:
        read = self.words(question).mean(1)
        x = self.norm(self.stem(picture))
        x = self.scale(read)[:, :, None, None] * x + self.shift(read).view(-1, 10, 1, 1)
        return self.head(F.relu(x))


class ZeroSum(nn.Module):
    """A parametrisation written by hand: every filter sums to zero."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight - weight.mean((1, 2, 3), keepdim=True)


def weight_norm() -> nn.Module:
    first = parametrizations.weight_norm(nn.Conv2d(3, 12, 3))
    second = parametrizations.weight_norm(nn.Conv2d(12, 16, 3))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), PooledHead(16))


def old_weight_norm() -> nn.Module:
    """A trained one: before its first run without gradients, PyTorch itself refuses to copy it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        first = nn.utils.weight_norm(nn.Linear(10, 20))
        second = nn.utils.weight_norm(nn.Linear(20, 14), dim=None)
    net = nn.Sequential(first, nn.ReLU(), second, nn.Tanh(), nn.Linear(14, 3))
    with torch.no_grad():
        net(torch.zeros(2, 10))
    return net


def spectral_norm() -> nn.Module:
    """A discriminator."""
    first = parametrizations.spectral_norm(nn.Conv2d(3, 12, 4, 2, 1))
    second = parametrizations.spectral_norm(nn.Conv2d(12, 16, 4, 2, 1))
    return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), PooledHead(16, 1))


def parametrised() -> nn.Module:
    conv = nn.Conv2d(3, 12, 3)
    parametrize.register_parametrization(conv, "weight", ZeroSum())
    return nn.Sequential(conv, nn.ReLU(), nn.Conv2d(12, 10, 3), nn.ReLU(), PooledHead(10))


NORMS: Networks = {
    "weight_norm": lambda: (weight_norm(), image()),
    "weight_norm_old": lambda: (old_weight_norm(), torch.randn(2, 10)),
    "spectral_norm": lambda: (spectral_norm(), image()),
    "parametrised": lambda: (parametrised(), image()),
    "weight_standardised": lambda: (
        nn.Sequential(
            *(StandardisedConv(3, 12, 3), nn.GroupNorm(3, 12), nn.ReLU()),
            *(StandardisedConv(12, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), PooledHead(16)),
        ),
        image(),
    ),
    "group_norm": lambda: (
        nn.Sequential(
            *(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.SiLU()),
            *(nn.Conv2d(16, 12, 3), nn.GroupNorm(1, 12), nn.SiLU(), PooledHead(12)),
        ),
        image(),
    ),
    "instance_norm": lambda: (
        nn.Sequential(
            *(nn.Conv2d(3, 12, 3), nn.InstanceNorm2d(12), nn.ReLU(), nn.Conv2d(12, 10, 3)),
            *(nn.InstanceNorm2d(10, affine=True, track_running_stats=True), PooledHead(10)),
        ),
        image(),
    ),
    "layer_norm_permuted": lambda: (PermutedLayerNorm(), image()),
    "layer_norm_2d": lambda: (
        nn.Sequential(nn.Conv2d(3, 12, 3), LayerNorm2d(12), ConvBlock(12, 8), PooledHead(8)),
        image(),
    ),
    "layer_norm_whole_map": lambda: (WholeMapNorm(), image()),
    "rms_norm": lambda: (
        nn.Sequential(
            nn.Linear(10, 20), nn.RMSNorm(20), nn.Linear(20, 16), nn.SiLU(), nn.Linear(16, 3)
        ),
        torch.randn(2, 10),
    ),
    "rms_norm_by_hand": lambda: (
        nn.Sequential(nn.Linear(10, 24), nn.GELU(), RMSNorm(24), nn.Linear(24, 3)),
        torch.randn(2, 10),
    ),
    "batch_norm_after_concat": lambda: (BatchNormAfterConcat(), image()),
    "prelu": lambda: (
        nn.Sequential(
            *(nn.Conv2d(3, 12, 3), nn.PReLU(12), nn.Conv2d(12, 10, 3), nn.PReLU()),
            *(nn.Flatten(), nn.Linear(160, 12), nn.PReLU(12), nn.Linear(12, 4)),
        ),
        image(),
    ),
    "cosine_classifier": lambda: (CosineClassifier(), torch.randn(2, 10)),
    "adaptive_instance_norm": lambda: (AdaptiveInstanceNorm(), (image(), torch.randn(2, 8))),
    "film": lambda: (FiLM(), {"picture": image(), "question": words()}),
}


# --- gates and other products of features --------------------------------------------------------


class SwiGLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(8, 12), nn.RMSNorm(12)
        self.w1, self.w3 = nn.Linear(12, 24, bias=False), nn.Linear(12, 24, bias=False)
        self.w2, self.out = nn.Linear(24, 12, bias=False), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(x)
        return self.out(x + self.w2(F.silu(self.w1(y)) * self.w3(y)))


class GEGLU(nn.Module):
    """One layer makes both halves; they are cut apart by chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(12, 40), nn.Linear(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.up(x).chunk(2, dim=-1)
        return self.down(value * F.gelu(gate))


class Maxout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(10, 48), nn.Linear(16, 24), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).view(-1, 16, 3).max(dim=2).values
        x = self.second(x)
        return self.out(x.reshape(x.shape[0], 2, -1).amax(1))


class GatedTanh(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filter, self.gate = nn.Conv1d(4, 14, 3), nn.Conv1d(4, 14, 3)
        self.out = nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((torch.tanh(self.filter(x)) * torch.sigmoid(self.gate(x))).amax(-1))


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 16), nn.Linear(5, 12)
        self.both, self.out = nn.Bilinear(16, 12, 10), nn.Linear(10, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.out(F.relu(self.both(F.relu(self.left(left)), F.relu(self.right(right)))))


class BilinearPooling(nn.Module):
    """Every pair of channels is a feature; signed roots and unit length follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = ConvBlock(3, 8), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2)
        pairs = torch.einsum("bcn,bdn->bcd", x, x).flatten(1) / x.shape[-1]
        return self.fc(F.normalize(pairs.sign() * torch.sqrt(pairs.abs() + 1e-6)))


class RadialBasis(nn.Module):
    """Distances to centres that are parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.centres = nn.Linear(10, 16), nn.Parameter(torch.randn(12, 16))
        self.width, self.out = nn.Parameter(torch.full((12,), 0.1)), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(
            torch.exp(-self.width * torch.cdist(torch.tanh(self.stem(x)), self.centres))
        )


class FactorisationMachine(nn.Module):
    """Integers and numbers together; products of all pairs by the square of the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.dense = nn.Embedding(30, 12), nn.Linear(5, 12)
        self.deep = nn.Sequential(nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 1))

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        x = torch.cat([self.embed(fields), self.dense(numbers).unsqueeze(1)], 1)
        wide = 0.5 * (x.sum(1).square() - x.square().sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(wide + self.deep(x.flatten(1)))


class Capsules(nn.Module):
    """Channels are cut into vectors whose lengths are squashed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 2)
        self.weight = nn.Parameter(torch.randn(5, 36, 6, 4) / 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x.view(len(x), 4, 4, -1).transpose(2, 3).reshape(len(x), -1, 4)
        square = x.square().sum(-1, keepdim=True)
        x = x * square / ((1 + square) * torch.sqrt(square + 1e-8))
        votes = torch.einsum("kiod,bid->bkio", self.weight, x).sum(2)
        return torch.linalg.vector_norm(votes, dim=-1)


class HyperNetwork(nn.Module):
    """The weights of one layer are the output of another."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.code = nn.Linear(10, 12), nn.Parameter(torch.randn(6))
        self.generate, self.out = nn.Linear(6, 12 * 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.generate(torch.tanh(self.code)).view(8, 12)
        return self.out(F.relu(F.linear(F.relu(self.body(x)), weight)))


class DynamicConv(nn.Module):
    """Filters made for each sample, applied as one grouped convolution over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.filters, self.head = ConvBlock(3, 8), nn.Linear(8, 8 * 9), PooledHead(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, h, w = x.shape
        kernels = self.filters(x.mean((2, 3))).view(b * c, 1, 3, 3)
        x = F.conv2d(x.view(1, b * c, h, w), kernels, padding=1, groups=b * c).view(b, c, h, w)
        return self.head(x)


class Duelling(nn.Module):
    """Value plus advantage, less the mean advantage."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 24), nn.ReLU())
        self.value = nn.Sequential(nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 1))
        self.advantage = nn.Sequential(nn.Linear(24, 14), nn.ReLU(), nn.Linear(14, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(1, keepdim=True)


class Experts(nn.Module):
    """All experts answer, a softmax weighs them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(10, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(10, 8 + 4 * k), nn.ReLU(), nn.Linear(8 + 4 * k, 12))
            for k in range(3)
        )
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        found = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.out((weights.unsqueeze(-1) * found).sum(1))


class RoutedExperts(nn.Module):
    """Each token goes to its best expert only; some experts may see no token at all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.out = nn.Linear(8, 12), nn.Linear(12, 4), nn.Linear(12, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        flat = x.reshape(-1, x.shape[-1])
        weight, chosen = self.gate(flat).softmax(-1).max(-1)
        out = torch.zeros_like(flat)
        for k, expert in enumerate(self.experts):
            (rows,) = torch.where(chosen == k)
            if len(rows):
                out.index_add_(0, rows, expert(flat.index_select(0, rows)) * weight[rows, None])
        return self.out(x + out.view_as(x))


class StackedExperts(nn.Module):
    """All experts in one parameter, read one by one or by einsum."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by, self.out = by, nn.Linear(12, 3)
        self.stem, self.gate = nn.Linear(8, 12), nn.Linear(12, 4)
        self.up = nn.Parameter(torch.randn(4, 12, 20) / 4)
        self.shift = nn.Parameter(torch.randn(4, 20))
        self.down = nn.Parameter(torch.randn(4, 20, 12) / 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        share = self.gate(x).softmax(-1)
        if self.by == "einsum":
            h = F.silu(torch.einsum("btd,edf->btef", x, self.up) + self.shift)
            return self.out(torch.einsum("btef,efd,bte->btd", h, self.down, share))
        flat = x.flatten(0, 1)
        chosen, out = share.flatten(0, 1).argmax(-1), torch.zeros_like(flat)
        for k in range(4):
            (rows,) = torch.where(chosen == k)
            h = F.relu(flat[rows] @ self.up[k] + self.shift[k])
            out.index_add_(0, rows, h @ self.down[k])
        return self.out(x + out.view_as(x))


PRODUCTS: Networks = {
    "glu": lambda: (
        nn.Sequential(
            nn.Conv1d(4, 24, 3),
            nn.GLU(1),
            nn.Flatten(),
            nn.Linear(72, 20),
            nn.GLU(),
            nn.Linear(10, 3),
        ),
        torch.randn(2, 4, 8),
    ),
    "swiglu": lambda: (SwiGLU(), sequence(5, 8)),
    "geglu": lambda: (GEGLU(), torch.randn(2, 12)),
    "maxout": lambda: (Maxout(), torch.randn(2, 10)),
    "gated_tanh": lambda: (GatedTanh(), torch.randn(2, 4, 9)),
    "bilinear": lambda: (Bilinear(), (torch.randn(2, 6), torch.randn(2, 5))),
    "bilinear_pooling": lambda: (BilinearPooling(), image()),
    "radial_basis": lambda: (RadialBasis(), torch.randn(2, 10)),
    "factorisation_machine": lambda: (FactorisationMachine(), (words(3, 30), torch.randn(2, 5))),
    "capsules": lambda: (Capsules(), image()),
    "hyper_network": lambda: (HyperNetwork(), torch.randn(2, 10)),
    "dynamic_conv": lambda: (DynamicConv(), image()),
    "duelling": lambda: (Duelling(), torch.randn(2, 8)),
    "experts_soft": lambda: (Experts(), torch.randn(2, 10)),
    "experts_routed": lambda: (RoutedExperts(), sequence(6, 8)),
    "experts_stacked": lambda: (StackedExperts("index"), sequence(6, 8)),
    "experts_einsum": lambda: (StackedExperts("einsum"), sequence(6, 8)),
}


# --- words and recurrence ------------------------------------------------------------------------


class TiedWords(nn.Module):
    """The embedding is also the classifier, and its width passes through a residual layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)
        self.out = nn.Linear(16, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.out(self.norm(x + self.down(F.relu(self.up(x)))))


class WordBag(nn.Module):
    """EmbeddingBag over words given flat, with the place where each text begins."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(30, 16, mode="mean")
        self.fc = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, text: Tensor) -> Tensor:
        begins = torch.arange(0, text.numel(), text.shape[1])
        return self.fc(self.bag(text.flatten(), begins))


class TextConv(nn.Module):
    """Convolutions of several widths over the words, the largest value of each."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12, padding_idx=0)
        self.convs = nn.ModuleList(nn.Conv2d(1, 8, (k, 12)) for k in (2, 3, 4))
        self.fc = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).unsqueeze(1)
        found = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        return self.fc(torch.cat([F.max_pool1d(y, y.size(2)).squeeze(2) for y in found], 1))


class Factorisation(nn.Module):
    """Users times items, and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(15, 16), nn.Embedding(25, 16)
        self.user_bias, self.item_bias = nn.Embedding(15, 1), nn.Embedding(25, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        product = (self.user(user) * self.item(item)).sum(-1)
        return product + self.user_bias(user).squeeze(-1) + self.item_bias(item).squeeze(-1)


class Recurrent(nn.Module):
    """A recurrent layer between linear ones; reads all its outputs, or only the last state."""

    def __init__(self, layer: nn.RNNBase, inside: int, outside: int, read: str = "output") -> None:
        super().__init__()
        self.stem, self.layer, self.read = nn.Linear(8, inside), layer, read
        self.out = nn.Linear(outside, 3)

    def forward(self, x: Tensor) -> Tensor:
        output, state = self.layer(torch.relu(self.stem(x)))
        if self.read == "output":
            return self.out(output)
        if self.read == "last output":
            return self.out(output[:, -1])
        last = state[0] if isinstance(state, tuple) else state
        return self.out(last[-1] if self.read == "last state" else torch.cat([*last], 1))


class StackedLSTM(nn.Module):
    """Two recurrent layers with a linear one between them; both parts of the state are used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (
            nn.LSTM(8, 16, batch_first=True),
            nn.LSTM(10, 12, batch_first=True),
        )
        self.between, self.out = nn.Linear(16, 10), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.first(x)
        _, (hidden, cell) = self.second(F.relu(self.between(output)))
        return self.out(torch.cat([hidden[-1], cell[-1]], dim=-1))


class PackedTagger(nn.Module):
    """Packs the padded sentences and unpacks them again."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, 10, batch_first=True, bidirectional=True)
        self.out = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        lengths = (x != 0).sum(1).clamp(min=1).cpu()
        packed = rnn.pack_padded_sequence(
            self.embed(x), lengths, batch_first=True, enforce_sorted=False
        )
        output, _ = rnn.pad_packed_sequence(self.lstm(packed)[0], True, total_length=x.shape[1])
        return self.out(output)


class CellLoop(nn.Module):
    """LSTMCell, step by step, the start given by parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.cell, self.out = nn.Linear(6, 10), nn.LSTMCell(10, 14), nn.Linear(14, 3)
        self.start = nn.Parameter(torch.zeros(2, 14))

    def forward(self, x: Tensor) -> Tensor:
        hidden, cell = (start.expand(x.shape[0], -1) for start in self.start)
        outputs = []
        for t in range(x.shape[1]):
            hidden, cell = self.cell(F.relu(self.stem(x[:, t])), (hidden, cell))
            outputs.append(self.out(hidden))
        return torch.stack(outputs, dim=1)


class SimpleRecurrentUnit(nn.Module):
    """All products first, then a loop of elementwise steps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.project, self.out = nn.Linear(6, 12), nn.Linear(12, 36), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        candidate, forget, reset = self.project(x).chunk(3, -1)
        forget, reset = torch.sigmoid(forget), torch.sigmoid(reset)
        state = torch.zeros_like(x[:, 0])
        outputs = []
        for t in range(x.size(1)):
            state = forget[:, t] * state + (1 - forget[:, t]) * candidate[:, t]
            outputs.append(reset[:, t] * torch.tanh(state) + (1 - reset[:, t]) * x[:, t])
        return self.out(torch.stack(outputs, 1))


class Translator(nn.Module):
    """GRU encoder and decoder with additive attention between them."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(20, 10), nn.Embedding(25, 12)
        self.encoder, self.decoder = nn.GRU(10, 16, batch_first=True), nn.GRUCell(28, 16)
        self.keys, self.query, self.score = nn.Linear(16, 14), nn.Linear(16, 14), nn.Linear(14, 1)
        self.out = nn.Linear(16, 25)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.encoder(self.source(source))
        hidden, keys, outputs = state[0], self.keys(memory), []
        for word in self.target(target).unbind(1):
            weights = self.score(torch.tanh(keys + self.query(hidden)[:, None])).softmax(1)
            hidden = self.decoder(torch.cat([word, (weights * memory).sum(1)], 1), hidden)
            outputs.append(self.out(hidden))
        return torch.stack(outputs, 1)


class ConvLSTM(nn.Module):
    """One convolution makes the four gates; the state is a map."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Conv2d(3 + 10, 40, 3, padding=1), PooledHead(10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(x.shape[0], 10, *x.shape[3:])
        for t in range(x.shape[1]):
            i, f, o, g = torch.split(self.gates(torch.cat([x[:, t], hidden], 1)), 10, 1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        return self.head(hidden)


WORDS: Networks = {
    "tied_words": lambda: (TiedWords(), words()),
    "word_bag": lambda: (WordBag(), words(5, 30)),
    "text_conv": lambda: (TextConv(), words()),
    "factorisation": lambda: (
        Factorisation(),
        {"user": torch.randint(15, (2,)), "item": torch.randint(25, (2,))},
    ),
    "lstm": lambda: (
        Recurrent(nn.LSTM(10, 14, batch_first=True), 10, 14),
        sequence(5, 8),
    ),
    "lstm_two_layers": lambda: (
        Recurrent(nn.LSTM(10, 12, 2, batch_first=True, dropout=0.1), 10, 12, "last output"),
        sequence(5, 8),
    ),
    "lstm_bidirectional": lambda: (
        Recurrent(nn.LSTM(12, 10, batch_first=True, bidirectional=True), 12, 20, "both states"),
        sequence(5, 8),
    ),
    "lstm_projected": lambda: (
        Recurrent(nn.LSTM(10, 16, batch_first=True, proj_size=8), 10, 8, "last state"),
        sequence(5, 8),
    ),
    "gru": lambda: (Recurrent(nn.GRU(10, 14), 10, 14, "last state"), sequence(5, 8)),
    "gru_two_layers_bidirectional": lambda: (
        Recurrent(nn.GRU(12, 8, 2, bidirectional=True, batch_first=True), 12, 16),
        sequence(5, 8),
    ),
    "rnn": lambda: (
        Recurrent(nn.RNN(10, 16, 2, nonlinearity="relu", bias=False), 10, 16, "last state"),
        sequence(5, 8),
    ),
    "lstm_stacked": lambda: (StackedLSTM(), sequence(5, 8)),
    "lstm_packed": lambda: (PackedTagger(), torch.tensor([[3, 9, 4, 0, 0], [7, 2, 11, 5, 1]])),
    "lstm_cell_loop": lambda: (CellLoop(), sequence(4, 6)),
    "simple_recurrent_unit": lambda: (SimpleRecurrentUnit(), sequence(4, 6)),
    "translator": lambda: (Translator(), (words(6), words(5, 25))),
    "conv_lstm": lambda: (ConvLSTM(), torch.randn(2, 3, 3, 6, 6)),
}


# --- attention -----------------------------------------------------------------------------------


class FusedAttention(nn.Module):
    """One layer makes queries, keys and values of all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.stem, self.norm = 4, nn.Linear(8, 16), nn.LayerNorm(16)
        self.qkv, self.proj, self.out = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, n, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1)
        return self.out(x + self.proj((weights @ v).transpose(1, 2).reshape(b, n, c)))


class SeparateAttention(nn.Module):
    """Three layers, heads of a width of their own, and a causal mask added as minus infinity."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 24, bias=False) for _ in range(3))
        self.proj = nn.Linear(24, 12)
        self.register_buffer("mask", torch.triu(torch.full((10, 10), -math.inf), 1))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (layer(x).view(b, n, 3, 8).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(8) + self.mask[:n, :n]
        found = torch.matmul(F.softmax(weights, dim=-1), v)
        return self.proj(found.transpose(1, 2).contiguous().view(b, n, -1))


class ScaledDotProduct(nn.Module):
    """PyTorch's attention function with the default scale, and again with a mask of booleans."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Linear(8, 16), nn.Linear(16, 3)
        self.first, self.second = nn.Linear(16, 48), nn.Linear(16, 48)
        self.proj = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        b, n, _ = qkv.shape
        q, k, v = (part.view(b, n, 2, -1).transpose(1, 2) for part in qkv.split(16, dim=2))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return found.transpose(1, 2).reshape(b, n, -1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.proj[0](self.attend(self.first(x), None))
        return self.out(x + self.proj[1](self.attend(self.second(x), mask[:, None, None, :])))


class GroupedQueries(nn.Module):
    """Four heads of queries share two of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 32), nn.Linear(12, 16), nn.Linear(12, 16)
        self.proj = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, 4, 8).transpose(1, 2)
        k = self.k(x).view(b, n, 2, 8).transpose(1, 2).repeat_interleave(2, dim=1)
        v = self.v(x).view(b, n, 2, 8).transpose(1, 2)[:, :, None].expand(-1, -1, 2, -1, -1)
        weights = torch.einsum("bhqd,bhkd->bhqk", q, k).mul(8**-0.5).softmax(-1)
        return self.proj((weights @ v.flatten(1, 2)).transpose(1, 2).flatten(2))


class SingleHead(nn.Module):
    """SAGAN's attention over pixels: queries and keys narrower than values, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = ConvBlock(3, 16), PooledHead(16)
        self.query, self.key = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)
        self.value, self.gamma = nn.Conv2d(16, 16, 1), nn.Parameter(torch.tensor([0.5]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        b, c, h, w = x.shape
        query = self.query(x).view(b, -1, h * w).permute(0, 2, 1)
        weights = torch.bmm(query, self.key(x).view(b, -1, h * w)).softmax(-1)
        found = torch.bmm(self.value(x).view(b, -1, h * w), weights.permute(0, 2, 1))
        return self.head(self.gamma * found.view(b, c, h, w) + x)


class SigmoidScores(nn.Module):
    """sigmoid(q) @ sigmoid(k)^T: a removed feature would still count a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(10, 12), nn.Linear(10, 12), nn.Linear(10, 16)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.sigmoid(self.q(x)) @ torch.sigmoid(self.k(x)).transpose(1, 2)
        return self.out(scores.softmax(-1) @ self.v(x))


class LinearAttention(nn.Module):
    """Positive features of queries and keys; the sums over the keys come first."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(10, 48, bias=False), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 2, 8).unbind(2)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        memory = torch.einsum("bnhd,bnhe->bhde", k, v)
        scale = 1 / (torch.einsum("bnhd,bhd->bnh", q, k.sum(1)) + 1e-6)
        found = torch.einsum("bnhd,bhde,bnh->bnhe", q, memory, scale)
        return self.out(found.reshape(b, n, -1))


class RelativeBias(nn.Module):
    """A table of biases, one column for each head, read at the distance of the tokens."""

    distance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 5)
        self.table = nn.Parameter(torch.randn(11, 3))
        place = torch.arange(6)
        self.register_buffer("distance", place[:, None] - place + 5)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 3, -1).permute(2, 0, 3, 1, 4)
        bias = self.table[self.distance.view(-1)].view(n, n, -1).permute(2, 0, 1)
        weights = (0.5 * q @ k.mT + bias.unsqueeze(0)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class Rotary(nn.Module):
    """Features are turned in pairs, so their order in a head matters; no layer has a bias."""

    rates: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.last = nn.Embedding(20, 16), RMSNorm(16), RMSNorm(16)
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16, bias=False) for _ in range(4))
        self.out = nn.Linear(16, 20, bias=False)
        self.register_buffer("rates", 100.0 ** (-torch.arange(0, 8, 2) / 8), persistent=False)

    def turn(self, x: Tensor) -> Tensor:
        angles = torch.outer(torch.arange(x.shape[2], dtype=x.dtype), self.rates)
        angles = torch.cat([angles, angles], -1)
        first, second = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y = self.norm(x)
        q, k, v = (f(y).view(*y.shape[:2], 2, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        found = F.scaled_dot_product_attention(self.turn(q), self.turn(k), v, is_causal=True)
        return self.out(self.last(x + self.o(found.transpose(1, 2).flatten(2))))


class SelfMultihead(nn.Module):
    """nn.MultiheadAttention inside a post-norm residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(8, 16), nn.LayerNorm(16)
        self.attention, self.out = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.out(self.norm(x + self.attention(x, x, x, need_weights=False)[0]))


class CrossMultihead(nn.Module):
    """Keys and values of other widths than the queries, time first, the weights returned too."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(8, 16), nn.Linear(6, 12), nn.Linear(6, 10)
        self.attention = nn.MultiheadAttention(16, 2, kdim=12, vdim=10)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        x, memory = x.transpose(0, 1), memory.transpose(0, 1)
        found, weights = self.attention(self.query(x), self.key(memory), self.value(memory))
        return self.out(found).transpose(0, 1), weights


class Encoder(nn.Module):
    """nn.TransformerEncoder over words, those of padding left out; inputs by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(20, 16), nn.Embedding(10, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 24, 0.1, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pooler, self.out = nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embed(input_ids) + self.place(torch.arange(input_ids.shape[1]))
        padding = None if attention_mask is None else attention_mask == 0
        x = self.encoder(x, src_key_padding_mask=padding)
        return self.out(torch.tanh(self.pooler(x[:, 0])))


class Decoder(nn.Module):
    """nn.TransformerDecoder: captions word by word from a picture, norms first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.embed, self.out = (
            ConvBlock(3, 12, 3, 4),
            nn.Embedding(20, 12),
            nn.Linear(12, 20),
        )
        layer = nn.TransformerDecoderLayer(12, 3, 20, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1, nn.LayerNorm(12))

    def forward(self, picture: Tensor, text: Tensor) -> Tensor:
        memory = self.stem(picture).flatten(2).transpose(1, 2)
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1], dtype=memory.dtype)
        return self.out(self.decoder(self.embed(text), memory, tgt_mask=mask))


class Seq2Seq(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.source, self.target, self.out = nn.Linear(6, 16), nn.Linear(5, 16), nn.Linear(16, 5)
        self.transformer = nn.Transformer(16, 2, 1, 1, 24, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.out(self.transformer(self.source(source), self.target(target)))


class PreNormBlock(nn.Module):
    """Attention by PyTorch's function and an MLP, each after its norm."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.proj(found.transpose(1, 2).reshape(b, n, c))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches, a class token joined by cat, learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token, self.place = (nn.Parameter(torch.randn(1, n, 16)) for n in (1, 5))
        self.blocks = nn.Sequential(PreNormBlock(16, 4, 24), PreNormBlock(16, 2, 20))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


class WindowAttention(nn.Module):
    """Swin: windows cut by view and permute, shifted by roll, a bias table and a mask."""

    index: Tensor
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 1), nn.LayerNorm(12)
        self.qkv, self.proj, self.head = nn.Linear(12, 36), nn.Linear(12, 12), nn.Linear(12, 4)
        self.table = nn.Parameter(torch.randn(9, 3))
        self.register_buffer("index", torch.randint(9, (16,)))
        self.register_buffer("mask", torch.where(torch.rand(4, 1, 4, 4) > 0.8, -100.0, 0.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        y = torch.roll(self.norm(x), (-1, -1), (1, 2))
        y = y.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(y).reshape(-1, 4, 3, 3, c // 3).permute(2, 0, 3, 1, 4)
        weights = (q * (c // 3) ** -0.5).matmul(k.transpose(-2, -1))
        weights = weights + self.table[self.index].view(4, 4, 3).permute(2, 0, 1)
        weights = (weights.view(b, -1, 3, 4, 4) + self.mask).view(-1, 3, 4, 4).softmax(-1)
        y = self.proj(weights.matmul(v).transpose(1, 2).reshape(-1, 4, c))
        y = y.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return self.head((x + torch.roll(y, (1, 1), (1, 2))).mean((1, 2)))


class PatchMerging(nn.Module):
    """Four neighbours side by side, and half of their features after a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 2, 2), nn.LayerNorm(32)
        self.reduce, self.head = nn.Linear(32, 16, bias=False), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.head(self.reduce(self.norm(torch.cat(parts, -1))).mean((1, 2)))


class DiffusionTransformer(nn.Module):
    """DiT: a condition gives shifts, scales and gates to a block, six at once."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.modulate, self.out = nn.Linear(8, 12), nn.Linear(6, 72), nn.Linear(12, 8)
        self.norm = nn.LayerNorm(12, elementwise_affine=False)
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 12)
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(approximate="tanh"), nn.Linear(24, 12))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.stem(x)
        a, b, c, d, e, f = self.modulate(F.silu(condition))[:, None].chunk(6, dim=2)
        q, k, v = self.qkv(self.norm(x) * (1 + a) + b).unflatten(-1, (3, 2, 6)).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        x = x + c * self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.out(x + f * self.mlp(self.norm(x) * (1 + d) + e))


class Detector(nn.Module):
    """DETR: learned queries ask the pixels; classes and boxes in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.project = ConvBlock(3, 12, 3, 2), nn.Conv2d(12, 16, 1)
        self.place, self.queries = (nn.Parameter(torch.randn(n, 1, 16)) for n in (16, 5))
        layer = nn.TransformerDecoderLayer(16, 2, 24, 0.0)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.kinds = nn.Linear(16, 4)
        self.boxes = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.project(self.backbone(x))
        memory = self.place + x.flatten(2).permute(2, 0, 1)
        found = self.decoder(self.queries.repeat(1, x.shape[0], 1), memory).transpose(0, 1)
        return {"pred_logits": self.kinds(found), "pred_boxes": self.boxes(found).sigmoid()}


class Perceiver(nn.Module):
    """A few learned vectors read a long input, twice with the same layers."""

    def __init__(self) -> None:
        super().__init__()
        self.latent, self.norm = nn.Parameter(torch.randn(4, 16)), nn.LayerNorm(16)
        self.q, self.kv, self.o = nn.Linear(16, 12), nn.Linear(8, 24), nn.Linear(12, 16)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        latent = self.latent.unsqueeze(0).repeat(x.shape[0], 1, 1)
        k, v = self.kv(x).tensor_split(2, -1)
        for _ in range(2):
            weights = torch.baddbmm(x.new_zeros(1), self.q(self.norm(latent)), k.mT, beta=0)
            latent = latent + self.o(weights.div(12**0.5).softmax(-1) @ v)
        return self.out(latent.mean(1))


ATTENTION: Networks = {
    "attention_fused": lambda: (FusedAttention(), sequence(6, 8)),
    "attention_separate_masked": lambda: (SeparateAttention(), sequence(6, 12)),
    "attention_function": lambda: (
        ScaledDotProduct(),
        (sequence(6, 8), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])),
    ),
    "attention_grouped_queries": lambda: (GroupedQueries(), sequence(6, 12)),
    "attention_single_head": lambda: (SingleHead(), image(6)),
    "attention_sigmoid_scores": lambda: (SigmoidScores(), sequence(6, 10)),
    "attention_linear": lambda: (LinearAttention(), sequence(6, 10)),
    "attention_relative_bias": lambda: (RelativeBias(), sequence(6, 12)),
    "attention_rotary": lambda: (Rotary(), words()),
    "multihead_self": lambda: (SelfMultihead(), sequence(6, 8)),
    "multihead_cross": lambda: (CrossMultihead(), (sequence(5, 8), sequence(7, 6))),
    "transformer_encoder": lambda: (
        Encoder(),
        {"input_ids": words(), "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])},
    ),
    "transformer_decoder": lambda: (Decoder(), (image(), words(5))),
    "transformer": lambda: (Seq2Seq(), (sequence(6, 6), sequence(4, 5))),
    "vision_transformer": lambda: (VisionTransformer(), image()),
    "window_attention": lambda: (WindowAttention(), image(4)),
    "patch_merging": lambda: (PatchMerging(), image()),
    "diffusion_transformer": lambda: (DiffusionTransformer(), (sequence(6, 8), torch.randn(2, 6))),
    "detector": lambda: (Detector(), image()),
    "perceiver": lambda: (Perceiver(), sequence(9, 8)),
}


# --- mixing without attention; long sequences ----------------------------------------------------


class Mixer(nn.Module):
    """One MLP works across tokens, the other across features."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm1, self.norm2 = (
            nn.Conv2d(3, 12, 2, 2),
            nn.LayerNorm(12),
            nn.LayerNorm(12),
        )
        self.tokens = nn.Sequential(nn.Linear(16, 20), nn.GELU(), nn.Linear(20, 16))
        self.features = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.features(self.norm2(x))).mean(1))


class GatedMLP(nn.Module):
    """gMLP: half of the features, mixed across tokens, gates the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.norm = nn.Linear(8, 12), nn.Linear(12, 40), nn.LayerNorm(20)
        self.across = nn.Conv1d(6, 6, 1)
        self.down, self.out = nn.Linear(20, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        u, v = F.gelu(self.up(x)).chunk(2, dim=-1)
        return self.out(x + self.down(u * self.across(self.norm(v))))


class FourierMixer(nn.Module):
    """FNet: a Fourier transform over tokens and features mixes all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(8, 12), nn.LayerNorm(12)
        self.up, self.down, self.out = nn.Linear(12, 20), nn.Linear(20, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.norm(x + torch.fft.fft2(x).real)
        return self.out(x + self.down(F.gelu(self.up(x))))


class StateSpace(nn.Module):
    """Mamba: a causal depthwise convolution and a scan whose steps depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.states, self.rank = 16, 4, 3
        self.stem, self.norm, self.out = nn.Linear(6, 10), RMSNorm(10), nn.Linear(10, 3)
        self.split, self.join = nn.Linear(10, 32, bias=False), nn.Linear(16, 10, bias=False)
        self.conv = nn.Conv1d(16, 16, 3, padding=2, groups=16)
        self.select, self.step = nn.Linear(16, 3 + 8, bias=False), nn.Linear(3, 16)
        self.log_a = nn.Parameter(torch.log(torch.arange(1.0, 5.0)).repeat(16, 1))
        self.skip = nn.Parameter(torch.ones(16))

    def scan(self, x: Tensor) -> Tensor:
        step, b, c = self.select(x).split([self.rank, self.states, self.states], dim=-1)
        step = F.softplus(self.step(step))
        decay = torch.exp(torch.einsum("bld,dn->bldn", step, -torch.exp(self.log_a)))
        enter = torch.einsum("bld,bln,bld->bldn", step, b, x)
        state, outputs = torch.zeros_like(enter[:, 0]), []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + enter[:, t]
            outputs.append(torch.einsum("bdn,bn->bd", state, c[:, t]))
        return torch.stack(outputs, 1) + x * self.skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner, gate = self.split(self.norm(x)).chunk(2, -1)
        inner = self.conv(inner.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        return self.out(x + self.join(self.scan(F.silu(inner)) * F.silu(gate)))


class WaveNet(nn.Module):
    """Dilated gates; what all layers skip is summed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 10, 1)
        self.gates = nn.ModuleList(nn.Conv1d(10, 16, 2, dilation=d) for d in (1, 2, 4))
        self.residual = nn.ModuleList(nn.Conv1d(8, 10, 1) for _ in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(8, 12, 1) for _ in range(3))
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(12, 12, 1), nn.ReLU(), nn.Conv1d(12, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.stem(x), 0
        for gate, residual, skip in zip(self.gates, self.residual, self.skips, strict=True):
            y = gate(F.pad(x, (gate.dilation[0], 0)))
            y = torch.tanh(y[:, :8]) * torch.sigmoid(y[:, 8:])
            total = total + skip(y)
            x = x + residual(y)
        return self.out(total)


class TemporalConv(nn.Module):
    """TCN: padded on both sides and the surplus chopped off."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = parametrizations.weight_norm(nn.Conv1d(4, 12, 3, padding=2))
        self.conv2 = parametrizations.weight_norm(nn.Conv1d(12, 12, 3, padding=4, dilation=2))
        self.shortcut, self.out = nn.Conv1d(4, 12, 1), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout(F.relu(self.conv1(x)[:, :, :-2].contiguous()), 0.2, self.training)
        y = F.relu(self.conv2(y)[:, :, :-4].contiguous())
        return self.out(F.relu(y + self.shortcut(x))[:, :, -1])


MIXING: Networks = {
    "mixer": lambda: (Mixer(), image()),
    "gated_mlp": lambda: (GatedMLP(), sequence(6, 8)),
    "fourier_mixer": lambda: (FourierMixer(), sequence(6, 8)),
    "state_space": lambda: (StateSpace(), sequence(5, 6)),
    "wavenet": lambda: (WaveNet(), torch.randn(2, 1, 12)),
    "temporal_conv": lambda: (TemporalConv(), torch.randn(2, 4, 10)),
}


# --- points, graphs, codes -----------------------------------------------------------------------


class PointNet(nn.Module):
    """Points are turned by a learned matrix, and the largest value over all points is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 12, 1), nn.ReLU())
        self.matrix = nn.Linear(12, 9)
        self.conv1, self.bn1 = nn.Conv1d(3, 12, 1), nn.BatchNorm1d(12)
        self.conv2, self.bn2 = nn.Conv1d(12, 20, 1), nn.BatchNorm1d(20)
        self.parts, self.kind = nn.Conv1d(32, 2, 1), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        matrix = self.matrix(self.turn(x).max(2)[0]).view(-1, 3, 3) + torch.eye(3, dtype=x.dtype)
        local = F.relu(self.bn1(self.conv1(torch.bmm(x.transpose(2, 1), matrix).transpose(2, 1))))
        whole = torch.max(self.bn2(self.conv2(local)), 2, keepdim=True)[0]
        joined = torch.cat([local, whole.expand(-1, -1, x.shape[2])], 1)
        return self.kind(whole.squeeze(2)), self.parts(joined)


class DeepSet(nn.Module):
    """Mean, deviation and extremes over a set."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU())
        self.all = nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.each(x)
        extremes = [x.max(1).values, x.min(1).values]
        return self.all(torch.cat([x.mean(1), torch.sqrt(x.var(1) + 1e-5), *extremes], 1))


class GraphConv(nn.Module):
    """A dense adjacency comes as a second input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight1, self.weight2 = (
            nn.Parameter(torch.randn(6, 16)),
            nn.Parameter(torch.randn(16, 12)),
        )
        self.bias, self.out = nn.Parameter(torch.randn(16)), nn.Linear(12, 3)

    def forward(self, features: Tensor, adjacency: Tensor) -> Tensor:
        degree = adjacency.sum(-1, keepdim=True).clamp(min=1)
        x = torch.relu(adjacency @ (features @ self.weight1) / degree + self.bias)
        return self.out(torch.relu(torch.bmm(adjacency, x.matmul(self.weight2))))


class GraphAttention(nn.Module):
    """Scores of pairs as a sum of two; those without an edge are masked."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(6, 16, bias=False), nn.Linear(16, 3)
        self.source, self.target = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(2, 8))

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        x = self.project(nodes).view(*nodes.shape[:2], 2, 8)
        left, right = (x * self.source).sum(-1), (x * self.target).sum(-1)
        scores = F.leaky_relu(left[:, :, None] + right[:, None], 0.2)
        scores = scores.masked_fill(adjacency[..., None] == 0, -1e9).softmax(2)
        return self.out(F.elu(torch.einsum("bijh,bjhd->bihd", scores, x).flatten(2)))


class MessagePassing(nn.Module):
    """Edges as pairs of numbers; messages are gathered and scattered."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.message = nn.Linear(5, 12), nn.Linear(24, 12)
        self.update, self.out = nn.GRUCell(12, 12), nn.Linear(12, 3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        x = self.embed(nodes)
        for _ in range(2):
            pairs = torch.cat([x[edges[0]], x[edges[1]]], -1)
            target = edges[1, :, None].expand(-1, x.shape[1])
            total = torch.zeros_like(x).scatter_add(0, target, F.relu(self.message(pairs)))
            x = self.update(total, x)
        return self.out(x)


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(48, 10)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(10, 48), nn.ReLU(), nn.Unflatten(1, (12, 2, 2))),
            *(nn.ConvTranspose2d(12, 8, 2, 2), nn.ReLU(), nn.ConvTranspose2d(8, 1, 2, 2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(self.encoder(x)))


class Generator(nn.Module):
    """DCGAN: the noise becomes a small map, whose shape is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.bn0 = nn.Linear(10, 24 * 4), nn.BatchNorm1d(24 * 4)
        self.up1, self.bn1 = nn.ConvTranspose2d(24, 12, 4, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.up2 = nn.ConvTranspose2d(12, 3, 4, 2, 1)

    def forward(self, noise: Tensor) -> Tensor:
        x = F.relu(self.bn0(self.project(noise))).view(-1, 24, 2, 2)
        return torch.tanh(self.up2(F.relu(self.bn1(self.up1(x)))))


class VariationalAutoencoder(nn.Module):
    """Draws noise in training; in evaluation it is a buffer."""

    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.mean, self.log = nn.Linear(12, 20), nn.Linear(20, 8), nn.Linear(20, 8)
        self.decode = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12))
        self.register_buffer("noise", torch.randn(8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.relu(self.encode(x))
        mean, log = self.mean(x), self.log(x)
        noise = torch.randn_like(mean) if self.training else self.noise
        return self.decode(mean + torch.exp(0.5 * log) * noise), mean, log


class VectorQuantised(nn.Module):
    """Each pixel is replaced by the nearest entry of a code book."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.codes = (
            nn.Sequential(ConvBlock(3, 12), nn.Conv2d(12, 10, 1)),
            nn.Embedding(7, 10),
        )
        self.decode = nn.Sequential(ConvBlock(10, 8), nn.Conv2d(8, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        found = self.encode(x).permute(0, 2, 3, 1)
        nearest = torch.cdist(found.flatten(0, 2), self.codes.weight).argmin(1)
        coded = self.codes(nearest).view_as(found)
        coded = found + (coded - found).detach()
        return self.decode(coded.permute(0, 3, 1, 2))


class RadianceField(nn.Module):
    """NeRF: sinusoids of the position, which is joined again half-way."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(15, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(31, 18), nn.ReLU())
        self.density, self.colour = nn.Linear(18, 1), nn.Linear(21, 3)

    def forward(self, place: Tensor, direction: Tensor) -> Tensor:
        waves = [f(place * 2**k) for k in range(2) for f in (torch.sin, torch.cos)]
        x = torch.cat([place, *waves], -1)
        x = self.second(torch.cat([x, self.first(x)], -1))
        colour = torch.sigmoid(self.colour(torch.cat([x, direction], -1)))
        return torch.cat([colour, F.softplus(self.density(x))], -1)


class Siren(nn.Module):
    """Sines for activations: a feature that is gone leaves sin(bias), not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 20), nn.Linear(20, 16)])
        self.out, self.rate = nn.Linear(16, 3), 3.0

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(self.rate * layer(x))
        return self.out(x)


class Cosines(nn.Module):
    """cos(0) is 1: what is removed would still say something, unless its reader goes with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 20), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cos(self.first(x)) + 0.5)


POINTS: Networks = {
    "pointnet": lambda: (PointNet(), torch.randn(2, 3, 11)),
    "deep_set": lambda: (DeepSet(), sequence(7, 5)),
    "graph_conv": lambda: (
        GraphConv(),
        (sequence(5, 6), torch.randint(2, (2, 5, 5)).float()),
    ),
    "graph_attention": lambda: (
        GraphAttention(),
        {"nodes": sequence(5, 6), "adjacency": torch.randint(2, (2, 5, 5))},
    ),
    "message_passing": lambda: (
        MessagePassing(),
        (torch.randn(6, 5), torch.tensor([[0, 1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0, 3]])),
    ),
    "autoencoder": lambda: (Autoencoder(), image(8, 1)),
    "generator": lambda: (Generator(), torch.randn(2, 10)),
    "variational_autoencoder": lambda: (VariationalAutoencoder(), torch.randn(2, 12)),
    "vector_quantised": lambda: (VectorQuantised(), image(4)),
    "radiance_field": lambda: (RadianceField(), (torch.randn(2, 3), torch.randn(2, 3))),
    "siren": lambda: (Siren(), torch.randn(2, 2)),
    "cosines": lambda: (Cosines(), torch.randn(2, 6)),
}


# --- layers and parameters used in unusual ways --------------------------------------------------


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(3, 10), ConvBlock(10, 12, 3, 2))
        self.fc = nn.Linear(12, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.body(left).mean((2, 3)), self.body(right).mean((2, 3))
        return torch.sigmoid(self.fc((a - b).abs()))


class Triplet(nn.Module):
    """Three pictures in one batch, taken apart again; distances come out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(3, 12), PooledHead(12, 8))

    def forward(self, anchor: Tensor, same: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        a, s, o = self.body(torch.cat([anchor, same, other], 0)).split(anchor.shape[0])
        return F.pairwise_distance(a, s), F.pairwise_distance(a, o)


class UsedTwice(nn.Module):
    """One layer at two depths, one norm after both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = nn.Linear(8, 16), nn.Linear(16, 16)
        self.norm, self.other, self.out = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.shared(self.stem(x))))
        return self.out(F.relu(self.norm(self.shared(self.other(x)))))


class SharedConv(nn.Module):
    """The same weights at two dilations, through the function, with separate norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.weight = ConvBlock(3, 8), nn.Parameter(torch.randn(12, 8, 3, 3) / 8)
        self.norms, self.head = nn.ModuleList(nn.BatchNorm2d(12) for _ in range(2)), PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        one = self.norms[0](F.conv2d(x, self.weight, padding=1))
        two = self.norms[1](F.conv2d(x, self.weight, padding=2, dilation=2))
        return self.head(F.relu(one) + F.relu(two))


class TiedAutoencoder(nn.Module):
    """The decoder uses the encoder's weights, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(16, 10) / 4),
            nn.Parameter(torch.zeros(16)),
        )
        self.back = nn.Parameter(torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(F.linear(x, self.weight, self.bias)), self.weight.t(), self.back)


class OwnParameters(nn.Module):
    """Matrices in a ParameterList, biases in a ParameterDict."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(10, 20), (20, 14), (14, 3)]
        self.weights = nn.ParameterList(torch.randn(*size) / 4 for size in sizes)
        self.biases = nn.ParameterDict({f"b{k}": torch.randn(n) for k, (_, n) in enumerate(sizes)})

    def forward(self, x: Tensor) -> Tensor:
        for k, weight in enumerate(self.weights):
            x = torch.addmm(self.biases[f"b{k}"], x, weight)
            x = F.relu(x) if k < 2 else x
        return x


class EinsumLayers(nn.Module):
    """Linear layers as einsum; a head and a feature are two dimensions of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Parameter(torch.randn(16, 8)),
            nn.Parameter(torch.randn(16, 3, 6)),
        )
        self.third = nn.Parameter(torch.randn(3, 6, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.einsum("bni,oi->bno", x, self.first).relu()
        x = torch.einsum("bno,ohd->bnhd", x, self.second).tanh()
        return torch.einsum("bnhd,hde->bne", x, self.third)


class TensorDots(nn.Module):
    """tensordot, matmul from the left, outer products and addcmul."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(8, 12)), nn.Parameter(torch.randn(14, 12))
        self.u, self.v, self.out = (
            nn.Parameter(torch.randn(14)),
            nn.Parameter(torch.randn(14)),
            nn.Linear(14, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tensordot(x, self.a, dims=([1], [0])).relu()
        x = torch.matmul(self.b, x.t()).t()
        x = torch.addcmul(self.u, x, self.v, value=0.5)
        return self.out(x + (self.u.outer(self.v) @ x.unsqueeze(-1)).squeeze(-1))


class BroadcastParameters(nn.Module):
    """A scale and a shift per channel, a bias map for all channels, and a constant buffer."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = nn.Conv2d(3, 12, 3), ConvBlock(12, 10), PooledHead(10)
        self.scale, self.shift = (
            nn.Parameter(torch.rand(12)),
            nn.Parameter(torch.randn(1, 12, 1, 1)),
        )
        self.plane = nn.Parameter(torch.randn(6, 6))
        self.register_buffer("offset", torch.randn(10, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x) * self.scale[:, None, None] + self.shift + self.plane
        return self.head(self.conv2(x) + self.offset)


class InPlace(nn.Module):
    """Writes into activations: whole, and parts of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.part = ConvBlock(3, 12), nn.Conv2d(12, 4, 1)
        self.conv2 = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12))
        self.head = PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        x = y.clone()
        x[:, :4] += self.part(y)
        y = self.conv2(x).add_(x).relu_().mul(2)
        y[:, 2:5] = 0
        return self.head(y.mul_(0.5))


class CopiedSlices(nn.Module):
    """Fills a tensor of zeros part by part instead of joining the parts."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = (
            nn.Conv2d(3, 6, 1),
            nn.Conv2d(3, 9, 3, padding=1),
            PooledHead(15),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(x.shape[0], 15, *x.shape[2:])
        out[:, :6] = self.a(x)
        out[:, 6:] = self.b(x)
        return self.head(F.relu(out))


class UnusedParameters(nn.Module):
    """Layers of an older version are still there; others are frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = ConvBlock(3, 12), ConvBlock(12, 16), PooledHead(16)
        self.old, self.table = nn.Linear(16, 12), nn.Parameter(torch.randn(12, 12))
        self.conv1.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv2(self.conv1(x)))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = ConvBlock(3, 12), PooledHead(12)
        self.block = nn.Sequential(ConvBlock(12, 16), nn.Conv2d(16, 12, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + checkpoint(self.block, x, use_reentrant=False))


class Hooked(nn.Module):
    """A hook changes what a layer returns; another keeps what passes, and both are heads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(8, 16), nn.Linear(16, 12), nn.Linear(28, 3)
        self.first.register_forward_hook(_halved)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = self.second.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        x = F.relu(self.second(F.relu(self.first(x))))
        handle.remove()
        return self.out(torch.cat([x, kept[0]], 1))


def _halved(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    return out / 2


def lazily() -> nn.Module:
    net = nn.Sequential(
        *(nn.LazyConv2d(12, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten()),
        *(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 4)),
    )
    with torch.no_grad():
        net(torch.zeros(2, 3, 8, 8))
    return net


USES: Networks = {
    "siamese": lambda: (Siamese(), {"left": image(), "right": image()}),
    "triplet": lambda: (Triplet(), (image(), image(), image())),
    "used_twice": lambda: (UsedTwice(), torch.randn(2, 8)),
    "shared_conv": lambda: (SharedConv(), image()),
    "tied_autoencoder": lambda: (TiedAutoencoder(), torch.randn(2, 10)),
    "own_parameters": lambda: (OwnParameters(), torch.randn(2, 10)),
    "einsum_layers": lambda: (EinsumLayers(), sequence(4, 8)),
    "tensor_dots": lambda: (TensorDots(), torch.randn(2, 8)),
    "broadcast_parameters": lambda: (BroadcastParameters(), image()),
    "in_place": lambda: (InPlace(), image()),
    "copied_slices": lambda: (CopiedSlices(), image()),
    "unused_parameters": lambda: (UnusedParameters(), image()),
    "checkpointed": lambda: (Checkpointed(), image()),
    "hooked": lambda: (Hooked(), torch.randn(2, 8)),
    "lazy_layers": lambda: (lazily(), image()),
}


# --- inputs, outputs and control flow ------------------------------------------------------------


class FeatureDict(nn.Module):
    """Returns its inner maps too, nested."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = ConvBlock(3, 8), ConvBlock(8, 12), PooledHead(12)
        self.project = nn.Conv2d(12, 10, 1)

    def forward(self, x: Tensor) -> dict[str, object]:
        first = self.conv1(x)
        second = self.conv2(first)
        return {"logits": self.head(second), "maps": [first, (self.project(second), None)]}


@dataclass
class Density:
    """A mixture of Gaussians."""

    weights: Tensor
    mean: Tensor
    deviation: Tensor


class MixtureDensity(nn.Module):
    """Returns a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 14), nn.Tanh())
        self.weights, self.mean, self.log = (nn.Linear(14, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Density:
        x = self.body(x)
        return Density(self.weights(x).softmax(-1), self.mean(x), self.log(x).exp())


class NestedOutput(nn.Module):
    """((a, b), [c]) and plain numbers beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.a, self.b = nn.Linear(8, 24), nn.Linear(24, 2), nn.Linear(24, 12)
        self.c = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], list[Tensor], int]:
        x = F.hardtanh(self.body(x))
        b = F.relu(self.b(x))
        return (self.a(x), b.sum(1)), [self.c(b)], x.shape[0]


class OptionalInput(nn.Module):
    """A second input that may be missing, and a switch."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.extra = nn.Linear(8, 16), nn.Linear(4, 16)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor, extra: Tensor | None = None, scale: float = 1.0) -> Tensor:
        x = self.main(x)
        if extra is not None:
            x = x + self.extra(extra)
        return self.out(F.relu(x) * scale)


class TwoInputs(nn.Module):
    """Pictures and numbers, joined late."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(ConvBlock(3, 10), nn.AdaptiveMaxPool2d(2), nn.Flatten())
        self.read = nn.Sequential(nn.Linear(6, 12), nn.Softplus())
        self.fc = nn.Sequential(nn.Linear(52, 16), nn.SELU(), nn.Linear(16, 3))

    def forward(self, picture: Tensor, numbers: Tensor) -> Tensor:
        return self.fc(torch.hstack([self.see(picture), self.read(numbers)]))


class OneHot(nn.Module):
    """Integers become one-hot vectors and meet a matrix; a table is read by index."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.table = nn.Parameter(torch.randn(9, 16)), nn.Parameter(torch.randn(9, 16))
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hot = F.one_hot(x, 9).to(self.weight.dtype)
        return self.out(F.relu(hot @ self.weight + self.table[x]).mean(1))


class Branching(nn.Module):
    """The data decide which way is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = nn.Linear(8, 16), nn.Linear(12, 3)
        self.warm, self.cold = nn.Linear(16, 12), nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        return self.out(torch.tanh(self.warm(y) if x.mean() > 0 else self.cold(y)))


class EarlyExit(nn.Module):
    """Stops as soon as it is sure, but gives every answer until then."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 14)
        self.layers = nn.ModuleList(nn.Linear(14, 14) for _ in range(3))
        self.exits = nn.ModuleList(nn.Linear(14, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for layer, leave in zip(self.layers, self.exits, strict=True):
            x = x + F.relu(layer(x))
            answer = leave(x)
            if answer.softmax(-1).amax(-1).min() > 0.99:
                break
        return answer


class LoopFromShape(nn.Module):
    """As many rounds as there are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(20, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 12)
        for t in range(x.shape[1]):
            state = torch.tanh(self.mix(torch.cat([x[:, t], state], 1)))
        return self.out(state)


class AuxiliaryHead(nn.Module):
    """A second head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.head = ConvBlock(3, 12), ConvBlock(12, 16), PooledHead(16)
        self.auxiliary = nn.Sequential(ConvBlock(12, 8, 1), PooledHead(8))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.conv1(x)
        out = self.head(self.conv2(x))
        return (out, self.auxiliary(x)) if self.training else out


class FunctionalDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(3, 10, 3), nn.Linear(90, 20), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout2d(F.max_pool2d(self.conv(x), 2), 0.2, self.training)
        x = F.dropout(F.relu(self.fc1(x.flatten(1))), training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class BatchedBranches(nn.Module):
    """Two views of the input pass as one batch and are parted afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = ConvBlock(3, 10), ConvBlock(10, 12)
        self.merge, self.head = nn.Conv2d(24, 8, 1), PooledHead(8)

    def forward(self, x: Tensor) -> Tensor:
        both = self.conv(self.stem(torch.cat([x, x.flip(-1)], 0)))
        left, right = torch.split(both, x.shape[0])
        return self.head(F.relu(self.merge(torch.cat([left, right.flip(-1)], 1))))


class TimeDistributed(nn.Module):
    """Frames are folded into the batch for the pictures and unfolded for the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.fc = (
            nn.Sequential(ConvBlock(3, 10), ConvBlock(10, 12, 3, 2)),
            nn.Linear(12, 4),
        )
        self.over = nn.Conv1d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[:2]
        frames = self.see(x.flatten(0, 1)).amax((-2, -1)).view(b, t, -1)
        return self.fc(F.relu(self.over(frames.transpose(1, 2))).mean(-1))


class CoordinateConv(nn.Module):
    """Two channels with the place of each pixel, and the size in a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = ConvBlock(3, 8), ConvBlock(10, 12), PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        axis = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype, device=x.device)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).expand(len(x), -1, -1, -1)
        return self.head(self.conv(torch.cat([x, grid], 1)))


class Ranking(nn.Module):
    """Sorts tokens by a score and keeps the best; returns their places too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.score = nn.Linear(8, 16), nn.Linear(16, 1)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.stem(x))
        best = self.score(x).squeeze(-1).topk(3, dim=1).indices
        kept = torch.take_along_dim(x, best.unsqueeze(-1), dim=1)
        return self.out(kept), best


class MaskedAssignment(nn.Module):
    """An activation written as an assignment, and another after what a second layer says."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.ask, self.conv = ConvBlock(3, 10), nn.Conv2d(3, 10, 1), ConvBlock(10, 12)
        self.head = PooledHead(12)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x) - 0.2
        h[h < 0] = 0.1
        h[self.ask(x) > 0.5] = 0
        return self.head(self.conv(h))


class Quantised(nn.Module):
    """Made ready for training with quantisation: ranges are known, of weights one per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 12, 3, padding=1)
        self.head = PooledHead(12)
        self.register_buffer("scale", torch.rand(10) * 0.02 + 0.01)
        self.register_buffer("point", torch.zeros(10, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        given = self.stem.weight.float(), self.scale.float(), self.point, 0, -128, 127
        weight = torch.fake_quantize_per_channel_affine(*given).to(x.dtype)
        h = F.relu(F.conv2d(x, weight, self.stem.bias, padding=1))
        h = torch.fake_quantize_per_tensor_affine(h, 0.05, 0, 0, 255)
        return self.head(F.relu(self.conv(h)))


class CastLayer(nn.Module):
    """One layer computes in double precision, from its own weights cast each time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle, self.out = nn.Linear(8, 16), nn.Linear(16, 14), nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x)).double()
        y = F.linear(y, self.middle.weight.double(), self.middle.bias.double())
        return self.out(F.relu(y).to(x.dtype))


FORMS: Networks = {
    "feature_dict": lambda: (FeatureDict(), image()),
    "dataclass_output": lambda: (MixtureDensity(), torch.randn(2, 6)),
    "nested_output": lambda: (NestedOutput(), torch.randn(2, 8)),
    "optional_input_none": lambda: (OptionalInput(), (torch.randn(2, 8), None, 0.5)),
    "optional_input_given": lambda: (
        OptionalInput(),
        {"x": torch.randn(2, 8), "extra": torch.randn(2, 4)},
    ),
    "two_inputs": lambda: (TwoInputs(), (image(), torch.randn(2, 6))),
    "one_hot": lambda: (OneHot(), torch.randint(9, (2, 5))),
    "branching": lambda: (Branching(), torch.randn(2, 8)),
    "early_exit": lambda: (EarlyExit(), torch.randn(2, 8)),
    "loop_from_shape": lambda: (LoopFromShape(), sequence(4, 8)),
    "auxiliary_head": lambda: (AuxiliaryHead(), image()),
    "functional_dropout": lambda: (FunctionalDropout(), image()),
    "batched_branches": lambda: (BatchedBranches(), image()),
    "time_distributed": lambda: (TimeDistributed(), torch.randn(2, 3, 3, 8, 8)),
    "coordinate_conv": lambda: (CoordinateConv(), image()),
    "ranking": lambda: (Ranking(), sequence(6, 8)),
    "masked_assignment": lambda: (MaskedAssignment(), image()),
    "quantised": lambda: (Quantised(), image()),
    "cast_layer": lambda: (CastLayer(), torch.randn(2, 8)),
}

NETWORKS: Networks = {
    **PLAIN,
    **RESIDUAL,
    **ORDER,
    **DENSE_PREDICTION,
    **NORMS,
    **PRODUCTS,
    **WORDS,
    **ATTENTION,
    **MIXING,
    **POINTS,
    **USES,
    **FORMS,
}
