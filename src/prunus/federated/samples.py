"""A client's data as its training and its first pruning see them."""

from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from prunus.training import ArrayData, Data
from prunus.training.data import Metric, Split
from prunus.types import Example


def sample_count(data: Data) -> int:
    """Return how many training samples there are; where that is not known, in whole batches."""
    if isinstance(data, ArrayData):
        return len(data.train_labels)
    return data.steps_per_epoch * data.batch_size


class OnlyTraining:
    """Data without their other splits, so that training does not look at them.

    Args:
        data: All of them.

    Attributes:
        seen: Samples that were trained on.
    """

    def __init__(self, data: Data) -> None:
        self._data, self.seen = data, 0
        self.name, self.classes, self.shape = data.name, data.classes, data.shape
        self.metric: Metric = data.metric
        self.batch_size, self.steps_per_epoch = data.batch_size, data.steps_per_epoch

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Example, Tensor]]:
        """Yield the batches of an epoch; see `Data`."""
        for inputs, labels in self._data.train_batches(epoch, start):
            self.seen += len(labels)
            yield inputs, labels

    def eval_batches(self, split: Split) -> Iterator[tuple[Example, Tensor]]:
        """Yield nothing."""
        return iter(())


class FirstBatches(OnlyTraining):
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
