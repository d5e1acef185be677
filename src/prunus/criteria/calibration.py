"""The samples that a method looks at, and running a network on them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Any, Literal, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from prunus.names import naming
from prunus.types import Example, call_arguments


def share_right(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share of predictions that are right: of samples, or of pixels in segmentation.

    Args:
        outputs: Scores of the classes, shape (batch, classes, ...).
        targets: Class numbers, shape (batch, ...); -100 does not count.

    Raises:
        ValueError: The classes are not in dimension 1, or the outputs are no tensor.
    """
    shape = tuple(getattr(outputs, "shape", ()))  # some networks return more than a tensor
    wanted = tuple(targets.shape)
    if len(shape) < 2 or shape[:1] + shape[2:] != wanted:
        raise ValueError(
            "the share of right predictions is of outputs (batch, classes, ...) and targets "
            f"(batch, ...), got {shape or type(outputs).__name__} and {wanted}; pass "
            "Calibration(..., metric=...), and loss=, made for such outputs."
        )
    return (outputs.argmax(dim=1) == targets)[targets != -100].float().mean()


class Source(Protocol):
    """A dataset, as far as samples are taken from it; see `prunus.training.Data`."""

    def train_batches(self, epoch: int, /) -> Iterator[Any]: ...  # noqa: D102
    def eval_batches(self, split: Literal["val"], /) -> Iterator[Any]: ...  # noqa: D102


@naming
@dataclass(frozen=True)
class Calibration:
    """Samples that a method looks at beside the weights.

    Where a method looks at some layers only, the network is run no further than to the last of
    them. Forward hooks of your own on what is not reached, or not left, are not called for such a
    batch, with `always_call=True` neither.

    Args:
        batches: Pairs (inputs, targets), as a loader gives them, dicts of inputs whose "labels" are
            the targets, or inputs alone for criteria that need no targets. Read anew by each pass,
            so a list or a loader, not a generator.
        loss: (outputs, targets) -> a scalar, the mean over the samples.
        limit: At most so many batches are read.
        validation: Further pairs, on which methods that try decisions out judge them; by default
            those of `batches`. They must be neither training nor test samples to be an honest
            judge.
        metric: (outputs, targets) -> how good a batch is, in [0, 1]; the share of right
            classifications (of pixels, in segmentation) by default.

    Raises:
        ValueError: The limit is below one.
        TypeError: The batches cannot be read, or only once.
    """

    batches: Iterable[Any]
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    limit: int = 10
    validation: Iterable[Any] | None = None
    metric: Callable[[Any, Any], Tensor] = share_right

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}.")
        for name, batches in (("batches", self.batches), ("validation", self.validation)):
            if batches is None and name == "validation":
                continue
            if not hasattr(batches, "__iter__"):
                way = "pass a list of batches, or a loader"
                if hasattr(batches, "train_batches"):
                    way = "pass Calibration.of(data)"
                raise TypeError(f"{name} must hold batches, got {type(batches).__name__}; {way}.")
            if isinstance(batches, Iterator):
                raise TypeError(
                    f"{name} must be a list or a loader, which can be read several times, got "
                    f"{type(batches).__name__}."
                )

    @classmethod
    def of(cls, data: Source) -> "Calibration":
        """Return the first ten training batches of a dataset, judged on its validation batches."""
        return cls(
            list(islice(data.train_batches(0), 10)),
            validation=list(islice(data.eval_batches("val"), 10)) or None,
        )

    @property
    def most(self) -> int:
        """How many batches a pass reads, at most."""
        return min(self.limit, length_hint(self.batches, self.limit))

    def __iter__(self) -> Iterator[tuple[Example, Any]]:
        """Yield inputs and targets; None for targets that are not there.

        Raises:
            ValueError: A batch has more than two parts.
        """
        for batch in islice(self.batches, self.limit):
            if isinstance(batch, Mapping):
                yield {key: x for key, x in batch.items() if key != "labels"}, batch.get("labels")
            elif isinstance(batch, tuple | list) and len(batch) > 2:
                raise ValueError(
                    f"a batch of the calibration is inputs or a pair (inputs, targets), got "
                    f"{len(batch)} parts; give several inputs as ((a, b), targets), or "
                    "((a, b, c), None) where there are no targets."
                )
            elif isinstance(batch, tuple | list) and len(batch) == 2:
                yield batch[0], batch[1]
            else:
                yield batch, None

    def loss_of(self, outputs: Any, targets: Any) -> Tensor:
        """Return the loss of a batch.

        Raises:
            ValueError: It cannot be taken of such outputs and targets, or is no scalar.
        """
        name = getattr(self.loss, "__name__", type(self.loss).__name__)
        of = f"of outputs {_described(outputs)} and targets {_described(targets)}"
        try:
            loss = self.loss(outputs, targets)
        except Exception as error:
            raise ValueError(
                f"the calibration's loss, {name}, cannot be taken {of}: {error}{_way(outputs)}"
            ) from error
        if not isinstance(loss, Tensor) or loss.ndim:
            raise ValueError(
                f"the calibration's loss must be a scalar tensor, the mean over samples; {name} "
                f"{of} is {_described(loss)}."
            )
        return loss


def forward(model: nn.Module, inputs: Example) -> Any:
    """Return what a network makes of the inputs of a batch of the calibration.

    Raises:
        ValueError: It fails on them.
    """
    args, kwargs = call_arguments(inputs)
    try:
        return model(*args, **kwargs)
    except Exception as error:
        raise ValueError(
            f"the network fails on inputs {_described(inputs)} of the calibration: {error}; give "
            "batches of what the network takes, like its example."
        ) from error


def _described(value: Any) -> str:
    """Return the shapes of tensors, and the type of anything else."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if type(value) in (tuple, list):
        return f"({', '.join(map(_described, value))})"
    if type(value) is dict:
        return f"{{{', '.join(f'{key}: {_described(x)}' for key, x in value.items())}}}"
    return f"of type {type(value).__name__}"


def _way(outputs: Any) -> str:
    """Return how a loss for such outputs may look, to follow what was wrong."""
    classes = ""
    if isinstance(outputs, Tensor) and outputs.ndim > 2:
        classes = "outputs.movedim(-1, 1)"
    elif isinstance(getattr(outputs, "logits", None), Tensor):
        classes = "outputs.logits.movedim(-1, 1)"
    if not classes:
        return "; pass Calibration(batches, loss=...) made for them."
    return (
        "; pass Calibration(batches, loss=...) made for them: where the classes are last, lambda "
        f"outputs, targets: F.cross_entropy({classes}, targets)."
    )
