"""What a sink is, and what it is told.

A sink is always given all there is to log so far, and sends what it does not have: a run that was
stopped goes on without a point logged twice, and one that went on without the sink is completed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from prunus.files import read_json, write_json


@dataclass(frozen=True)
class Tracked:
    """What is logged as one run.

    Args:
        group: What it is to be compared within: an experiment of MLflow, a folder of TensorBoard.
        name: What it is called there.
        key: Its own; what is logged under the same key goes on where it was.
        parameters: What it is made with: name -> value.
    """

    group: str
    name: str
    key: str
    parameters: Mapping[str, Any]


class Session(Protocol):
    """One run in a sink. Anything may raise; the caller sees to it."""

    def curve(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Log a training, of which these are all records so far, each with its "step"."""
        ...

    def figures(self, values: Mapping[str, float]) -> None:
        """Log what the run found in the end."""
        ...

    def report(self, page: Path) -> None:
        """Keep the run's report."""
        ...

    def close(self, *, done: bool) -> None:
        """End for now; `done` says whether the run came to its end."""
        ...


class Sink(Protocol):
    """Where runs are logged."""

    @property
    def title(self) -> str:
        """What it is called."""
        ...

    def open(self, tracked: Tracked) -> Session:
        """Begin a run, or go on with it."""
        ...


@dataclass(frozen=True)
class Point:
    """One number.

    Args:
        key: Names it: "dense/val_accuracy".
        step: The optimizer step after which it was measured; 0 for what has none.
        value: The number.
    """

    key: str
    step: int
    value: float


def points(name: str, records: Sequence[Mapping[str, Any]]) -> Iterator[Point]:
    """Yield the numbers of a training, record by record; what was not measured is left out."""
    for record in records:
        for key, value in record.items():
            if key != "step" and value is not None:
                yield Point(plain(f"{name}/{key}"), record["step"], float(value))


def finals(values: Mapping[str, float]) -> list[Point]:
    """Return what a run found in the end as points."""
    return [Point(plain(f"final/{name}"), 0, float(value)) for name, value in values.items()]


def plain(name: str) -> str:
    """Return a name in the characters that every sink takes: "scratch-B, 2x" has others."""
    return re.sub(r"[^\w./-]+", "_", name)


def identity(directory: Path, inputs: str) -> str:
    """Return the key of the run in a directory: drawn once, and anew where its inputs have changed.

    Args:
        directory: The run's own; the key is kept in its `tracking.json`.
        inputs: Stands for all that goes into the run.

    Raises:
        OSError: The directory cannot be written.
    """
    path = directory / "tracking.json"
    if path.exists():
        known: dict[str, str] = read_json(path)
        if known["inputs"] == inputs:
            return known["key"]
    key = uuid4().hex
    write_json(path, {"key": key, "inputs": inputs})
    return key
