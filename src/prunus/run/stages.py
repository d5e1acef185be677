"""Stages: work that is done once and found done ever after."""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from prunus.files import read_json, write_json
from prunus.ranks import first, from_first
from prunus.recipe import digest

_AGAIN = 0.1  # seconds between two looks at a lock that another process holds

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

    Of several ranks, all compute, and the first one does the rest.

    Args:
        directory: The stage's own; its name is the stage's.
        inputs: All that the result depends on, as JSON can write it.
        compute: Fills the directory and returns the result, as JSON can write it.
        announce: Told when the stage is done.

    Raises:
        CheckpointError: A JSON file in the directory is damaged.
        OSError: The directory cannot be written.
        RankError: Either of them on the first rank, where this is another.
    """
    with _alone(directory):
        seconds = None
        done = from_first(partial(_begin, directory, inputs))
        if done is None:
            start = time.perf_counter()
            result = compute(directory)
            done = from_first(partial(_end, directory, inputs, result))
            seconds = time.perf_counter() - start
    if first():
        announce(directory.name, done.result, seconds)
    return done


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait until no other process works on the stage: recipes share their dense network."""
    with ExitStack() as held:
        if first():
            directory.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((directory.parent / f".{directory.name}.lock").open("w"))
        # Asked again and again, since ranks do not wait for one another for ever.
        while not from_first(lambda: _locked(file)):
            time.sleep(_AGAIN)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _begin(directory: Path, inputs: Mapping[str, Any]) -> Done | None:
    """Return the stage if it is done; else make its directory ready."""
    begun = directory / "inputs.json"
    if not begun.exists() or digest(read_json(begun)) != digest(inputs):
        if directory.exists():
            shutil.rmtree(directory)
        write_json(begun, inputs)
    if (done := recall(directory, inputs)) is not None:
        sweep(directory)
    return done


def _end(directory: Path, inputs: Mapping[str, Any], result: Mapping[str, Any]) -> Done:
    """Keep what a stage has found."""
    write_json(directory / "result.json", result)
    sweep(directory)
    return Done(directory, digest(inputs), read_json(directory / "result.json"))


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
