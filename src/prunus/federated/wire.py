"""How a masked network travels: the values of kept weights, and which they are when that changed.

Values are one array, little-endian, tensor after tensor. A structure is one record per tensor, all
deflated together. A record has the gaps before the rarer of kept and absent weights, in the code of
Rice: the lowest k bits of all gaps as k bitmaps, the rest in unary. With k = 0 that is a bitmap.

Source: Jiang et al., IEEE TNNLS 2022, arXiv:1909.12326, section V, send values alone while the mask
stays as it is; Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979.
Deviation: the authors write a bitmap, or indices where fewer than one weight in 32 is kept. Gaps
take at most 3 % more than the entropy of a random mask of up to half the weights, and less than
both.
"""

import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunus.errors import WireError
from prunus.types import Mask

Precision = Literal["fp32", "fp16"]
"""Of values on the way; fp16 halves the bytes and rounds to eleven significant bits."""

_DTYPES: dict[Precision, np.dtype[np.floating]] = {
    "fp32": np.dtype("<f4"),
    "fp16": np.dtype("<f2"),
}
_HEAD = 9  # bytes of a record before its gaps: k, how many gaps, bits in unary
_ABSENT = 0x80  # beside k: the gaps are before absent weights, not before kept ones


@dataclass(frozen=True)
class Layout:
    """The floating tensors of a network in their order, which both sides know.

    Attributes:
        shapes: Name -> shape, of each parameter once and of buffers; counters are left out.
        masked: The names that a mask may say something about.
    """

    shapes: Mapping[str, tuple[int, ...]]
    masked: Collection[str]

    @classmethod
    def of(cls, model: nn.Module, masked: Collection[str]) -> Self:
        """Return the layout of a network; names in `masked` that it lacks are left out."""
        shapes = {name: tuple(x.shape) for name, x in tensors_of(model).items()}
        return cls(shapes, frozenset(name for name in masked if name in shapes))

    @classmethod
    def of_sums(cls, model: nn.Module, masked: Collection[str]) -> Self:
        """Return the layout of what is summed up while a network trains: of its gradients."""
        trained = {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad}
        return cls(trained, frozenset(name for name in masked if name in trained))

    def whole(self) -> Mask:
        """Return the mask that keeps everything."""
        return {name: torch.ones(self.shapes[name], dtype=torch.bool) for name in self._names()}

    def _names(self) -> list[str]:
        return [name for name in self.shapes if name in self.masked]

    def structure(self, mask: Mask) -> bytes:
        """Write down which weights are kept.

        Args:
            mask: Name -> bool; names that it lacks are kept whole.
        """
        records = []
        for name in self._names():
            kept = mask[name].numpy().reshape(-1) if name in mask else np.ones(1, dtype=bool)
            records.append(_record(kept))
        return zlib.compress(b"".join(records), 6)

    def mask(self, structure: bytes) -> Mask:
        """Read a structure, which may come from anyone.

        Raises:
            WireError: It is damaged or of another network; memory stays within what a structure of
                this network takes.
        """
        sizes = {name: prod(self.shapes[name]) for name in self._names()}
        raw = _inflated(structure, sum(_HEAD + -(-size // 8) for size in sizes.values()))
        mask, position = {}, 0
        for name, size in sizes.items():
            kept, position = _kept(raw, position, size)
            mask[name] = torch.from_numpy(kept).view(self.shapes[name])
        if position != len(raw):
            raise WireError(f"a structure has {len(raw)} bytes, its records end at {position}.")
        return mask

    def flat(self, tensors: Mapping[str, Tensor], mask: Mask) -> Tensor:
        """Return the kept values of all tensors in a row, float32 (count,)."""
        parts = []
        for name, shape in self.shapes.items():
            part = tensors[name].detach().reshape(-1).float()
            kept = mask.get(name)
            if kept is not None and int(kept.count_nonzero()) < prod(shape):
                part = torch.from_numpy(part.numpy().take(_places(kept)))
            parts.append(part)
        return torch.cat(parts)

    def spread(self, flat: Tensor, mask: Mask) -> dict[str, Tensor]:
        """Return what `flat` put in a row as tensors again; what is not kept is zero.

        Args:
            flat: (count,), float32; tensors that are kept whole are views of it.
            mask: By which it was taken.
        """
        found, start = {}, 0
        for name, shape in self.shapes.items():
            kept, whole = mask.get(name), prod(shape)
            size = whole if kept is None else int(kept.count_nonzero())
            part, start = flat[start : start + size], start + size
            if kept is None or size == whole:
                found[name] = part.view(shape)
            else:
                array = np.zeros(whole, dtype=np.float32)
                array[_places(kept)] = part.numpy()
                found[name] = torch.from_numpy(array).view(shape)
        return found

    def count(self, mask: Mask) -> int:
        """Return how many values travel."""
        return sum(
            int(mask[name].count_nonzero()) if name in mask else prod(shape)
            for name, shape in self.shapes.items()
        )

    def values(
        self, tensors: Mapping[str, Tensor], mask: Mask, precision: Precision = "fp32"
    ) -> bytes:
        """Write down the kept values of all tensors.

        Raises:
            OverflowError: fp16 cannot hold one of them.
        """
        whole = self.flat(tensors, mask).numpy()
        with np.errstate(over="ignore"):
            written = whole.astype(_DTYPES[precision], copy=False)
        if precision == "fp16" and np.isinf(written).sum() != np.isinf(whole).sum():
            raise OverflowError(
                "a value is beyond 65504, the largest in fp16; take precision 'fp32'."
            )
        return written.tobytes()

    def row(self, values: bytes, mask: Mask, precision: Precision = "fp32") -> Tensor:
        """Read values, which may come from anyone; see `flat`.

        Raises:
            WireError: There are more or fewer than the mask keeps.
        """
        dtype, count = _DTYPES[precision], self.count(mask)
        if len(values) != count * dtype.itemsize:
            raise WireError(
                f"{count} values in {precision} are {count * dtype.itemsize} bytes, got "
                f"{len(values)}."
            )
        return torch.from_numpy(np.frombuffer(values, dtype).astype(np.float32))

    def tensors(
        self, values: bytes, mask: Mask, precision: Precision = "fp32"
    ) -> dict[str, Tensor]:
        """Read values, which may come from anyone; what is not kept is zero.

        Raises:
            WireError: There are more or fewer than the mask keeps.
        """
        return self.spread(self.row(values, mask, precision), mask)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters, each once, and the floating buffers of a network by name."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: x.detach() for name, x in named.items() if x.is_floating_point()}


@torch.no_grad()
def give(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a network, in place."""
    own = tensors_of(model)
    for name, value in tensors.items():
        own[name].copy_(value)


@contextmanager
def counters_kept(model: nn.Module) -> Iterator[None]:
    """Put back what does not travel: the buffers that are no floating numbers, such as counters.

    Otherwise what a client's training counts, and with it a running mean over all batches, would
    depend on who has been trained by the same process before.
    """
    held = {n: x.clone() for n, x in model.named_buffers() if not x.is_floating_point()}
    try:
        yield
    finally:  # by name: a move to a device and back makes other tensors
        own = dict(model.named_buffers())
        for name, before in held.items():
            own[name].copy_(before)


def _places(kept: Tensor) -> NDArray[np.int64]:
    """Return where a mask keeps; numpy indexes several times as fast by these as by a mask."""
    return np.flatnonzero(kept.numpy())


def _record(kept: NDArray[np.bool_]) -> bytes:
    """Write the gaps before the kept or the absent weights, whichever are fewer.

    The k of fewest bits is compared with k = 0, which deflates better where a mask has a pattern.
    """
    absent = 2 * int(np.count_nonzero(kept)) > len(kept)
    places = np.flatnonzero(~kept if absent else kept)
    gaps = np.diff(places, prepend=-1) - 1
    plain = _coded(gaps, 0, absent)
    lengths = {k: _length(gaps, k) for k in range(1, max(1, len(kept)).bit_length())}
    best = min(lengths, key=lambda k: lengths[k], default=0)
    if not best or lengths[best] >= len(plain):
        return plain
    return min(plain, _coded(gaps, best, absent), key=lambda record: len(zlib.compress(record, 6)))


def _length(gaps: NDArray[np.int64], k: int) -> int:
    """Return the bytes of a record."""
    unary = int((gaps >> k).sum()) + len(gaps)
    return _HEAD + -(-unary // 8) + k * -(-len(gaps) // 8)


def _coded(gaps: NDArray[np.int64], k: int, absent: bool) -> bytes:
    ends = (gaps >> k).cumsum() + np.arange(len(gaps))
    length = int(ends[-1]) + 1 if len(gaps) else 0
    unary = np.zeros(length, dtype=bool)
    unary[ends] = True
    low = [_packed((gaps >> bit & 1).astype(bool)) for bit in range(k)]
    head = bytes([k | _ABSENT * absent]) + len(gaps).to_bytes(4, "little")
    return b"".join([head, length.to_bytes(4, "little"), _packed(unary), *low])


def _kept(raw: bytes, position: int, size: int) -> tuple[NDArray[np.bool_], int]:
    """Read one record; return what is kept and where the next record begins."""
    head = _taken(raw, position, _HEAD)
    k, absent = head[0] & ~_ABSENT, bool(head[0] & _ABSENT)
    count, length = (int.from_bytes(head[start : start + 4], "little") for start in (1, 5))
    if k >= max(1, size).bit_length():
        raise WireError(f"gaps among {size} weights have no {k} low bits.")
    if 2 * count > size or length > (size >> k) + count:
        raise WireError(f"{size} weights cannot have {count} gaps of {length} bits in unary.")
    position += _HEAD
    unary, position = _unpacked(raw, position, length)
    ends = np.flatnonzero(unary)
    if len(ends) != count or (length and not unary[-1]):
        raise WireError(f"{count} gaps must end as many times, got {len(ends)}.")
    gaps = (np.diff(ends, prepend=-1) - 1) << k
    for bit in range(k):
        low, position = _unpacked(raw, position, count)
        gaps |= low.astype(np.int64) << bit
    places = (gaps + 1).cumsum() - 1
    if count and int(places[-1]) >= size:
        raise WireError(f"places must be below {size}, got {int(places[-1])}.")
    kept = np.full(size, absent)
    kept[places] = not absent
    return kept, position


def _packed(bits: NDArray[np.bool_]) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()


def _unpacked(raw: bytes, position: int, count: int) -> tuple[NDArray[np.bool_], int]:
    """Read so many bits; return them and where what follows begins."""
    packed = _taken(raw, position, -(-count // 8))
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
    if bits[count:].any():
        raise WireError(f"a bitmap of {count} bits has bits beyond them.")
    return bits[:count].astype(bool), position + len(packed)


def _taken(raw: bytes, position: int, count: int) -> bytes:
    part = raw[position : position + count]
    if len(part) != count:
        raise WireError(f"a structure of {len(raw)} bytes ends inside a record.")
    return part


def _inflated(data: bytes, most: int) -> bytes:
    """Inflate at most `most` bytes."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise WireError(f"a structure cannot be inflated ({error}).") from error
    if len(raw) > most or not inflater.eof or inflater.unused_data:
        raise WireError(f"a structure of this network has at most {most} bytes and ends there.")
    return raw
