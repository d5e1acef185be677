"""MobileNetV1 with its width multiplier, for 224x224 images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunus.zoo.initialisation import he_normal

# (channels, stride) of each depthwise separable layer.
_LAYERS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *[(512, 1)] * 5,
    *((1024, 2), (1024, 1)),
)


class MobileNetV1(nn.Module):
    """Thirteen depthwise separable layers behind one convolution, batch norm and ReLU throughout.

    With 1000 classes, width 1 / 0.75 / 0.5 / 0.25 has 4,231,976 / 2,585,560 / 1,331,592 / 470,072
    parameters and, on 224x224 images, 568,740,352 / 325,400,448 / 149,497,088 / 41,030,272 MACs.

    Source: Howard et al., 2017, arXiv:1704.04861, tables 1 and 6.

    Args:
        width: Multiplies the channels of every layer.
        classes: Outputs of the last layer.
        bn_gamma: Initial gamma of the batch norms; network slimming begins with 0.5.

    Raises:
        ValueError: `width` is not above 0.
    """

    def __init__(self, width: float = 1.0, classes: int = 1000, bn_gamma: float = 1.0) -> None:
        super().__init__()
        if not width > 0:
            raise ValueError(f"width must be above 0, got {width}; the paper has 0.25 to 1.")
        channels = max(1, int(32 * width))
        layers = _normed(nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False))
        for outputs, stride in _LAYERS:
            outputs = max(1, int(outputs * width))
            layers += _normed(
                nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
            )
            layers += _normed(nn.Conv2d(channels, outputs, 1, bias=False))
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)
        he_normal(self, bn_gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to logits (batch, classes)."""
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def _normed(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]
