"""How good a network is: one measurement for classes of images, of pixels and of words."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunus.errors import DataError
from prunus.modes import modes_kept
from prunus.training.batches import IGNORED, Split
from prunus.training.data import Data
from prunus.training.placement import answer, moved

_UNTOLD = 300  # nats; squares of perplexities beyond it are no floats


@dataclass(frozen=True)
class Metrics:
    """What an evaluation found.

    Args:
        loss: Mean cross-entropy per label, in nats.
        accuracy: Share of labels predicted rightly, in [0, 1]; of all pixels together, this is
            called global accuracy.
        count: Labels: one per image, pixel or word.
        mean_iou: For data with that metric, the mean over the classes of intersection / union of
            the pixels predicted and labelled so, in [0, 1]; None for others.
    """

    loss: float
    accuracy: float
    count: int
    mean_iou: float | None = None

    @property
    def perplexity(self) -> float | None:
        """The exponential of the loss: among how many words, equally likely, it would be unsure.

        None for a loss of 300 on, where the spread of such values can no longer be computed.
        """
        return math.exp(self.loss) if self.loss < _UNTOLD else None

    def named(self, metric: str) -> dict[str, Any]:
        """Return loss, accuracy and the data's own metric by name."""
        return {"loss": self.loss, "accuracy": self.accuracy, metric: getattr(self, metric)}


@torch.no_grad()
def evaluate(model: nn.Module, data: Data, split: Split = "test") -> Metrics:
    """Evaluate a model, in evaluation mode, on the device where it is.

    Every submodule is put back into the mode it was in. Labels of -100 do not count.

    Raises:
        DataError: The split has no samples.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    loss, right, count = 0.0, 0, 0
    confusion = torch.zeros((), dtype=torch.int64, device=device)
    with modes_kept(model):
        model.eval()
        for inputs, labels in data.eval_batches(split):
            labels = labels.to(device)
            outputs = answer(model, moved(inputs, device)).float()
            predicted = outputs.argmax(1)
            loss += float(functional.cross_entropy(outputs, labels, reduction="sum"))
            right += int((predicted == labels).sum())
            count += int((labels != IGNORED).sum())
            if data.metric == "mean_iou":
                confusion = confusion + confusion_matrix(predicted, labels, data.classes)
    if not count:
        raise DataError(f"{data.name} has no {split} samples; give it a {split} split.")
    iou = mean_iou(confusion) if data.metric == "mean_iou" else None
    return Metrics(loss / count, right / count, count, iou)


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count how often each class (row) was taken for each class (column), int64."""
    known = labels != IGNORED
    pairs = labels[known] * classes + predicted[known]
    return pairs.bincount(minlength=classes**2).view(classes, classes)


def mean_iou(confusion: Tensor) -> float:
    """Return the mean of intersection / union over the classes that occur or are predicted."""
    both = confusion.diagonal().double()
    either = confusion.sum(0) + confusion.sum(1) - both
    return float((both / either)[either > 0].mean())
