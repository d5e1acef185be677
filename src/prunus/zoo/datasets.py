"""Datasets by name: where they are found, how they are normalised and augmented."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torchvision import datasets

from prunus.errors import DataError
from prunus.names import did_you_mean
from prunus.training.data import ArrayData, Data, FolderData
from prunus.zoo import omniglot, shakespeare
from prunus.zoo.camvid import camvid
from prunus.zoo.readers import (
    Images,
    Split,
    read_cifar10_sheets,
    read_embedded,
    read_idx,
    read_torchvision,
)
from prunus.zoo.tokens import ptb
from prunus.zoo.translation import multi30k


@dataclass(frozen=True, kw_only=True)
class Files:
    """How a dataset lies on the disk.

    Args:
        folder: Name of its folder below the data folder, in the first layout.
        read: Reads that folder.
        torchvision: The class that reads, and downloads, the second layout.
        torchvision_folder: The folder that shows that layout to be there.
    """

    folder: str
    read: Callable[[Path, Split], Images]
    torchvision: Callable[..., Any]
    torchvision_folder: str


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One row of `DATASETS`.

    Args:
        files: Where it lies; None for the data inside this package.
        mean: Per channel, subtracted from pixels in [0, 1].
        std: Per channel, by which they are then divided.
        val_size: Images held out from the training data by default.
        crop_padding: Zeros around an image before a random crop of its own size.
        flip: Whether half of the images are mirrored left to right.
    """

    files: Files | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    val_size: int
    crop_padding: int = 0
    flip: bool = False


DATASETS = {
    "fashion-mnist-embedded": DatasetEntry(
        files=None, mean=(0.2869,), std=(0.3526,), val_size=1000
    ),
    "mnist": DatasetEntry(
        files=Files(
            folder="mnist",
            read=read_idx,
            torchvision=datasets.MNIST,
            torchvision_folder="MNIST/raw",
        ),
        mean=(0.1307,),
        std=(0.3081,),
        val_size=5000,
    ),
    "fashion-mnist": DatasetEntry(
        files=Files(
            folder="fashion-mnist",
            read=read_idx,
            torchvision=datasets.FashionMNIST,
            torchvision_folder="FashionMNIST/raw",
        ),
        mean=(0.2860,),
        std=(0.3530,),
        val_size=5000,
    ),
    # ImageNet's mean and standard deviation: with them the published CIFAR-10 ResNets were trained.
    "cifar10": DatasetEntry(
        files=Files(
            folder="cifar10",
            read=read_cifar10_sheets,
            torchvision=datasets.CIFAR10,
            torchvision_folder="cifar-10-batches-py",
        ),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        val_size=5000,
        crop_padding=4,
        flip=True,
    ),
}
"""The images of the papers, by name; each dataset has ten classes."""


@dataclass(frozen=True)
class LocalEntry:
    """One row of `LOCAL`.

    Args:
        folder: Name of its folder below the data folder.
        load: Reads that folder, given batch_size, seed and augment.
    """

    folder: str
    load: Callable[..., Data]


LOCAL = {
    "camvid": LocalEntry("camvid", camvid),
    "ptb": LocalEntry("ptb", ptb),
    "multi30k-de-en": LocalEntry("multi30k", partial(multi30k, "de", "en")),
    "multi30k-en-de": LocalEntry("multi30k", partial(multi30k, "en", "de")),
    "omniglot": LocalEntry("omniglot", omniglot.omniglot),
    "shakespeare": LocalEntry("shakespeare", shakespeare.shakespeare),
}
"""Pixels, words and characters, by name: not downloaded, and with splits of their own."""


