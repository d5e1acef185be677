"""VGG-16 and VGG-19 with batch norm, for 32x32 images."""

import torch
from torch import Tensor, nn

from prunus.zoo.initialisation import he_normal

# Convolutions of each of the five stages; stages have 64, 128, 256, 512 and 512 channels.
_STAGES = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)


class CifarVGG(nn.Module):
    """VGG with batch norm, convolutions without bias, and one linear layer 512 -> classes.

    With 3 input channels and 10 classes VGG-16 has 14,724,042 parameters and 313,201,664 MACs on
    32x32 images, VGG-19 20,035,018 parameters. Stages are parted by max pooling; the last one is
    averaged over its 2x2 pixels.

    Source: Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556, in the CIFAR form of Liu et al.,
    ICLR 2019, arXiv:1810.05270.

    Args:
        depth: 16 or 19 layers with weights in the ImageNet original.
        classes: Outputs of the last layer.
        in_channels: Channels of the images.
        bn_gamma: Initial gamma of the batch norms; 0.5 as in network slimming.
        hidden_features: Units of one more linear layer with ReLU before the last, as in Li et al.,
            ICLR 2017 (512: 14,986,698 parameters, 313,463,808 MACs); None for no such layer.

    Raises:
        ValueError: `depth` is neither 16 nor 19.
    """

    def __init__(
        self,
        depth: int,
        /,
        *,
        classes: int = 10,
        in_channels: int = 3,
        bn_gamma: float = 0.5,
        hidden_features: int | None = None,
    ) -> None:
        super().__init__()
        if depth not in _STAGES:
            raise ValueError(f"depth must be 16 or 19, got {depth}.")
        layers: list[nn.Module] = []
        for stage, (channels, count) in enumerate(zip(_CHANNELS, _STAGES[depth], strict=True)):
            if stage > 0:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                layers += [
                    nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                ]
                in_channels = channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier: nn.Module = nn.Linear(512, classes)
        if hidden_features is not None:
            self.classifier = nn.Sequential(
                nn.Linear(512, hidden_features), nn.ReLU(), nn.Linear(hidden_features, classes)
            )
        he_normal(self, bn_gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, in_channels, h, w), of 16x16 or more, to logits (batch, classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.pool(self.features(x)), 1))
        return logits
