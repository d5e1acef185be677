"""The compact sparse file: tensors in, and the same tensors out, one at a time.

Source: gaps are told as in Golomb, "Run-length encodings", IEEE Trans. Inf. Theory 12(3), 1966,
with Huffman's code instead of his. The format is specified in docs/format.md.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from torch import Tensor, nn

from prunus.deploy.container import (
    LIMIT,
    START,
    Entry,
    Index,
    check_name,
    read_index,
    write_index,
    write_start,
)
from prunus.deploy.runs import LENGTH, decode, encode, seal, split
from prunus.deploy.size import Size, sizes
from prunus.deploy.values import (
    Scale,
    Values,
    dtype_name,
    narrow,
    nonzero,
    read_scales,
    scales_of,
    stored_as,
    to_tensor,
    to_words,
    widen,
    word,
)
from prunus.errors import CheckpointError
from prunus.files import atomic


def pack(
    tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    path: Path | str,
    *,
    values: Values = "exact",
    scale: Scale = "channel",
    signed_zeros: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> list[Size]:
    """Write tensors as a compact sparse file (`.prunus`), atomically, in one pass.

    Memory beyond what is given is that of one tensor, if it has to be copied from a device or into
    order, and some 50 MiB. Names for one and the same tensor are stored once if a mapping is given.

    Args:
        tensors: Tensors of any shape by name; or pairs, each of which is done with before the next
            is asked for. Of any element type that safetensors has.
        path: Where to.
        values: How the values of floating-point tensors with two or more dimensions are stored:
            "exact" for every bit; "float16", "bfloat16" or "int8" for fewer bytes, where the
            tensor's own type has more. All else is exact. Tensors come back in their own type.
        scale: For int8: one scale for each output "channel", which is the first dimension, or for a
            whole "tensor". No value moves by more than half a scale.
        signed_zeros: Whether to tell -0.0 from 0. A mask that multiplies leaves -0.0 where a weight
            was negative, whose signs then take more than all else; False stores them as 0, which
            they equal. Values in fewer bytes have none.
        metadata: Text stored along, as in a safetensors file.

    Returns:
        What each tensor takes, and last what the file does.

    Raises:
        ValueError: Two tensors have one name, a name is a path or cannot be printed, or the values
            do not fit `values`.
        TypeError: A tensor is sparse, quantized or of a type that safetensors lacks; or what is
            given is a network or the path of a file.
        OSError: The file cannot be written.

    Example:
        >>> import tempfile, torch
        >>> weight = torch.zeros(1000, 1000)
        >>> weight[::100, ::10] = 1.5
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sizes = pack({"weight": weight}, f"{folder}/net.prunus")
        ...     bool((unpack(f"{folder}/net.prunus")["weight"] == weight).all())
        True
        >>> sizes[-1].dense // sizes[-1].stored > 1000
        True
    """
    if isinstance(tensors, str | Path | nn.Module):
        raise TypeError(
            f"tensors must be a mapping from names or pairs, got {type(tensors).__name__}; pass a "
            "network's state_dict(), and for a file use `prunus pack`."
        )
    entries: list[Entry] = []
    tied: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    names: set[str] = set()
    if isinstance(tensors, Mapping):  # held at once, so that one address is one tensor
        tensors = dict(tensors.items())
    with atomic(path) as temporary, temporary.open("wb") as file:
        write_start(file)
        for name, tensor in tensors.items() if isinstance(tensors, Mapping) else tensors:
            check_name(name)
            if name in names:
                raise ValueError(f"the names of tensors must differ, got {name!r} twice.")
            names.add(name)
            dtype = dtype_name(name, tensor)
            # Of pairs, the memory of one that is done with may serve the next: they are not tied.
            if isinstance(tensors, dict) and tensor.numel():
                same = first.setdefault(_identity(tensor), name)
                if same != name:
                    tied[name] = same
                    continue
            stored = stored_as(values, tensor)
            entry = Entry(name=name, dtype=dtype, shape=tuple(tensor.shape), stored=stored)
            try:
                entries.append(_write(file, entry, tensor, scale, signed_zeros))
            except ValueError as error:
                raise ValueError(f"{name!r}: {error}") from error
        write_index(file, Index(tensors=tuple(entries), tied=tied, metadata=dict(metadata or {})))
        total = file.tell()
    return sizes(str(path), entries, total)


def unpack(path: Path | str, *, limit: int = LIMIT) -> dict[str, Tensor]:
    """Read a compact sparse file.

    Args:
        path: A file written by `pack`.
        limit: The most bytes that the tensors may take in memory; a small file can ask for much.

    Returns:
        The tensors by name, each in memory of its own, but names that shared a tensor share it.

    Raises:
        CheckpointError: The file is damaged, of a later version, or larger than `limit`.
        FileNotFoundError: There is no such file.
    """
    with PackedFile(path, limit=limit) as file:
        tensors = {name: file.read(name) for name in file.names if name not in file.tied}
        return {name: tensors[file.tied.get(name, name)] for name in file.names}


class PackedFile:
    """A compact sparse file, open for reading tensors one at a time in any order.

    Args:
        path: A file written by `pack`.
        limit: The most bytes that all its tensors may take in memory.

    Raises:
        CheckpointError: The file is damaged, of a later version, or larger than `limit`.
        FileNotFoundError: There is no such file.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pack({"a": torch.ones(2), "b": torch.zeros(3)}, f"{folder}/net.prunus")
        ...     with PackedFile(f"{folder}/net.prunus") as file:
        ...         file.names, file.read("b")
        (('a', 'b'), tensor([0., 0., 0.]))
    """

    def __init__(self, path: Path | str, *, limit: int = LIMIT) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no file at {path}")
        self._file = self.path.open("rb")
        try:
            with self._named():
                index = read_index(self._file, limit)
        except BaseException:
            self._file.close()
            raise
        self.tied = index.tied
        self.metadata = index.metadata
        self._entries = {entry.name: entry for entry in index.tensors}
        begins = accumulate((entry.size for entry in index.tensors), initial=START)
        self._begins = dict(zip(self._entries, begins, strict=False))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors: of those stored in the file's order, then of those tied."""
        return (*self._entries, *self.tied)

    @property
    def sizes(self) -> list[Size]:
        """What each stored tensor takes, and last what the file does."""
        total = self._file.seek(0, os.SEEK_END)
        return sizes(str(self.path), list(self._entries.values()), total)

    def entry(self, name: str) -> Entry:
        """Return what is known of a tensor before it is read, such as its shape.

        Raises:
            KeyError: There is none of that name.
        """
        return self._entries[self.tied.get(name, name)]

    def read(self, name: str) -> Tensor:
        """Read one tensor.

        Raises:
            CheckpointError: Its blocks are damaged.
            KeyError: There is none of that name.
        """
        entry = self.entry(name)
        self._file.seek(self._begins[entry.name])
        with self._named(f": {name!r}"):
            scales = read_scales(entry, self._file.read(entry.scales)) if entry.scales else None
            words = np.zeros(entry.elements, word(entry.dtype))
            for number, run in enumerate(entry.runs):
                begin = number * LENGTH
                decode(
                    run,
                    self._file.read(run.size),
                    words[begin : begin + LENGTH],
                    word(entry.stored or entry.dtype),
                    widen(entry, scales, begin),
                )
            return to_tensor(entry, words)

    @contextmanager
    def _named(self, where: str = "") -> Iterator[None]:
        """Say in an error which file it is about."""
        try:
            yield
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}{where}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _write(file: BinaryIO, entry: Entry, tensor: Tensor, scale: Scale, signed_zeros: bool) -> Entry:
    """Write a tensor's blocks; return its entry with their sizes."""
    scales = scales_of(tensor, scale) if entry.stored == "I8" else None
    size = 0 if scales is None else file.write(seal(split(to_words(scales))))
    words = to_words(tensor)
    runs = []
    for begin in range(0, len(words), LENGTH):
        part = words[begin : begin + LENGTH]
        here = nonzero(part, entry.dtype, signed=signed_zeros and not entry.stored)
        run, block = encode(part, here, narrow(entry, scales, begin))
        file.write(block)
        runs.append(run)
    return entry.model_copy(update={"scales": size, "runs": tuple(runs)})


def _identity(tensor: Tensor) -> tuple[object, ...]:
    """Return what two tensors have in common if and only if they are the same numbers in memory."""
    views = (tensor.is_conj(), tensor.is_neg())
    where = (tensor.device, tensor.data_ptr())
    return (*where, tensor.dtype, tensor.shape, tensor.stride(), *views)
