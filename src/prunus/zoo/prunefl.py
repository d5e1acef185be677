"""The networks that PruneFL trains on FEMNIST, on CIFAR-10 and on CelebA, and LEAF on Shakespeare.

Source: Jiang, Wang, Valls, Ko, Lee, Leung and Tassiulas, "Model Pruning Enables Efficient Federated
Learning on Edge Devices", IEEE TNNLS 2022, arXiv:1909.12326, section VI; sizes as in their code.
Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018, arXiv:1812.01097, appendix.
"""

import torch
from torch import Tensor, nn

_VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class PruneFLConv2(nn.Module):
    """Two 5x5 convolutions with pooling, then 2048 units: 6,603,710 parameters for 62 classes.

    Args:
        classes: Outputs of the last layer; 62 in FEMNIST.
    """

    def __init__(self, classes: int = 62) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.classifier = nn.Sequential(
            nn.Linear(64 * 7 * 7, 2048), nn.ReLU(), nn.Linear(2048, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 1, 28, 28) to logits (batch, classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


class PruneFLVGG11(nn.Module):
    """VGG-11 without batch norm for 32x32 images, with linear layers 512-512-classes.

    9,750,922 parameters with 3 input channels and 10 classes.

    Args:
        classes: Outputs of the last layer.
        in_channels: Channels of the images.
    """

    def __init__(self, classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in _VGG11:
            for channels in stage:
                layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU()]
                in_channels = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(512, 512), nn.ReLU()),
            *(nn.Linear(512, 512), nn.ReLU()),
            nn.Linear(512, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, in_channels, 32, 32) to logits (batch, classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


class PruneFLConv4(nn.Module):
    """Four 3x3 convolutions of 32 filters, each with batch norm and pooling, and a linear layer.

    36,306 parameters for the 242 characters of Omniglot.

    Args:
        classes: Outputs of the last layer.
        in_channels: Channels of the images; 3 in CelebA.
        side: Their height and width, at least 16; 84 in CelebA.
    """

    def __init__(self, classes: int = 242, in_channels: int = 1, side: int = 28) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv2d(in_channels, 32, 3, padding=1), nn.BatchNorm2d(32)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            in_channels = 32
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(32 * (side // 16) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, in_channels, side, side) to logits (batch, classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


class CharLstm(nn.Module):
    """Characters of 8 numbers each, two LSTM layers and a linear layer.

    819,125 parameters for 77 characters and 256 units.

    Args:
        classes: Size of the alphabet; 77 in Shakespeare's plays.
        units: Of each LSTM layer.
    """

    def __init__(self, classes: int = 77, units: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, 8)
        self.lstm1 = nn.LSTM(8, units, batch_first=True)
        self.lstm2 = nn.LSTM(units, units, batch_first=True)
        self.classifier = nn.Linear(units, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map characters (batch, time), int64, to logits (batch, classes, time)."""
        x, _ = self.lstm1(self.embedding(tokens))
        x, _ = self.lstm2(x)
        logits: Tensor = self.classifier(x)
        return logits.transpose(1, 2)
