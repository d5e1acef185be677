"""The ResNets for 32x32 images: 6n + 2 layers, shortcuts without parameters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.zoo.initialisation import he_normal


class ZeroPadShortcut(nn.Module):
    """The option-A shortcut: every second pixel, with channels of zeros around the old ones.

    The zeros are two buffers rather than a count inside `forward`, so that removing a channel
    slices them like any other tensor that carries channels. They are not in the state dict.

    Args:
        before: Zero channels in front of the input's.
        after: Zero channels behind them.
    """

    zeros_before: Tensor
    zeros_after: Tensor

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.register_buffer("zeros_before", torch.zeros(1, before, 1, 1), persistent=False)
        self.register_buffer("zeros_after", torch.zeros(1, after, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c, h, w) to (batch, before + c + after, ceil(h / 2), ceil(w / 2))."""
        x = x[:, :, ::2, ::2]
        size = (x.shape[0], -1, x.shape[2], x.shape[3])
        parts = [x]
        if self.zeros_before.shape[1] > 0:
            parts.insert(0, self.zeros_before.expand(size))
        if self.zeros_after.shape[1] > 0:
            parts.append(self.zeros_after.expand(size))
        return torch.cat(parts, dim=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the block's input.

    Args:
        inputs: Channels that come in.
        outputs: Channels that leave; at least `inputs`.
        stride: Of the first convolution: 2 halves height and width.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        extra = outputs - inputs
        self.shortcut: nn.Module = (
            nn.Identity() if stride == 1 else ZeroPadShortcut(extra // 2, extra - extra // 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, h, w) to (batch, outputs, ceil(h / stride), ceil(w / stride))."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet-20/32/44/56/110: three stages of 16, 32 and 64 channels, option-A shortcuts.

    Names of parameters are those of the published checkpoints of akamaster/pytorch_resnet_cifar10.
    With 3 input channels and 10 classes, depth 20 / 56 / 110 has 269,722 / 853,018 / 1,727,962
    parameters and, on 32x32 images, 40,551,040 / 125,485,696 / 252,887,680 MACs.

    Source: He, Zhang, Ren and Sun, CVPR 2016, arXiv:1512.03385, section 4.2.

    Args:
        depth: Layers with weights: 6n + 2.
        classes: Outputs of the last layer.
        in_channels: Channels of the images.
        bn_gamma: Initial gamma of the batch norms; network slimming begins with 0.5.

    Raises:
        ValueError: `depth` is not 8, 14, 20, ...
    """

    def __init__(
        self, depth: int, /, *, classes: int = 10, in_channels: int = 3, bn_gamma: float = 1.0
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n + 2 with n at least 1, got {depth}. Try 20 or 56.")
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, 16, 16, stride=1)
        self.layer2 = _stage(blocks, 16, 32, stride=2)
        self.layer3 = _stage(blocks, 32, 64, stride=2)
        self.linear = nn.Linear(64, classes)
        he_normal(self, bn_gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, in_channels, h, w) to logits (batch, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def _stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
