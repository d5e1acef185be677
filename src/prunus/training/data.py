"""What the loop asks of a dataset, and samples held in memory."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import InitVar, dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from prunus.errors import DataError
from prunus.training.batches import (
    IGNORED,
    Split,
    batch_bounds,
    crop_and_flip,
    generator,
    normalise,
)
from prunus.training.folder import FolderData
from prunus.types import Example

__all__ = ["ArrayData", "Data", "FolderData", "Metric", "Split"]

Metric = Literal["accuracy", "mean_iou", "perplexity"]
"""What decides which weights are best."""


class Data(Protocol):
    """What the loop needs of a dataset.

    Attributes:
        name: What it is called in messages and checkpoints.
        classes: Number of classes; labels are in [0, classes), or -100 where they do not count.
        metric: What decides which weights are best.
        shape: One sample's shape, such as (channels, height, width).
        batch_size: Samples in a training batch.
        steps_per_epoch: Training batches in an epoch.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102
    @property
    def metric(self) -> Metric: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def steps_per_epoch(self) -> int: ...  # noqa: D102

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Example, Tensor]]:
        """Yield the shuffled, augmented batches of an epoch, from batch `start` on.

        Batch i is a pure function of (the dataset's seed, epoch, i), which lets a run resume in the
        middle of an epoch. The global random state is neither read nor changed.

        Yields:
            Inputs, float32 (batch, *shape) or another thing that a model takes, and labels, int64:
            (batch,), or (batch, height, width) for pixels and (batch, time) for text.
        """
        ...

    def eval_batches(self, split: Split) -> Iterator[tuple[Example, Tensor]]:
        """Yield every sample of a split once, in order and without augmentation.

        Yields:
            As `train_batches`; nothing for a split that the dataset does not have.
        """
        ...


