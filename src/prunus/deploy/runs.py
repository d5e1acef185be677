"""The coder of the compact sparse file: one run of words to one block of bytes, and back.

A word is one element of a tensor as an unsigned integer of 1, 2, 4 or 8 bytes. Only the word 0 is
left out; -0.0 and every NaN are other words, so that nothing is lost. A block says where the other
words are, then what they are: all their first bytes, all their second bytes, and so on. Every part
begins a block of zstd's own, so that its entropy coder sees one kind of byte at a time.

The specification is docs/format.md.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prunus.errors import CheckpointError

LENGTH = 2**20
"""Words in a run, but for the last of a tensor: what is worked on fits a processor's cache."""

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]
Bytes: TypeAlias = NDArray[np.uint8]
Positions: TypeAlias = NDArray[np.intp]

Convert: TypeAlias = Callable[[Words, Positions], Words]
"""Words at these positions of a run -> the words of another type that stand for them."""

CHECKSUM = 4
"""Bytes of a block's CRC-32."""

_DENSEST_GAPS = 0.22  # above, one bit per word is smaller than one symbol per nonzero
_SPARSEST_SYMBOLS = 0.02  # share of nonzeros below which gaps lose their low bits to a part apart
_ESCAPED = 8  # bits of information at which a gap is told in several symbols: zstd's have up to 11

# Matches are by chance in what is stored here, and cost more than they save: 7 is their longest
# minimum, and a table of 64 entries finds few.
_ENTROPY = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, window_log=20
)
TEXT = zstandard.ZstdCompressionParameters.from_level(9)


