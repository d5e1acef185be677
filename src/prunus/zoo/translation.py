"""Multi30k: sentences with their translations, and how good a translation is."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from prunus.errors import DataError
from prunus.modes import modes_kept
from prunus.training.batches import IGNORED, Split, batch_bounds, generator
from prunus.training.data import Metric
from prunus.zoo.tokens import read_text

PADDING, UNKNOWN, BEGIN, END = range(4)
_MARKS = ("<pad>", "<unk>", "<s>", "</s>")
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")  # noqa: RUF001
_FILES: dict[Split, str] = {"train": "train", "val": "val", "test": "test_2016_flickr"}


@dataclass(frozen=True)
class Vocabulary:
    """Words by number; the first four are padding, unknown, beginning and end.

    Args:
        words: In order of their numbers.
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, sentences: Sequence[str], fewest: int = 2) -> "Vocabulary":
        """Return the words that occur at least so often, the frequent ones first, then by name."""
        counts = Counter(word for sentence in sentences for word in words(sentence))
        known = sorted((w for w in counts if counts[w] >= fewest), key=lambda w: (-counts[w], w))
        return cls((*_MARKS, *known))

    def encode(self, sentences: Sequence[str]) -> list[Tensor]:
        """Return the numbers of each sentence's words with END behind them, int64."""
        number = {word: place for place, word in enumerate(self.words)}
        return [
            torch.tensor([*(number.get(word, UNKNOWN) for word in words(sentence)), END])
            for sentence in sentences
        ]

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the words before the first END, with blanks between them."""
        kept = list(numbers)
        return " ".join(self.words[n] for n in (kept[: kept.index(END)] if END in kept else kept))


def words(sentence: str) -> list[str]:
    """Cut a sentence into lower-case words and punctuation; don't and T-shirt are one word each."""
    return _WORD.findall(sentence.lower())


class TranslationData:
    """Pairs of sentences; the network gets the source and, at each word, the target before it.

    A training batch holds sentences of similar length, in random order. Inputs are the source and
    the target behind BEGIN, labels the target before END; padding is 0, and -100 in the labels.

    Args:
        name: What it is called in messages and checkpoints.
        pairs: Sources and targets of each split; a split may be missing.
        batch_size: Pairs in a batch.
        seed: Of the order.

    Raises:
        DataError: Sources and targets are not equally many, or there are none to train on.
    """

    metric: Metric = "perplexity"

    def __init__(
        self,
        name: str,
        pairs: Mapping[Split, tuple[Sequence[str], Sequence[str]]],
        *,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        for split, (sources, targets) in pairs.items():
            if len(sources) != len(targets) or not sources:
                raise DataError(
                    f"{name} {split} must have as many sources as targets, and some; got "
                    f"{len(sources)} and {len(targets)}."
                )
        self.name, self.batch_size, self.seed = name, batch_size, seed
        self.pairs = pairs
        self.source, self.target = (Vocabulary.of(texts) for texts in pairs["train"])
        self.classes = len(self.target.words)
        self._numbers = {
            split: (self.source.encode(sources), self.target.encode(targets))
            for split, (sources, targets) in pairs.items()
        }
        self.shape: tuple[int, ...] = (max(map(len, self._numbers["train"][0])),)

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in an epoch."""
        return len(batch_bounds(len(self.pairs["train"][0]), self.batch_size))

    def train_batches(
        self, epoch: int, start: int = 0
    ) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Yield an epoch's batches from `start` on; see `prunus.training.Data`."""
        sources, targets = self._numbers["train"]
        random = generator(self.seed, epoch)
        order = torch.randperm(len(sources), generator=random).tolist()
        order.sort(key=lambda k: (len(targets[k]), len(sources[k])))
        bounds = batch_bounds(len(order), self.batch_size)
        for batch in torch.randperm(len(bounds), generator=random).tolist()[start:]:
            begin, end = bounds[batch]
            yield self._batch("train", order[begin:end])

    def eval_batches(self, split: Split) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Yield the pairs of a split in order; see `prunus.training.Data`."""
        count = len(self._numbers[split][0]) if split in self._numbers else 0
        for begin in range(0, count, self.batch_size):
            yield self._batch(split, range(begin, min(begin + self.batch_size, count)))

    def _batch(self, split: Split, chosen: Sequence[int]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        sources, targets = self._numbers[split]
        begin = torch.tensor([BEGIN])
        source = pad_sequence([sources[k] for k in chosen], batch_first=True)
        before = [torch.cat([begin, targets[k][:-1]]) for k in chosen]
        labels = pad_sequence([targets[k] for k in chosen], batch_first=True, padding_value=IGNORED)
        return (source, pad_sequence(before, batch_first=True)), labels


@torch.no_grad()
def translate(
    model: nn.Module, data: TranslationData, split: Split = "test", *, longest: int = 50
) -> list[str]:
    """Translate the sources of a split, always taking the most probable next word.

    Args:
        model: Maps sources and the words written so far to logits (batch, words, time).
        data: Its vocabularies are the model's.
        split: Which sentences.
        longest: Words of a translation at most.
    """
    device = next(model.parameters()).device
    found = []
    with modes_kept(model):
        model.eval()
        for (source, _), _ in data.eval_batches(split):
            source = source.to(device)
            written = torch.full((len(source), 1), BEGIN, device=device)
            while written.shape[1] <= longest and not (written == END).any(1).all():
                following = model(source, written)[..., -1].argmax(1, keepdim=True)
                written = torch.cat([written, following], dim=1)
            found += [data.target.decode(row) for row in written[:, 1:].tolist()]
    return found


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return sacrebleu's corpus BLEU in [0, 100], with its own tokens ("13a") and without case.

    Raises:
        ImportError: sacrebleu is not installed.
    """
    try:
        import sacrebleu
    except ModuleNotFoundError as error:
        raise ImportError("BLEU needs sacrebleu; pip install 'prunus[translation]'.") from error
    return float(sacrebleu.corpus_bleu(hypotheses, [references], lowercase=True).score)


def multi30k(
    source: str, target: str, folder: Path, *, batch_size: int, seed: int, augment: bool
) -> TranslationData:
    """Read `folder/{train,val,test_2016_flickr}.{en,de}.gz`: 29,000, 1,014 and 1,000 pairs.

    Source: Elliott, Frank, Sima'an and Specia, 2016, arXiv:1605.00459, task 1.

    Raises:
        DataError: A file is missing or damaged.
    """

    def read(file: str, language: str) -> list[str]:
        return read_text(folder / f"{file}.{language}.gz").rstrip("\n").split("\n")

    pairs = {split: (read(file, source), read(file, target)) for split, file in _FILES.items()}
    return TranslationData(f"multi30k-{source}-{target}", pairs, batch_size=batch_size, seed=seed)
