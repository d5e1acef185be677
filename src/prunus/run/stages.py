"""Stages: work that is done once and found done ever after."""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunus.files import read_json, write_json
from prunus.recipe import digest

Announce = Callable[[str, Mapping[str, Any], float | None], None]
"""Called with a stage's name, its result and its seconds; None where an earlier run had done it."""


@dataclass(frozen=True)
class Done:
    """A finished stage.

    Args:
        directory: Where its files lie.
        key: Stands for all that went into it, for the stages that build on it.
        result: What it found, as JSON can write it.
    """

    directory: Path
    key: str
    result: Mapping[str, Any]


def stage(
    directory: Path,
    inputs: Mapping[str, Any],
    compute: Callable[[Path], dict[str, Any]],
    announce: Announce,
) -> Done:
    """Do a stage, or find it done.

    `inputs.json` is written before anything else and `result.json` after everything else, each
    atomically: the second is there exactly when the stage's files are whole. A directory left by
    other inputs is emptied; one left half-done by the same inputs is given to `compute` as it
    stands, so that training goes on from its last checkpoint.

    Args:
        directory: The stage's own; its name is the stage's.
        inputs: All that the result depends on, as JSON can write it.
        compute: Fills the directory and returns the result, as JSON can write it.
        announce: Told when the stage is done.

    Raises:
        CheckpointError: A JSON file in the directory is damaged.
        OSError: The directory cannot be written.
    """
    with _alone(directory):
        return _stage(directory, inputs, compute, announce)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait until no other process works on the stage: recipes share their dense network."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stage(
    directory: Path,
    inputs: Mapping[str, Any],
    compute: Callable[[Path], dict[str, Any]],
    announce: Announce,
) -> Done:
    begun = directory / "inputs.json"
    if not begun.exists() or digest(read_json(begun)) != digest(inputs):
        if directory.exists():
            shutil.rmtree(directory)
        write_json(begun, inputs)
    seconds = None
    if (done := recall(directory, inputs)) is None:
        start = time.perf_counter()
        result = compute(directory)
        write_json(directory / "result.json", result)
        seconds = time.perf_counter() - start
        done = Done(directory, digest(inputs), read_json(directory / "result.json"))
    sweep(directory)
    announce(directory.name, done.result, seconds)
    return done


def recall(directory: Path, inputs: Mapping[str, Any]) -> Done | None:
    """Return a stage if it is done with these inputs.

    Raises:
        CheckpointError: A JSON file in the directory is damaged.
    """
    begun, ended = directory / "inputs.json", directory / "result.json"
    if not ended.exists() or digest(read_json(begun)) != digest(inputs):
        return None
    return Done(directory, digest(inputs), read_json(ended))


def sweep(directory: Path) -> None:
    """Delete training checkpoints, and what a killed process was writing."""
    for pattern in ("*.checkpoint.safetensors", ".*.tmp"):
        for spent in directory.glob(pattern):
            spent.unlink()
