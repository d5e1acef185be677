"""The checkpoint of a run: one safetensors file whose header holds everything that is no tensor."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunus.errors import CheckpointError
from prunus.files import read_tensors, write_tensors
from prunus.training.data import Data

Value = Tensor | int | float | str

_HEADER = "prunus.checkpoint"


@dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    Args:
        checkpoint: Weights, optimizer, random states and so on after some step.
        metrics: One JSON line per evaluation, without times: the same bits however often the run
            was interrupted.
    """

    checkpoint: Path
    metrics: Path

    @classmethod
    def within(cls, directory: Path, name: str) -> "RunFiles":
        """Return the files of a run in a directory, which is made if it is missing.

        Raises:
            CheckpointError: The directory cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=directory):
                pass
        except OSError as error:
            raise CheckpointError(
                f"the directory {directory} cannot be written ({error}); choose another one or "
                "change its permissions."
            ) from error
        return cls(
            directory / f"{name}.checkpoint.safetensors",
            directory / f"{name}.metrics.jsonl",
        )


@dataclass(frozen=True)
class Checkpoint:
    """A run's state between two steps.

    Args:
        made_by: What the run was started with, as plain JSON values; a run with other arguments is
            not continued.
        parts: Part of the state, such as "model" -> its values by name.
    """

    made_by: dict[str, Any]
    parts: dict[str, dict[str, Value]]

    def write(self, path: Path) -> None:
        """Write atomically: the file that was there stays until the new one is whole.

        Raises:
            CheckpointError: The directory is read-only or the disk is full.
        """
        tensors: dict[str, Tensor] = {}
        plain: dict[str, dict[str, int | float | str]] = {name: {} for name in self.parts}
        for part, values in self.parts.items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"{part}/{name}"] = value
                else:
                    plain[part][name] = value
        header = json.dumps({"made_by": self.made_by, "parts": plain})
        try:
            write_tensors(path, tensors, {_HEADER: header})
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint {path} cannot be written ({error}). The one before it, if any, is "
                "intact: make room or make the directory writable, then run again to continue."
            ) from error

    @classmethod
    def read(cls, path: Path, made_by: dict[str, Any]) -> "Checkpoint | None":
        """Read a checkpoint; None if there is none.

        Args:
            path: The file.
            made_by: What the present run was started with.

        Raises:
            CheckpointError: The file is damaged, or was made with other arguments.
        """
        if not path.exists():
            return None
        try:
            tensors, metadata = read_tensors(path)
            header = json.loads(metadata[_HEADER])
            written, parts = header["made_by"], header["parts"]
        except (CheckpointError, KeyError, json.JSONDecodeError) as error:
            raise CheckpointError(
                f"the checkpoint {path} is damaged ({error}); nothing was changed. Put back a copy "
                "of it, or delete it to start afresh."
            ) from error
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts[part][name] = tensor
        for key in sorted(made_by.keys() | written.keys()):
            if made_by.get(key) != written.get(key):
                raise CheckpointError(
                    f"the checkpoint {path} was made with {key} = {written.get(key)!r}, now it is "
                    f"{made_by.get(key)!r}; pass the same arguments to continue, or give another "
                    "directory or name."
                )
        return cls(written, parts)


def provenance(model: nn.Module, data: Data, **arguments: Any) -> dict[str, Any]:
    """Describe what a run starts from, as plain JSON values to compare with a checkpoint's.

    The initial weights and the first batch enter as checksums: it changes with the seed, the order
    and the members of the training split, and how they are augmented and normalised.
    """
    facts = {
        **arguments,
        "initial weights": checksum(model.state_dict()),
        "data": data.name,
        "classes": data.classes,
        "sample shape": list(data.shape),
        "batch_size": data.batch_size,
        "steps per epoch": data.steps_per_epoch,
        "first batch": checksum(next(data.train_batches(0))),
    }
    # Through JSON and back, so that tuples and the like compare as they are stored.
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def described(given: object) -> str | None:
    """Return how a hook or an objective describes itself, or its name; None for none."""
    name = getattr(given, "__name__", type(given).__name__)
    return None if given is None else str(getattr(given, "described", name))


def checksum(tree: object) -> str:
    """Return eight hexadecimal digits of the tensors in nested containers."""
    found = 0
    for tensor in tree_leaves(tree):
        if isinstance(tensor, Tensor):
            flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            found = zlib.crc32(flat.numpy().tobytes(), found)
    return f"{found:08x}"
