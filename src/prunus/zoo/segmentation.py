"""Networks that give each pixel a class."""

from torch import Tensor, nn
from torch.nn import functional as F

from prunus.zoo.initialisation import he_normal

# VGG-16: channels and convolutions of each stage.
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class SegNet(nn.Module):
    """VGG-16's convolutions, and their mirror image behind unpooling to where each maximum was.

    Batch norm and ReLU follow every convolution but the last.

    Source: Badrinarayanan, Kendall and Cipolla, IEEE TPAMI 2017, arXiv:1511.00561, section 3.

    Args:
        classes: Of a pixel; 11 in CamVid.
        width: Multiplies the channels of every layer: 1 is the paper's, with 29.4 M parameters;
            0.25 is small enough for CamVid on a CPU, with 1.8 M.
    """

    def __init__(self, classes: int = 11, width: float = 1.0) -> None:
        super().__init__()
        stages = [(max(1, round(channels * width)), count) for channels, count in _STAGES]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inputs = 3
        for channels, count in stages:
            self.encoder.append(_normed(inputs, *[channels] * count))
            inputs = channels
        for (channels, count), below in zip(
            reversed(stages), [*(c for c, _ in reversed(stages[:-1])), None], strict=True
        ):
            last = [] if below is None else [below]
            self.decoder.append(_normed(channels, *[channels] * (count - 1), *last))
        self.classifier = nn.Conv2d(stages[0][0], classes, 3, padding=1)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w), of 32x32 or more, to logits (batch, classes, h, w)."""
        places = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[-2:]
            x, place = F.max_pool2d(x, 2, return_indices=True)
            places.append((place, size))
        for stage, (place, size) in zip(self.decoder, reversed(places), strict=True):
            x = stage(F.max_unpool2d(x, place, [2, 2], output_size=size))
        logits: Tensor = self.classifier(x)
        return logits


class FCN32s(nn.Module):
    """VGG-16 with its linear layers as convolutions, and the scores enlarged 32 times.

    Source: Long, Shelhamer and Darrell, CVPR 2015, arXiv:1411.4038, section 4. Deviations: images
    are padded as much as each filter needs rather than by 100 pixels, and the bilinear enlargement
    goes to the very size of the image.

    Args:
        classes: Of a pixel; 21 in Pascal VOC, 11 in CamVid.
        width: Multiplies the channels of every layer: 1 is the paper's, with 134.3 M parameters
            for 21 classes; 0.25 is small enough for CamVid on a CPU, with 8.4 M.
        dropout: Behind each of the two layers of 4096 channels.
    """

    def __init__(self, classes: int = 11, width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for full, count in _STAGES:
            channels = max(1, round(full * width))
            for _ in range(count):
                layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
                inputs = channels
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        wide = max(1, round(4096 * width))
        self.classifier = nn.Sequential(
            *(nn.Conv2d(inputs, wide, 7, padding=3), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Conv2d(wide, wide, 1), nn.ReLU(), nn.Dropout(dropout)),
            nn.Conv2d(wide, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to logits (batch, classes, h, w)."""
        scores = self.classifier(self.features(x))
        return F.interpolate(scores, x.shape[-2:], mode="bilinear", align_corners=False)


def _normed(inputs: int, *widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in widths:
        layers += [
            nn.Conv2d(inputs, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        inputs = channels
    return nn.Sequential(*layers)
