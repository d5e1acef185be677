"""Text as a stream of numbers: what language models read, cut into windows."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from prunus.errors import DataError
from prunus.training.batches import IGNORED, Split
from prunus.training.data import Metric


class TokenStream:
    """Text whose every token is predicted from those before it.

    For training, the stream is cut into `batch_size` pieces, and batch i holds the next `steps`
    tokens of each, as Zaremba et al. have it. Networks here begin every window with a state of
    zero, where theirs carry it on. For evaluation, windows overlap so that each token is predicted
    once, with at least `steps` tokens before it (at the stream's beginning, copies of token 0).

    Args:
        name: What it is called in messages and checkpoints.
        streams: The tokens of each split, int64 of one dimension; a split may be missing.
        classes: Size of the vocabulary.
        batch_size: Pieces of the training stream, and windows in a batch of evaluation.
        steps: Tokens that a window predicts.

    Raises:
        DataError: There is no text for a batch.
    """

    metric: Metric = "perplexity"

    def __init__(
        self,
        name: str,
        streams: dict[Split, Tensor],
        classes: int,
        *,
        batch_size: int = 20,
        steps: int = 35,
    ) -> None:
        if min(batch_size, steps) < 1:
            raise ValueError(
                f"batch_size and steps must be at least 1, got {batch_size} and {steps}."
            )
        self.name, self.classes, self.batch_size, self.steps = name, classes, batch_size, steps
        self.shape: tuple[int, ...] = (steps,)
        self._streams = streams
        length = len(streams["train"]) // batch_size
        if length < 2:
            raise DataError(
                f"{name} has {len(streams['train'])} training tokens, too few for a batch_size of "
                f"{batch_size}; lower it."
            )
        self._pieces = streams["train"][: length * batch_size].view(batch_size, length)

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in an epoch; the last may be shorter."""
        return -(-(self._pieces.shape[1] - 1) // self.steps)

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield windows, (batch, time), and the tokens that follow; every epoch is the same."""
        last = self._pieces.shape[1] - 1
        for begin in range(start * self.steps, last, self.steps):
            end = min(begin + self.steps, last)
            yield self._pieces[:, begin:end], self._pieces[:, begin + 1 : end + 1]

    def eval_batches(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield windows of twice `steps` tokens, of which the first half is context only."""
        stream = self._streams.get(split, torch.zeros(0, dtype=torch.int64))
        if not len(stream):
            return
        windows = -(-len(stream) // self.steps)
        rest = windows * self.steps - len(stream)
        # One place behind the labels, with the context in front.
        inputs = functional.pad(stream[:-1], (self.steps + 1, rest)).unfold(
            0, 2 * self.steps, self.steps
        )
        labels = functional.pad(stream, (0, rest), value=IGNORED).view(windows, self.steps)
        labels = functional.pad(labels, (self.steps, 0), value=IGNORED)
        size = self.batch_size
        for begin in range(0, windows, size):
            yield inputs[begin : begin + size], labels[begin : begin + size]


def ptb(folder: Path, *, batch_size: int, seed: int, augment: bool) -> TokenStream:
    """Read `folder/ptb.{train,valid,test}.txt.gz`: the Penn Treebank in Mikolov's form.

    929,589 / 73,760 / 82,430 words with the ends of sentences, of 10,000; `seed` and `augment` play
    no part. Word 0 is the end of a sentence, the others are in alphabetical order.

    Raises:
        DataError: A file is missing or damaged.
    """
    files: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
    texts = {
        split: read_text(folder / f"ptb.{file}.txt.gz").replace("\n", " <eos> ").split()
        for split, file in files.items()
    }
    words = ["<eos>", *sorted(set(texts["train"]) - {"<eos>"})]
    streams = {split: numbered(text, words) for split, text in texts.items()}
    return TokenStream("ptb", streams, len(words), batch_size=batch_size)


def numbered(text: Sequence[str], vocabulary: Sequence[str]) -> Tensor:
    """Return the place of each token in the vocabulary, int64; KeyError for one that is not."""
    number = {token: place for place, token in enumerate(vocabulary)}
    return torch.tensor([number[token] for token in text], dtype=torch.int64)


def read_text(path: Path) -> str:
    """Return the text of a gzipped file.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return file.read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {path} ({error}); restore the file, or remove its folder."
        ) from error
