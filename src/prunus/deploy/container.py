"""The container of the compact sparse file: blocks of tensors, and at the end what they are.

What the end says is checked as a whole before any block is read, so that a damaged or hostile file
is refused before it costs memory. The specification is docs/format.md.
"""

import math
import os
from typing import Annotated, BinaryIO, Final

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunus.deploy.runs import CHECKSUM, LENGTH, TEXT, Run, most, seal, unseal
from prunus.errors import CheckpointError

MAGIC: Final = b"\x89PRUNUS"
VERSION: Final = 1
LIMIT: Final = 16 * 2**30
"""Bytes of dense tensors that a file may hold unless its reader allows for more: 16 GiB."""

_START = MAGIC + bytes([VERSION])
START: Final = len(_START)
"""Where the first block begins."""

_TAIL = 4 + START  # the index's length, and the start again
_MOST_INDEX = 16 * 2**20
_LONGEST_NAME = 1024
_MOST_DIMENSIONS = 64

DTYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""The element types, by the names that safetensors has for them."""

LOSSY: Final = {("F32", "F16"), ("F32", "BF16"), ("F64", "F16"), ("F64", "BF16")} | {
    (dtype, "I8") for dtype in ("F16", "BF16", "F32", "F64")
}

Count = Annotated[int, Field(ge=0, lt=2**63)]
_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)


class Entry(BaseModel):
    """What one tensor is, and the blocks that hold it.

    Args:
        name: The tensor's.
        dtype: Its element type, by safetensors' name.
        shape: Its dimensions.
        stored: The element type in the file, if it is another: F16, BF16 or I8.
        scales: For I8: bytes of the block of its scales, one for all or for each first index.
        runs: Its words, cut into runs of LENGTH.
    """

    model_config = _STRICT

    name: str
    dtype: str
    shape: tuple[Count, ...]
    stored: str = ""
    scales: Count = 0
    runs: tuple[Run, ...] = ()

    @property
    def elements(self) -> int:
        """How many elements the tensor has."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element in memory."""
        return DTYPES[self.dtype].itemsize

    @property
    def nonzero(self) -> int:
        """How many of them are not the word 0."""
        return sum(run.nonzero for run in self.runs)

    @property
    def dense(self) -> int:
        """Bytes of the tensor in memory."""
        return self.elements * self.itemsize

    @property
    def size(self) -> int:
        """Bytes of the tensor's blocks."""
        return self.scales + sum(run.size for run in self.runs)


class Index(BaseModel):
    """What a file holds.

    Args:
        tensors: In the order of their blocks.
        tied: Further names of some of them.
        metadata: Text by name, as safetensors has it.
    """

    model_config = _STRICT

    tensors: tuple[Entry, ...] = ()
    tied: dict[str, str] = {}
    metadata: dict[str, str] = {}


def write_start(file: BinaryIO) -> None:
    """Write what every file begins with; blocks follow in the order of the index."""
    file.write(_START)


def write_index(file: BinaryIO, index: Index) -> None:
    """Write what every file ends with.

    Raises:
        ValueError: The index is larger than 16 MiB.
    """
    content = index.model_dump_json(exclude_defaults=True).encode()
    if len(content) > _MOST_INDEX:
        raise ValueError(
            f"names, shapes and metadata must take at most {_MOST_INDEX:,} bytes, got "
            f"{len(content):,}; pack the tensors into several files."
        )
    block = seal([np.frombuffer(content, np.uint8)], TEXT)
    file.write(block + len(block).to_bytes(4, "little") + _START)


