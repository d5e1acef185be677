"""Files of images -> tensors, for the layouts that datasets come in.

Every reader returns a pair (images, labels): a uint8 tensor (count, channels, height, width) and an
int64 tensor (count,).
"""

import gzip
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from prunus.errors import DataError

Split: TypeAlias = Literal["train", "test"]
Images: TypeAlias = tuple[Tensor, Tensor]


def read_idx(folder: Path, split: Split) -> Images:
    """Read `folder`'s gzipped IDX files, named as MNIST's and Fashion-MNIST's are published.

    Raises:
        DataError: A file is missing, truncated, or not IDX.
    """
    stem = "train" if split == "train" else "t10k"
    images = _idx(folder / f"{stem}-images-idx3-ubyte.gz", dimensions=3)
    labels = _idx(folder / f"{stem}-labels-idx1-ubyte.gz", dimensions=1)
    return images.unsqueeze(1), labels.long()


def read_writers(folder: Path) -> Tensor:
    """Read who wrote each of MNIST's training images, int64 (60000,), from QMNIST's labels.

    Source: Yadav and Bottou, NeurIPS 2019, arXiv:1905.10498.

    Raises:
        DataError: The file is missing, truncated, or not IDX.
    """
    path = folder / "qmnist-train-labels-idx2-int.gz"
    raw = _unzipped(path)
    rows, columns = np.frombuffer(raw[4:12], ">u4").tolist() if len(raw) >= 12 else (0, 0)
    if raw[:4] != bytes([0, 0, 12, 2]) or len(raw) != 12 + 4 * rows * columns or columns < 3:
        raise DataError(f"{path} is not an IDX file of 2-dimensional integers.")
    table = np.frombuffer(raw[12:], ">i4").reshape(rows, columns)
    return torch.from_numpy(table[:, 2].astype(np.int64))


def read_cifar10_sheets(folder: Path, split: Split) -> Images:
    """Read CIFAR-10 as lossless WebP sheets of 100 x 100 images, with labels as `.npy`.

    Raises:
        DataError: A file is missing or damaged.
    """
    names = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    images = torch.cat([_sheet(folder / f"{name}.webp", size=32) for name in names])
    path = folder / f"{split}_labels.npy"
    try:
        labels = torch.from_numpy(np.load(path, allow_pickle=False)).long()
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise _unreadable(path, error) from error
    return images, labels


def read_embedded(split: Split) -> Images:
    """Read the Fashion-MNIST images inside this package; `fashion_mnist_10k.txt` has their origin.

    Images come class by class in turn (0, 1, ..., 9, 0, ...), so every prefix is balanced.
    """
    with (files("prunus.zoo") / "fashion_mnist_10k.png").open("rb") as file:
        sheet = torch.from_numpy(np.array(Image.open(file)))
    by_class = _cut(sheet.unsqueeze(2), size=28).reshape(10, 1000, 1, 28, 28)
    part = by_class[:, :800] if split == "train" else by_class[:, 800:]
    return part.transpose(0, 1).flatten(0, 1), torch.arange(10).repeat(part.shape[1])


def read_torchvision(
    dataset: Callable[..., Any], folder: Path, split: Split, *, download: bool
) -> Images:
    """Read through one of `torchvision.datasets`, optionally downloading into `folder` first.

    CIFAR-10's archive holds pickles; torchvision opens them only after comparing each file with
    its published MD5 sum.

    Args:
        dataset: `datasets.MNIST`, `FashionMNIST` or `CIFAR10`.
        folder: torchvision's `root`.
        split: Which half.
        download: Whether missing files may be fetched.

    Raises:
        DataError: Files are missing or damaged, or the download failed.
    """
    try:
        found = dataset(root=str(folder), train=split == "train", download=download)
    except (OSError, RuntimeError, EOFError, ValueError, AssertionError) as error:
        what = "could not be downloaded to" if download else "is damaged or incomplete in"
        reason = " ".join(str(error).split()).rstrip(" .")
        raise DataError(f"{dataset.__name__} {what} {folder}: {reason}.") from error
    images = torch.as_tensor(found.data)
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
    return images, torch.as_tensor(found.targets)


def _idx(path: Path, dimensions: int) -> Tensor:
    """Read unsigned bytes: magic number 0 0 8 `dimensions`, big-endian sizes, then the data."""
    raw = _unzipped(path)
    start = 4 + 4 * dimensions
    shape = np.frombuffer(raw[4:start], ">u4").astype(np.int64).tolist()
    if raw[:4] != bytes([0, 0, 8, dimensions]) or len(raw) != start + np.prod(shape):
        raise DataError(f"{path} is not an IDX file of {dimensions}-dimensional unsigned bytes.")
    return torch.frombuffer(bytearray(raw[start:]), dtype=torch.uint8).reshape(shape)


def _unzipped(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _sheet(path: Path, size: int) -> Tensor:
    try:
        with Image.open(path) as image:
            sheet = torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, UnidentifiedImageError) as error:
        raise _unreadable(path, error) from error
    if sheet.shape[0] % size or sheet.shape[1] % size:
        raise DataError(
            f"{path} must be a sheet of {size}x{size} images, got {tuple(sheet.shape)}."
        )
    return _cut(sheet, size)


def _cut(sheet: Tensor, size: int) -> Tensor:
    """Cut (rows * size, columns * size, channels) into (rows * columns, channels, size, size)."""
    rows, columns, channels = sheet.shape[0] // size, sheet.shape[1] // size, sheet.shape[2]
    tiles = sheet.reshape(rows, size, columns, size, channels).transpose(1, 2)
    return tiles.flatten(0, 1).permute(0, 3, 1, 2)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read {path} ({error}); restore the file, or remove its folder.")
