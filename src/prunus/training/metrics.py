"""The records of a run, and the average training loss."""

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from prunus.errors import CheckpointError, TrainingError
from prunus.training.data import Metric

Record: TypeAlias = dict[str, Any]
"""One evaluation: step, epoch, train_loss, val_loss, val_accuracy (None without a split), lr; and
val_mean_iou or val_perplexity for data with that metric."""


def best_record(records: list[Record], metric: Metric = "accuracy") -> Record | None:
    """Return the first record with the best value of the metric, then the lowest val_loss, if any.

    The best accuracy or mean IoU is the highest, the best perplexity the lowest.
    """
    sign = 1 if metric == "perplexity" else -1
    known = [record for record in records if record[f"val_{metric}"] is not None]
    return min(known, key=lambda r: (sign * r[f"val_{metric}"], r["val_loss"]), default=None)


def early_stop(records: Sequence[Record]) -> Record | None:
    """Return the first record with the lowest val_loss, if any has one.

    Its step is the early-stop iteration, by which Frankle and Carbin, ICLR 2019, arXiv:1803.03635,
    section 2, say how fast a network learns: found afterwards, in a run of full length.
    """
    known = [record for record in records if record["val_loss"] is not None]
    return min(known, key=lambda record: record["val_loss"], default=None)


def trainings(records: Sequence[Record], begins: Sequence[tuple[int, int]]) -> list[list[Record]]:
    """Tell apart the trainings of a run whose hook rewinds.

    Args:
        records: Of the whole run.
        begins: For each training, the steps made before it and the step of the schedule at which it
            begins, as `Rewinding.begins` returns them.

    Returns:
        For each training its records, with the step of the schedule in place of the run's.
    """
    found: list[list[Record]] = [[] for _ in begins]
    for record in records:
        number = max(sum(record["step"] > made for made, _ in begins) - 1, 0)
        made, begin = begins[number]
        found[number].append(record | {"step": record["step"] - made + begin})
    return found


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append a JSON line to a file.

    Raises:
        CheckpointError: The disk is full or the file is read-only.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}). The last checkpoint, if any, is intact: make "
            "room or make the file writable, then run again to continue."
        ) from error


class RecordLog:
    """The records of a run, kept in memory and, given a path, as JSON lines.

    Args:
        path: The file; None keeps the records in memory only.
        watch: Given all records after each new one.
    """

    def __init__(
        self, path: Path | None, watch: Callable[[Sequence[Record]], None] | None = None
    ) -> None:
        self.records: list[Record] = []
        self._path = path
        self._watch = watch

    def append(self, record: Record) -> None:
        """Add a record; raises as `append_line`."""
        self.records.append(record)
        if self._path is not None:
            append_line(self._path, record)
        if self._watch is not None:
            self._watch(self.records)

    def secure(self) -> int:
        """Flush the file to the disk and return its length in bytes."""
        if self._path is None or not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def restore(self, length: int) -> None:
        """Keep only the first `length` bytes: those that a checkpoint knows of.

        Raises:
            CheckpointError: The file is shorter.
        """
        if self._path is None:
            return
        with self._path.open("a+b") as file:
            if file.tell() < length:
                raise CheckpointError(
                    f"{self._path} has {file.tell()} bytes, the checkpoint beside it knows of "
                    f"{length}; put the file back, or delete the checkpoint to start afresh."
                )
            file.truncate(length)
            file.seek(0)
            self.records = [json.loads(line) for line in file.read().splitlines()]


class LossMeter:
    """Mean of the training loss since the last evaluation; refuses a loss that is not finite.

    Reading a loss waits for the device. It is done at each step on the CPU, where it costs nothing
    and stops before the weights are touched, and for many steps at once elsewhere.

    Args:
        device: Where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self.sum = 0.0
        self.count = 0
        self._pending: list[tuple[int, float, Tensor, Tensor]] = []
        self._interval = 1 if device.type == "cpu" else 50

    def add(self, step: int, lr: float, loss: Tensor, objective: Tensor) -> None:
        """Take in one step.

        Args:
            step: Its number, from 1.
            lr: Its learning rate.
            loss: The mean loss of the batch, what the mean is made of.
            objective: The loss with any penalty, what must be finite.

        Raises:
            TrainingError: This or an earlier objective is not finite.
        """
        own = loss.detach()
        self._pending.append((step, lr, own, own if objective is loss else objective.detach()))
        if len(self._pending) >= self._interval:
            self.read()

    def read(self) -> None:
        """Wait for all losses and check them; raises as `add`."""
        pending, self._pending = self._pending, []
        for step, lr, loss, objective in pending:
            value = float(objective)
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss is {value} at step {step}, with learning rate {lr:g}; lower the "
                    "learning rate, lengthen the warm-up or set clip_norm. The last checkpoint is "
                    "intact."
                )
            self.sum += value if loss is objective else float(loss)
            self.count += 1

    def mean(self) -> float:
        """Return the mean since the last call, and begin anew."""
        self.read()
        mean = self.sum / self.count
        self.sum, self.count = 0.0, 0
        return mean