class Run(BaseModel):
    """How one run is stored.

    Args:
        mask: How the nonzero words are found: "none", every word is stored; "bits", one bit per
            word; "gaps", the number of zeros before each.
        nonzero: How many words are not 0.
        size: Bytes of the block with its checksum; 0 if every word is 0.
        shift: For "gaps": how many low bits of each gap are stored apart, up to 8.
        escape: For "gaps": the symbol for `escape << shift` zeros that no nonzero word follows.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    mask: Literal["none", "bits", "gaps"]
    nonzero: int = Field(ge=0, le=LENGTH)
    size: int = Field(ge=0)
    shift: int = Field(default=0, ge=0, le=8)
    escape: int = Field(default=255, ge=1, le=255)


def encode(words: Words, here: NDArray[np.bool_], convert: Convert) -> tuple[Run, bytes]:
    """Return the smallest coding of a run.

    Args:
        words: (length,) with 1 <= length <= LENGTH.
        here: (length,), where a word is to be stored; the others come back as 0.
        convert: Applied to what is stored, which stays stored if that makes it 0.
    """
    positions = _places(here)
    if not len(positions):
        return Run(mask="gaps", nonzero=0, size=0), b""
    density = len(positions) / len(words)
    stored = split(convert(words[positions], positions))
    if density < _DENSEST_GAPS:
        mask, shift, escape = _gaps(positions, len(words))
        block = seal([*mask, *stored])
        run = Run(mask="gaps", nonzero=len(positions), size=len(block), shift=shift, escape=escape)
        return run, block
    block = seal([np.packbits(here), *stored])
    run = Run(mask="bits", nonzero=len(positions), size=len(block))
    if density > 0.5:
        every = words if density == 1 else np.where(here, words, words.dtype.type(0))
        other = seal(split(convert(every, np.arange(len(words)))))
        if len(other) <= len(block):
            return Run(mask="none", nonzero=len(positions), size=len(other)), other
    return run, block


def decode(run: Run, block: bytes, words: Words, stored: np.dtype[Any], convert: Convert) -> None:
    """Write a run's nonzero words to their places.

    Args:
        run: How it is stored.
        block: As it is in the file.
        words: (length,) of zeros; changed in place.
        stored: The type of the stored words.
        convert: From stored words to those of `words`.

    Raises:
        CheckpointError: The block is damaged, or does not hold what `run` says.
    """
    length, count = len(words), run.nonzero
    if count > length:
        raise CheckpointError(f"a run of {length} words must not hold more, got {count}")
    if not count:
        return
    if run.mask == "none":
        content = unseal(block, length * stored.itemsize)
        words[:] = convert(join(content, stored), np.arange(length))
        return
    values = count * stored.itemsize
    if run.mask == "bits":
        where = -(-length // 8)
        content = unseal(block, where + values)
        bits = np.unpackbits(content[:where]).view(bool)
        if bits[length:].any():
            raise CheckpointError(f"a mask of {length} bits must end in zeros, got a bit beyond")
        positions = np.flatnonzero(bits[:length])
        if len(positions) != count:
            raise CheckpointError(f"{count} bits of a mask must be set, got {len(positions)}")
    else:
        low = count if run.shift else 0
        content = unseal(block, (low + count + values, low + length + values))
        where = len(content) - values
        positions = _positions(run, content[: where - low], content[where - low : where], length)
    words[positions] = convert(join(content[where:], stored), positions)


def _places(here: NDArray[np.bool_]) -> Positions:
    """Return where `here` is true.

    If at most a tenth is, NumPy jumps from one to the next, which at more than a twentieth takes
    twice as long as its way for more; they are made more.
    """
    length, count = len(here), np.count_nonzero(here)
    if not length / 20 < count <= length / 10:
        return np.flatnonzero(here)
    more = np.ones(length + length // 8 + 1, np.bool_)
    more[:length] = here
    return np.flatnonzero(more)[:count]


def _gaps(positions: Positions, length: int) -> tuple[list[Bytes], int, int]:
    """Return the symbols and low bits of the gaps before `positions`, the shift and the escape.

    If nonzeros come by chance, with share p, a gap's low bits and the rest of it are independent,
    and so is whatever follows an escape: coding each part by the frequency of its symbols alone
    then reaches the entropy of the mask. Escapes serve the coder, whose rarest symbols have 11
    bits and would take room from the others.
    """
    density, shift = len(positions) / length, 0
    while shift < 8 and density < _SPARSEST_SYMBOLS:
        density, shift = density * 16, shift + 4
    escape = min(255, math.ceil(_ESCAPED * math.log(2) / -math.log1p(-min(density, 0.5))))
    gap = positions.copy()
    gap[1:] -= positions[:-1] + 1
    parts = [(gap & ((1 << shift) - 1)).astype(np.uint8)] if shift else []
    high = gap >> shift if shift else gap
    symbols = high.astype(np.uint8)
    long = np.flatnonzero(high >= escape)
    symbols[long] = high[long] % escape
    symbols = np.insert(symbols, np.repeat(long, high[long] // escape), escape)
    return [symbols, *parts], shift, escape


def _positions(run: Run, symbols: Bytes, low: Bytes, length: int) -> Positions:
    """Return where the nonzero words are, of a run of `length` words."""
    if symbols.max() > run.escape or (run.shift and int(low.max()) >> run.shift):
        raise CheckpointError(f"a symbol of a gap must be at most {run.escape}, got a larger one")
    nonzero = symbols != run.escape
    if (told := np.count_nonzero(nonzero)) != run.nonzero:
        raise CheckpointError(f"{run.nonzero} gaps must be told, got {told}")
    if run.shift:
        steps = symbols.astype(np.intp) << run.shift
        steps += nonzero
        steps[nonzero] += low
        ends = np.cumsum(steps)
    else:
        ends = np.cumsum(symbols + nonzero, dtype=np.intp)
    if ends[-1] > length:
        raise CheckpointError(f"gaps must end within {length} words, got {ends[-1]}")
    ends -= 1
    return ends if told == len(symbols) else ends[nonzero]


def split(words: Words) -> list[Bytes]:
    """Return the first (lowest) bytes of all words, their second bytes, and so on."""
    each = words.view(np.uint8).reshape(len(words), -1)
    return [np.ascontiguousarray(each[:, place]) for place in range(each.shape[1])]


def join(content: Bytes, dtype: np.dtype[Any]) -> Words:
    """Return the words of which `split` made `content`."""
    places = content.reshape(dtype.itemsize, -1)
    each = np.empty(places.shape[::-1], np.uint8)
    for place, column in enumerate(places):
        each[:, place] = column
    return each.reshape(-1).view(dtype)


def seal(parts: list[Bytes], settings: zstandard.ZstdCompressionParameters = _ENTROPY) -> bytes:
    """Return one zstd frame of the parts, the coder starting afresh for each, and its CRC-32."""
    compressor = zstandard.ZstdCompressor(compression_params=settings).compressobj(
        size=sum(part.nbytes for part in parts)
    )
    pieces = [compressor.compress(parts[0].data)]
    for part in parts[1:]:
        pieces += [
            compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
            compressor.compress(part.data),
        ]
    frame = b"".join([*pieces, compressor.flush()])
    return frame + zlib.crc32(frame).to_bytes(CHECKSUM, "little")


def most(content: int) -> int:
    """Return the most bytes of a block that holds so many: zstd's own bound is below this."""
    return content + content // 128 + 256


def unseal(block: bytes, size: int | tuple[int, int]) -> Bytes:
    """Return what `seal` was given, in one piece.

    Args:
        block: A frame and its checksum.
        size: The bytes that it must hold, or the least and the most; nothing larger is allocated.

    Raises:
        CheckpointError: It is damaged or of another size.
    """
    least, most = (size, size) if isinstance(size, int) else size
    frame, checksum = block[:-CHECKSUM], block[-CHECKSUM:]
    if zlib.crc32(frame).to_bytes(CHECKSUM, "little") != checksum:
        raise CheckpointError("a block's checksum is wrong: the file is damaged")
    try:
        got = zstandard.frame_content_size(frame)
        if not least <= got <= most:
            raise CheckpointError(f"a block must hold {least} to {most} bytes, got {got}")
        content = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CheckpointError(f"a block must be a zstd frame ({error})") from error
    if len(content) != got:
        raise CheckpointError(f"a block must hold {got} bytes, got {len(content)}")
    return np.frombuffer(content, np.uint8)