def read_index(file: BinaryIO, limit: int) -> Index:
    """Read and check what a file holds; nothing of its tensors is read or allocated.

    Args:
        file: Open for reading, and seekable.
        limit: The most bytes that the tensors may take in memory.

    Raises:
        CheckpointError: The file is damaged, of another version, or larger than `limit`.
    """
    start = file.read(START)
    if not start.startswith(MAGIC):
        raise CheckpointError(f"a .prunus file must begin with {MAGIC!r}, got {start!r}")
    if start != _START:
        raise CheckpointError(
            f"it must be of version {VERSION}, got {start[-1] if start != MAGIC else 'none'}; a "
            "newer Prunus may read it"
        )
    end = file.seek(0, os.SEEK_END) - _TAIL
    file.seek(max(0, end))
    tail = file.read(_TAIL)
    if len(tail) != _TAIL or tail[4:] != _START:
        raise CheckpointError("it must end as it begins, so it is truncated")
    begin = end - (size := int.from_bytes(tail[:4], "little"))
    if size > most(_MOST_INDEX):
        raise CheckpointError(f"its index must take at most {_MOST_INDEX:,} bytes, got {size:,}")
    if begin < START:
        raise CheckpointError("its index must fit into it, got one that is larger")
    file.seek(begin)
    content = unseal(file.read(end - begin), (0, _MOST_INDEX))
    try:
        index = Index.model_validate_json(content.tobytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise CheckpointError(f"its index is wrong at {where!r}: {first['msg'][:200]}") from error
    _check(index, begin - START, limit)
    return index


def _check(index: Index, blocks: int, limit: int) -> None:
    """Refuse an index that contradicts itself or the bytes of the file's blocks."""
    names = [*(entry.name for entry in index.tensors), *index.tied]
    if len(set(names)) != len(names):
        raise CheckpointError("its names must differ, got one twice")
    try:
        for name in names:
            check_name(name)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if missing := set(index.tied.values()) - {entry.name for entry in index.tensors}:
        raise CheckpointError(f"tied names must be those of tensors, got {min(missing)[:80]!r}")
    total = 0
    for entry in index.tensors:
        if why := _wrong(entry):
            raise CheckpointError(f"its tensor {entry.name!r} {why}")
        total += math.prod(max(1, size) for size in entry.shape) * entry.itemsize
        if total > limit:
            raise CheckpointError(
                f"its tensors must take at most limit={limit:,} bytes, got more at {entry.name!r} "
                f"of shape {entry.shape}; if that is what you expect, allow for more"
            )
    if (told := sum(entry.size for entry in index.tensors)) != blocks:
        raise CheckpointError(f"its blocks must have {told:,} bytes, got {blocks:,}")


def _wrong(entry: Entry) -> str:
    """Say what cannot be true of a tensor's own numbers, or nothing."""
    if entry.dtype not in DTYPES:
        return f"must be of a type that safetensors has, got {entry.dtype[:20]!r}"
    if entry.stored and (entry.dtype, entry.stored) not in LOSSY:
        return f"must not be {entry.dtype} stored as {entry.stored[:20]!r}"
    if len(entry.shape) > _MOST_DIMENSIONS:
        return f"must have at most {_MOST_DIMENSIONS} dimensions, got {len(entry.shape)}"
    if (entry.scales > CHECKSUM) != (entry.stored == "I8") or 0 < entry.scales <= CHECKSUM:
        return "must have scales if it is stored as I8, and none otherwise"
    if any((run.size > CHECKSUM) != (run.nonzero > 0) for run in entry.runs) or any(
        0 < run.size <= CHECKSUM for run in entry.runs
    ):
        return "must have a block for each run that is not all zeros, and none for others"
    content = min(LENGTH, entry.elements) * (2 + DTYPES[entry.stored or entry.dtype].itemsize)
    scales = 2 * (entry.shape[0] if entry.shape else 1)
    if entry.scales > most(scales) or any(run.size > most(content) for run in entry.runs):
        return "must have blocks no larger than what they hold"
    if len(entry.runs) != (runs := -(-entry.elements // LENGTH)):
        return f"must have {runs} runs of words for its shape, got {len(entry.runs)}"
    return ""


def check_name(name: str) -> None:
    """Refuse a name that is made to harm whoever prints it or takes it for a path.

    Raises:
        ValueError: It is empty, long, not printable, or a path that leads out of a folder.
    """
    parts = name.replace("\\", "/").split("/")
    if (
        not 0 < len(name) <= _LONGEST_NAME
        or name == "__metadata__"  # which safetensors keeps for itself
        or not name.isprintable()
        or parts[0] in ("", "~")
        or parts[0].endswith(":")
        or ".." in parts
    ):
        raise ValueError(
            f"a tensor's name must be printable, of 1 to {_LONGEST_NAME} characters, and no path "
            f"that leads out of a folder, got {name[:80]!r}"
        )
