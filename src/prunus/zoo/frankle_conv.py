"""Conv-2, Conv-4 and Conv-6 of the lottery ticket hypothesis, for 32x32 images."""

import torch
from torch import Tensor, nn

_CHANNELS = (64, 128, 256)


class FrankleConv(nn.Module):
    """Pairs of 3x3 convolutions, each pair with 2x2 max pooling behind it, then 256-256-classes.

    Conv-2 has 4,300,992 weights (38,592 of them in convolutions), Conv-4 2,425,024 (259,776),
    Conv-6 2,261,184 (1,144,512). The paper gives 4.3 M, 2.4 M and 1.7 M; the last cannot be had
    with three poolings and padded convolutions. Weights start as Glorot's normal distribution
    draws them, biases at 0.

    Source: Frankle and Carbin, ICLR 2019, arXiv:1803.03635, figure 2.

    Args:
        depth: Convolutions: 2, 4 or 6.
        classes: Outputs of the last layer.
        in_channels: Channels of the images.

    Raises:
        ValueError: `depth` is another number.
    """

    def __init__(self, depth: int, /, *, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in (2, 4, 6):
            raise ValueError(f"depth must be 2, 4 or 6, got {depth}.")
        layers: list[nn.Module] = []
        for channels in _CHANNELS[: depth // 2]:
            for _ in range(2):
                layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU()]
                in_channels = channels
            layers.append(nn.MaxPool2d(2))
        side = 32 >> depth // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(in_channels * side * side, 256), nn.ReLU()),
            *(nn.Linear(256, 256), nn.ReLU()),
            nn.Linear(256, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, in_channels, 32, 32) to logits (batch, classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits
