"""CamVid: 701 street scenes with one of eleven classes per pixel."""

import io
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from prunus.errors import DataError
from prunus.training import ArrayData
from prunus.training.batches import IGNORED

CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("pedestrian", "bicyclist"),
)
"""Names of the classes; a twelfth value in the files is unlabelled and does not count."""


def camvid(folder: Path, *, batch_size: int, seed: int, augment: bool) -> ArrayData:
    """Read `folder/camvid_240x180.zip`: 367, 101 and 233 images, half as high and wide as SegNet's.

    Training images are mirrored at random.

    Source: Brostow, Fauqueur and Cipolla, Pattern Recognition Letters 2009; classes and splits of
    Badrinarayanan et al., arXiv:1511.00561.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / "camvid_240x180.zip"
    try:
        with ZipFile(path) as archive:
            train, val, test = (_read(archive, split) for split in ("train", "val", "test"))
    except (OSError, BadZipFile, UnidentifiedImageError, KeyError, ValueError) as error:
        raise DataError(
            f"cannot read {path} ({error}); restore the file, or remove its folder."
        ) from error
    return ArrayData(
        *("camvid", train, test, len(CLASSES)),
        mean=(0.4137, 0.4272, 0.4341),
        std=(0.3019, 0.3058, 0.3019),
        batch_size=batch_size,
        flip=augment,
        seed=seed,
        val=val,
    )


def _read(archive: ZipFile, split: str) -> tuple[Tensor, Tensor]:
    """Return images, uint8 (count, 3, height, width), and labels, int64 (count, height, width)."""
    names = sorted(name for name in archive.namelist() if name.startswith(f"{split}/"))
    images = [_image(archive, name) for name in names]
    labels = [_image(archive, _annotation(name)) for name in names]
    classes = torch.from_numpy(np.stack(labels)).long()
    classes[classes == len(CLASSES)] = IGNORED
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), classes


def _annotation(name: str) -> str:
    split, _, file = name.partition("/")
    return f"{split}annot/{file.removesuffix('.webp')}.png"


def _image(archive: ZipFile, name: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(archive.read(name))) as image:
        return np.array(image)
