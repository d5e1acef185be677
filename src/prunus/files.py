"""Files that are either whole or absent: atomic writes, JSON and safetensors, never pickle."""

import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from stat import S_IMODE
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunus.errors import CheckpointError

_AGAIN = 0.2  # seconds between two looks at a lock


def check_folder(folder: Path | str) -> None:
    """Refuse a folder in which nothing can be written, before work that takes long.

    Raises:
        NotADirectoryError: It, or one above it, is a file.
        PermissionError: It, or the last one above it that is there, is read-only.
    """
    folder = Path(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{folder} must be a folder, but {there} is a file.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written: {there} is read-only.")


@contextmanager
def alone(directory: Path, *, seconds: float = 0.0) -> Iterator[None]:
    """Hold a folder for this process, and make it if it is missing.

    Args:
        directory: The folder.
        seconds: How long to wait for another process that holds it.

    Raises:
        BlockingIOError: Another process holds it still.
        OSError: It cannot be made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    with (directory / ".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    raise BlockingIOError(
                        f"another process is at work in {directory}; wait for it, or give another "
                        "folder."
                    ) from error
            time.sleep(_AGAIN)
        yield


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name once the block succeeds.

    The data is flushed to the disk before the rename, so that a crash or a full disk at any moment
    leaves either the old file or the new one under the final name. On an exception the temporary
    file is removed.

    Args:
        path: The final name; its directory is created if missing.

    Raises:
        OSError: The path is a directory, its own is read-only or none, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file, such as {path / 'NAME'}.")
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{token_hex(8)}.tmp")
    temporary.touch(exist_ok=False)
    mode = temporary.stat().st_mode  # as the user's umask says; safetensors replaces the file
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.chmod(S_IMODE(mode))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: The file is not valid JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} is not valid JSON ({error}); delete it to start that step afresh."
        ) from error


def write_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically.

    Args:
        path: Where to.
        tensors: Name -> tensor of any shape; tensors that share memory are written apart.
        metadata: Text stored in the file's header.
    """
    apart = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        try:
            safetensors.torch.save_file(apart, temporary, dict(metadata) if metadata else None)
        except SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error


def write_each(
    path: Path | str,
    layout: Mapping[str, tuple[str, Sequence[int], int]],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors as safetensors, atomically, with one at a time in memory.

    Args:
        path: Where to.
        layout: Name -> safetensors' name of the element type, the shape, and bytes per element.
        read: Returns the tensor of a name; called once for each.
        metadata: Text stored in the file's header.
    """
    # The larger elements first, as safetensors has it, so that all are aligned.
    order = sorted(layout, key=lambda name: (-layout[name][2], name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        dtype, shape, itemsize = layout[name]
        begin, end = end, end + math.prod(shape) * itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            plain = read(name).detach().cpu().contiguous().reshape(-1)
            file.write(plain.view(torch.uint8).numpy().data)


_OTHERS = {
    b"\x89PRUNUS": "it is a compact sparse file, which `prunus unpack` turns into one",
    b"PK": "it is a file of torch.save; write its tensors with prunus.save instead",
}
"""How files of other kinds begin, and what to do about them."""


@contextmanager
def open_tensors(path: Path | str) -> Iterator[Any]:
    """Open a safetensors file, to read one tensor at a time.

    Raises:
        CheckpointError: The file is truncated or not safetensors.
        FileNotFoundError: There is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        with Path(path).open("rb") as begun:
            first = begun.read(max(map(len, _OTHERS)))
        may = next((said for begin, said in _OTHERS.items() if first.startswith(begin)), None)
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); {may or 'it may be truncated'}."
        ) from error


def read_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Returns:
        The tensors by name, and the header's text.

    Raises:
        CheckpointError: The file is truncated or not safetensors.
        FileNotFoundError: There is no such file.
    """
    with open_tensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, dict(file.metadata() or {})
