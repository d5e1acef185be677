"""Folders of image files, one folder per class."""

from collections.abc import Iterator, Sequence
from copy import copy
from multiprocessing import current_process
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader

from prunus.errors import DataError
from prunus.seeds import seeded
from prunus.training.batches import Split, batch_bounds, generator, normalise


class FolderData:
    """Images in `train/CLASS/`, `test/CLASS/` and perhaps `val/CLASS/`, read as they are needed.

    Without `val/`, or with `val/` but no `test/` (ImageNet's layout, whose `val/` is what papers
    report and therefore serves as the test split), validation images are held out from `train/`.
    Training images get a random resized crop and are mirrored at random; the others are resized and
    cropped in the middle.

    Args:
        root: The folder with `train/`.
        image_size: Height and width in pixels of what the network sees.
        batch_size: Images in a batch.
        val_size: Images held out from `train/`; None for a tenth of them. Not with a `val/` of its
            own.
        mean: Per channel, subtracted from pixels in [0, 1].
        std: Per channel, by which they are then divided.
        augment: Whether training images are augmented.
        workers: Processes that read images; 0 reads in this one, as a process does that may start
            none itself, such as a study's worker.
        seed: Of the validation split, the order and the augmentation.

    Attributes:
        class_names: Of the class folders, in the order of the labels. A class without images has an
            empty folder.

    Raises:
        DataError: A folder is missing or empty, or the splits have different classes.
        ValueError: Another argument is out of range.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        image_size: int = 224,
        batch_size: int = 128,
        val_size: int | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        augment: bool = True,
        workers: int = 4,
        seed: int = 0,
    ) -> None:
        if min(image_size, batch_size) < 1 or min(workers, seed) < 0:
            raise ValueError(
                "image_size and batch_size must be at least 1, workers and seed at least 0, got "
                f"{image_size}, {batch_size}, {workers} and {seed}."
            )
        root = Path(root)
        self.metric: Literal["accuracy"] = "accuracy"
        self.name = root.name
        self.shape: tuple[int, ...] = (3, image_size, image_size)
        self.batch_size = batch_size
        self._mean, self._std, self._workers, self._seed = mean, std, workers, seed
        found = {name: _image_folder(root / name) for name in ("train", "val", "test")}
        train, test = found["train"], found["test"] or found["val"]
        if train is None or test is None:
            raise DataError(
                f"{root} must have a folder 'train' and a folder 'test' or 'val', each with one "
                "folder of images per class."
            )
        if any(part and part.classes != train.classes for part in found.values()):
            raise DataError(f"{root}: every split must have the same class folders as 'train'.")
        self.class_names = tuple(train.classes)
        self.classes = len(train.classes)
        self._samples: dict[Split, list[tuple[str, int]]] = {"test": test.samples}
        if found["val"] and found["test"]:
            if val_size is not None:
                raise ValueError(f"{root} has a folder 'val' of its own; leave val_size out.")
            self._samples |= {"train": train.samples, "val": found["val"].samples}
        else:
            self._hold_out(train.samples, val_size)
        middle = [transforms.Resize(round(image_size * 8 / 7)), transforms.CenterCrop(image_size)]
        random = [transforms.RandomResizedCrop(image_size), transforms.RandomHorizontalFlip()]
        self._to_eval = transforms.Compose([*middle, transforms.PILToTensor()])
        self._to_train = transforms.Compose(
            [*(random if augment else middle), transforms.PILToTensor()]
        )

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in an epoch."""
        return len(batch_bounds(len(self._samples["train"]), self.batch_size))

    @property
    def train_labels(self) -> Tensor:
        """Labels of the training images, (count,)."""
        return torch.tensor([label for _, label in self._samples["train"]])

    def with_training(self, chosen: Tensor, *, name: str) -> "FolderData":
        """Return data with fewer training images, and the same validation and test splits.

        Args:
            chosen: Places of the images in `train_labels`, in any order.
            name: What the new data are called.

        Raises:
            DataError: No images are chosen.
        """
        if not len(chosen):
            raise DataError(f"{name} has no training images; choose some.")
        other, train = copy(self), self._samples["train"]
        other.name = name
        other._samples = self._samples | {"train": [train[k] for k in chosen.sort().values]}
        return other

    def holding_out(self, share: float) -> "FolderData":
        """Return data with a share of the training images, at random, as the validation split.

        Args:
            share: In [0, 1), rounded down to whole images.
        """
        other, train = copy(self), self._samples["train"]
        other._samples = dict(self._samples)
        other._hold_out(train, int(share * len(train)))
        return other

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's batches from `start` on; see `Data`."""
        samples = self._samples["train"]
        random = generator(self._seed, epoch)
        order = torch.randperm(len(samples), generator=random).tolist()
        seeds = torch.randint(2**62, (len(samples),), generator=random).tolist()
        keys = list(zip(order, seeds, strict=True))
        bounds = batch_bounds(len(samples), self.batch_size)[start:]
        yield from self._read(samples, self._to_train, [keys[begin:end] for begin, end in bounds])

    def eval_batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images of a split in order; see `Data`."""
        samples = self._samples[split]
        keys = [(index, 0) for index in range(len(samples))]
        size = self.batch_size
        yield from self._read(
            samples, self._to_eval, [keys[i : i + size] for i in range(0, len(keys), size)]
        )

    def _read(
        self,
        samples: list[tuple[str, int]],
        transform: transforms.Compose,
        batches: list[list[tuple[int, int]]],
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if not batches:
            return
        loader = DataLoader(
            _Images(samples, transform),
            batch_sampler=batches,
            num_workers=0 if current_process().daemon else self._workers,
            # Its own generator, or the loader would draw from the global random state.
            generator=torch.Generator(),
        )
        for images, labels in loader:
            yield normalise(images.permute(0, 2, 3, 1).contiguous(), self._mean, self._std), labels

    def _hold_out(self, samples: list[tuple[str, int]], val_size: int | None) -> None:
        size = len(samples) // 10 if val_size is None else val_size
        if not 0 <= size < len(samples):
            raise ValueError(
                f"val_size must be at least 0 and below the {len(samples)} training images of "
                f"{self.name}, got {size}."
            )
        order = torch.randperm(len(samples), generator=generator(self._seed)).tolist()
        self._samples["val"] = [samples[index] for index in sorted(order[:size])]
        self._samples["train"] = [samples[index] for index in sorted(order[size:])]


class _Images(Dataset[tuple[Tensor, int]]):
    """Reads and transforms one image, given its index and the seed of its augmentation."""

    def __init__(self, samples: list[tuple[str, int]], transform: transforms.Compose) -> None:
        self._samples = samples
        self._transform = transform

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = key
        path, label = self._samples[index]
        try:
            image = default_loader(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read as an image ({error}); remove it.") from error
        # The transforms draw from the global random state only.
        with seeded(seed):
            return self._transform(image), label


def _image_folder(folder: Path) -> ImageFolder | None:
    if not folder.is_dir():
        return None
    try:
        found = ImageFolder(folder, allow_empty=True)
    except FileNotFoundError as error:
        raise DataError(f"{folder} must have one folder of images per class ({error}).") from error
    full = {found.classes[label] for _, label in found.samples}
    for name in found.classes:  # one that is empty says that its class is known, but not seen here
        if name not in full and any(path.is_file() for path in (folder / name).rglob("*")):
            raise DataError(
                f"{folder / name} holds files, but no image of a known format; remove it, or leave "
                "it empty where there are none of its class."
            )
    if not full:
        raise DataError(f"{folder} must have one folder of images per class, got no image.")
    return found