@dataclass(eq=False)
class ArrayData:
    """Samples held in memory, with vectorised augmentation.

    Args:
        name: What it is called in messages and checkpoints.
        train: Samples (count, channels, height, width) or (count, features), uint8 (then divided by
            255) or floating; and integer labels (count,), or (count, height, width) with -100 for
            pixels that do not count.
        test: As `train`; never used to train or to choose anything.
        classes: Number of classes.
        mean: Per channel, or one for all; subtracted from the samples.
        std: Per channel, or one for all; the samples are divided by it afterwards.
        batch_size: Samples in a batch.
        val_size: Training samples held out for validation, chosen by a shuffle seeded with `seed`.
        crop_padding: Pixels of zeros added at each side before a random crop to the old size.
        flip: Mirror half of the training images left to right, at random.
        seed: Of the validation split, the order and the augmentation.
        val: As `train`: a validation split of its own, instead of `val_size`.

    Raises:
        DataError: Samples are missing or inconsistent, or a label is out of range.
        ValueError: Another argument is out of range.
    """

    name: str
    train: InitVar[tuple[Tensor, Tensor]]
    test: InitVar[tuple[Tensor, Tensor]]
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    batch_size: int = 128
    val_size: int = 0
    crop_padding: int = 0
    flip: bool = False
    seed: int = 0
    val: InitVar[tuple[Tensor, Tensor] | None] = None
    metric: Metric = field(init=False)
    shape: tuple[int, ...] = field(init=False)
    _samples: dict[Split, tuple[Tensor, Tensor]] = field(init=False, repr=False)
    _members: dict[Split, Tensor] = field(init=False, repr=False)

    def __post_init__(
        self,
        train: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        val: tuple[Tensor, Tensor] | None,
    ) -> None:
        given: dict[Split, tuple[Tensor, Tensor]] = {"train": train, "test": test}
        if val is not None:
            given["val"] = val
        for split, (samples, labels) in given.items():
            _check_samples(f"{self.name} {split}", samples, labels, self.classes)
            if train[0].shape[1:] != samples.shape[1:] or train[0].dtype != samples.dtype:
                raise DataError(
                    f"{self.name}: train and {split} samples must have one shape and type, got "
                    f"{tuple(train[0].shape[1:])} {train[0].dtype} and "
                    f"{tuple(samples.shape[1:])} {samples.dtype}."
                )
        self.metric = "accuracy" if train[1].ndim == 1 else "mean_iou"
        self.shape = tuple(train[0].shape[1:])
        self._check_settings(len(train[0]))
        if val is not None and self.val_size:
            raise ValueError(
                f"{self.name} has validation samples of its own; leave val_size out, got "
                f"{self.val_size}."
            )
        order = torch.randperm(len(train[0]), generator=generator(self.seed))
        self._members = {split: torch.arange(len(labels)) for split, (_, labels) in given.items()}
        self._samples = {split: (_channels_inside(x), y.long()) for split, (x, y) in given.items()}
        if val is None:
            self._members["train"] = order[self.val_size :].sort().values
            self._members["val"] = order[: self.val_size].sort().values
            self._samples["val"] = self._samples["train"]

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in an epoch."""
        return len(batch_bounds(len(self._members["train"]), self.batch_size))

    @property
    def train_labels(self) -> Tensor:
        """Labels of the training samples, without the validation split, (count,)."""
        return self._samples["train"][1][self._members["train"]]

    def with_training(
        self, chosen: Tensor, *, name: str, labels: Tensor | None = None
    ) -> "ArrayData":
        """Return data with fewer training samples, and the same validation and test splits.

        Args:
            chosen: Places of the samples in `train_labels`, in any order.
            name: What the new data are called.
            labels: What each class is called there, in all splits: int64 (classes,); None for the
                same labels.

        Raises:
            DataError: No samples are chosen.
        """
        if not len(chosen):
            raise DataError(f"{name} has no training samples; choose some.")
        other = copy(self)
        other.name = name
        other._members = self._members | {"train": self._members["train"][chosen.sort().values]}
        if labels is not None:
            other.classes = int(labels.max()) + 1
            other._samples = {
                split: (samples, labels[old]) for split, (samples, old) in self._samples.items()
            }
        return other

    def holding_out(self, share: float) -> "ArrayData":
        """Return data with a share of the training samples, at random, as the validation split.

        Args:
            share: In [0, 1), rounded down to whole samples.
        """
        members = self._members["train"]
        order = members[torch.randperm(len(members), generator=generator(self.seed))]
        count = int(share * len(members))
        other = copy(self)
        other._members = self._members | {
            "train": order[count:].sort().values,
            "val": order[:count].sort().values,
        }
        other._samples = self._samples | {"val": self._samples["train"]}
        return other

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's batches from `start` on; see `Data`."""
        samples, labels = self._samples["train"]
        members = self._members["train"]
        order = torch.randperm(len(members), generator=generator(self.seed, epoch))
        bounds = batch_bounds(len(members), self.batch_size)
        for batch, (begin, end) in enumerate(bounds[start:], start):
            chosen = members[order[begin:end]]
            images, wanted = samples.index_select(0, chosen), labels[chosen]
            if self.crop_padding or self.flip:
                random = generator(self.seed, epoch, batch)
                images = crop_and_flip(images, self.crop_padding, self.flip, random)
            if self.flip and wanted.ndim == 3:
                # From the same random numbers, so that the labels stay with their pixels.
                random = generator(self.seed, epoch, batch)
                wanted = crop_and_flip(wanted.unsqueeze(3), 0, True, random).squeeze(3)
            yield normalise(images, self.mean, self.std), wanted

    def eval_batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the samples of a split in order; see `Data`."""
        samples, labels = self._samples[split]
        members = self._members[split]
        for begin in range(0, len(members), self.batch_size):
            chosen = members[begin : begin + self.batch_size]
            images = samples.index_select(0, chosen)
            yield normalise(images, self.mean, self.std), labels[chosen]

    def _check_settings(self, count: int) -> None:
        channels = self.shape[0] if len(self.shape) == 3 else 1
        for name, values in {"mean": self.mean, "std": self.std}.items():
            if len(values) not in {1, channels}:
                raise ValueError(
                    f"{name} must have 1 or {channels} values for samples of shape {self.shape}, "
                    f"got {len(values)}."
                )
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {tuple(self.std)}.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}.")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}.")
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding must be at least 0, got {self.crop_padding}.")
        if (self.crop_padding or self.flip) and len(self.shape) != 3:
            raise ValueError(
                "crop_padding and flip need samples of shape (channels, height, width), got "
                f"{self.shape}; leave them out."
            )
        if self.crop_padding and self.metric == "mean_iou":
            raise ValueError(
                f"crop_padding is for images with one label each, got {self.crop_padding}; leave "
                "it out."
            )
        if not 0 <= self.val_size < count:
            raise ValueError(
                f"val_size must be at least 0 and below the {count} training samples of "
                f"{self.name}, got {self.val_size}."
            )


def _check_samples(name: str, samples: Tensor, labels: Tensor, classes: int) -> None:
    if samples.ndim not in {2, 4}:
        raise DataError(
            f"{name} samples must have shape (count, channels, height, width) or (count, features),"
            f" got {tuple(samples.shape)}; grey images need a channel: samples.unsqueeze(1)."
        )
    if samples.dtype != torch.uint8 and not samples.is_floating_point():
        raise DataError(f"{name} samples must be uint8 or floating, got {samples.dtype}.")
    pixels = samples.shape[:1] + samples.shape[2:]
    if labels.is_floating_point() or labels.shape not in (samples.shape[:1], pixels):
        raise DataError(
            f"{name} must have one integer label for each of its {len(samples)} samples, or for "
            f"each of their pixels, got {labels.dtype} of shape {tuple(labels.shape)}."
        )
    if not len(samples):
        raise DataError(f"{name} has no samples.")
    known = labels[labels != IGNORED]
    low, high = (int(known.min()), int(known.max())) if len(known) else (0, 0)
    if low < 0 or high >= classes:
        raise DataError(f"{name} labels must be in [0, {classes}), got {low} to {high}.")


def _channels_inside(samples: Tensor) -> Tensor:
    return samples.permute(0, 2, 3, 1).contiguous() if samples.ndim == 4 else samples.contiguous()
