"""A client's data as its training and its first pruning see them."""

from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from prunus.training import ArrayData, Data, FolderData
from prunus.training.data import Metric, Split
from prunus.types import Example

SEPARATOR = "/"
"""Between the names of classes, which are those of folders."""


def described(data: Data) -> dict[str, int | str]:
    """Return what a client says of its data: their number, and their classes if they have names."""
    names = getattr(data, "class_names", ())
    classes = {"classes": SEPARATOR.join(names)} if names else {}
    return {"samples": sample_count(data), **classes}


def sample_count(data: Data) -> int:
    """Return how many training samples there are; where that is not known, in whole batches."""
    if isinstance(data, ArrayData | FolderData):
        return len(data.train_labels)
    return data.steps_per_epoch * data.batch_size


class Part:
    """Data of which a part is left out.

    Args:
        data: All of them.
    """

    def __init__(self, data: Data) -> None:
        self._data = data
        self.name, self.classes, self.shape = data.name, data.classes, data.shape
        self.metric: Metric = data.metric
        self.batch_size, self.steps_per_epoch = data.batch_size, data.steps_per_epoch

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Example, Tensor]]:
        """Yield the batches of an epoch; see `Data`."""
        return self._data.train_batches(epoch, start)

    def eval_batches(self, split: Split) -> Iterator[tuple[Example, Tensor]]:
        """Yield the batches of a split; see `Data`."""
        return self._data.eval_batches(split)


class Thinned(Part):
    """Data with few of their evaluation batches.

    Args:
        data: All of them.
        one_in: The first of every so many batches is there.
    """

    def __init__(self, data: Data, one_in: int) -> None:
        super().__init__(data)
        self._one_in = one_in

    def eval_batches(self, split: Split) -> Iterator[tuple[Example, Tensor]]:
        """Yield some of the batches of a split."""
        return islice(super().eval_batches(split), 0, None, self._one_in)


class OnlyTraining(Part):
    """Data without their other splits, so that training does not look at them.

    Args:
        data: All of them.

    Attributes:
        seen: Samples that were trained on.
    """

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self.seen = 0

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Example, Tensor]]:
        """Yield the batches of an epoch; see `Data`."""
        for inputs, labels in super().train_batches(epoch, start):
            self.seen += len(labels)
            yield inputs, labels

    def eval_batches(self, split: Split) -> Iterator[tuple[Example, Tensor]]:
        """Yield nothing."""
        return iter(())


class FirstBatches(Part):
    """The first training batches, in every epoch the same.

    Args:
        data: All of them.
        count: At most so many batches.
    """

    def __init__(self, data: Data, count: int) -> None:
        super().__init__(data)
        self._batches = list(islice(data.train_batches(0), count))
        self.steps_per_epoch = len(self._batches)

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Example, Tensor]]:
        """Yield the batches from `start` on."""
        return iter(self._batches[start:])

    def eval_batches(self, split: Split) -> Iterator[tuple[Example, Tensor]]:
        """Yield the batches; no split but "train" has any."""
        return iter(self._batches if split == "train" else ())