def dataset(
    name: str,
    *,
    batch_size: int,
    seed: int = 0,
    val_size: int | None = None,
    root: Path | str | None = None,
    augment: bool = True,
    image_size: int | None = None,
) -> Data:
    """Load a dataset.

    Files are looked for in `root`, then in the folder that the environment variable PRUNUS_DATA
    names, each in the layout `mnist/*.gz`, `fashion-mnist/*.gz`, `cifar10/*.webp` or in
    torchvision's own; then in the cache (`$XDG_CACHE_HOME/prunus` or `~/.cache/prunus`), to which
    torchvision downloads what is missing. CIFAR-10 is normalised with ImageNet's mean and standard
    deviation, and augmented with random crops of the 4-padded image and mirror images; CamVid is
    mirrored; the others are not augmented. Those of `LOCAL` are not downloaded.

    Args:
        name: A key of `DATASETS` or `LOCAL`, or "folder:PATH" for a folder of one folder of images
            per class. "fashion-mnist-embedded" needs no files: 8,000 and 2,000 images inside this
            package.
        batch_size: Images, sentences or pieces of text per batch.
        seed: Of the validation split, the order and the augmentation.
        val_size: Images held out from the training data; None for the dataset's default: 5,000,
            1,000 of the embedded data, or a tenth of a folder without validation images. Not for
            those of `LOCAL`.
        root: The first folder to look in; for "folder:PATH", what a relative PATH is relative to.
        augment: Whether training images are augmented.
        image_size: Height and width in pixels to which the images of a folder are brought; None
            for 224. The other datasets have a size of their own.

    Raises:
        ValueError: There is no such dataset, or another argument is out of range.
        DataError: Files are missing, damaged, or could not be downloaded.
    """
    if name.startswith("folder:"):
        return FolderData(
            Path(root or ".").expanduser() / Path(name.removeprefix("folder:")).expanduser(),
            image_size=224 if image_size is None else image_size,
            batch_size=batch_size,
            val_size=val_size,
            augment=augment,
            workers=min(4, os.cpu_count() or 1),
            seed=seed,
        )
    if image_size is not None:
        check_dataset(name)
        raise ValueError(
            f"image_size is for 'folder:PATH' only, got {image_size} for {name!r}; leave it out."
        )
    if name in LOCAL:
        if val_size is not None:
            raise ValueError(
                f"{name!r} has splits of its own, got val_size {val_size}; leave it out."
            )
        folder = local_folder(name, LOCAL[name].folder, root)
        return LOCAL[name].load(folder, batch_size=batch_size, seed=seed, augment=augment)
    entry = _entry(name)
    train, test = _read(name, entry.files, root)
    return ArrayData(
        name,
        train=train,
        test=test,
        classes=10,
        mean=entry.mean,
        std=entry.std,
        batch_size=batch_size,
        val_size=entry.val_size if val_size is None else val_size,
        crop_padding=entry.crop_padding if augment else 0,
        flip=entry.flip and augment,
        seed=seed,
    )


def check_dataset(name: str) -> None:
    """Raise what `dataset` raises for an unknown name, without reading anything.

    Raises:
        ValueError: There is no such dataset.
    """
    if not name.startswith("folder:") and name not in LOCAL:
        _entry(name)


def local_folder(name: str, folder: str, root: Path | str | None) -> Path:
    """Return where the folder of a dataset is that is not downloaded.

    Raises:
        DataError: It is nowhere.
    """
    for place in _local_folders(root):
        if (place / folder).is_dir():
            return place / folder
    raise DataError(
        f"dataset {name!r} was found neither in root nor in PRUNUS_DATA, and is not downloaded; "
        f"put its files into a folder '{folder}', and give the folder above as root or in "
        "PRUNUS_DATA."
    )


def _entry(name: str) -> DatasetEntry:
    if name not in DATASETS:
        known = (*DATASETS, *LOCAL)
        raise ValueError(
            f"dataset {name!r} is unknown.{did_you_mean(name, known)} Known are "
            f"{', '.join(known)} and 'folder:PATH'."
        )
    return DATASETS[name]


def _read(name: str, files: Files | None, root: Path | str | None) -> tuple[Images, Images]:
    if files is None:
        return read_embedded("train"), read_embedded("test")
    for folder in _local_folders(root):
        if (folder / files.folder).is_dir():
            own = folder / files.folder
            return files.read(own, "train"), files.read(own, "test")
        if (folder / files.torchvision_folder).is_dir():
            return _through_torchvision(files, folder, download=False)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunus"
    try:
        return _through_torchvision(files, cache, download=True)
    except DataError as error:
        raise DataError(
            f"dataset {name!r} was found neither in root nor in PRUNUS_DATA, and {error} Put its "
            f"files into a folder '{files.folder}' or '{files.torchvision_folder}', and give the "
            "folder above as root or in PRUNUS_DATA."
        ) from error


def _through_torchvision(files: Files, folder: Path, *, download: bool) -> tuple[Images, Images]:
    train = read_torchvision(files.torchvision, folder, "train", download=download)
    return train, read_torchvision(files.torchvision, folder, "test", download=download)


def _local_folders(root: Path | str | None) -> Iterator[Path]:
    for source, given in (("root", root), ("PRUNUS_DATA", os.environ.get("PRUNUS_DATA"))):
        if given:
            folder = Path(given).expanduser()
            if not folder.is_dir():
                raise DataError(f"{source} must be a folder of datasets, got {folder}.")
            yield folder
