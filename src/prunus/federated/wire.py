"""How a masked network travels: the values of kept weights, and which they are when that changed.

Values are one array, little-endian, tensor after tensor. A structure is one record per tensor,
deflated together: a bitmap, or the places of the kept weights where fewer than one in 32 is kept.

Source: the transfer format of Jiang et al., IEEE TNNLS 2022, arXiv:1909.12326, section V.
Deviation: both are deflated, and places are written as steps from one to the next, low bytes first
and high bytes apart, which deflates to within a tenth of their entropy.
"""

import zlib
from collections.abc import Collection, Mapping
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
_SPARSE = 32  # places take fewer bits than a bitmap below one weight in so many
_WHOLE, _BITMAP, _PLACES = 0, 1, 2
_WIDTHS = (1, 2, 4)  # bytes of a step between places


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
            records.append(_record(mask[name].numpy().reshape(-1)) if name in mask else b"\0")
        return zlib.compress(b"".join(records), 6)

    def mask(self, structure: bytes) -> Mask:
        """Read a structure, which may come from anyone.

        Raises:
            WireError: It is damaged or of another network; memory stays within what a structure of
                this network takes.
        """
        sizes = {name: prod(self.shapes[name]) for name in self._names()}
        raw = _inflated(structure, sum(7 + size // 8 for size in sizes.values()))
        mask, position = {}, 0
        for name, size in sizes.items():
            kept, position = _kept(raw, position, size)
            mask[name] = torch.from_numpy(kept).view(self.shapes[name])
        if position != len(raw):
            raise WireError(f"a structure has {len(raw)} bytes, its records end at {position}.")
        return mask

    def values(
        self, tensors: Mapping[str, Tensor], mask: Mask, precision: Precision = "fp32"
    ) -> bytes:
        """Write down the kept values of all tensors.

        Raises:
            OverflowError: fp16 cannot hold one of them.
        """
        parts = [
            (tensors[name][mask[name]] if name in mask else tensors[name]).detach().reshape(-1)
            for name in self.shapes
        ]
        whole = torch.cat([part.float() for part in parts]).numpy()
        with np.errstate(over="ignore"):
            written = whole.astype(_DTYPES[precision])
        if precision == "fp16" and np.isinf(written).sum() != np.isinf(whole).sum():
            raise OverflowError(
                "a value is beyond 65504, the largest in fp16; take precision 'fp32'."
            )
        return written.tobytes()

    def count(self, mask: Mask) -> int:
        """Return how many values travel."""
        return sum(
            int(mask[name].count_nonzero()) if name in mask else prod(shape)
            for name, shape in self.shapes.items()
        )

    def tensors(
        self, values: bytes, mask: Mask, precision: Precision = "fp32"
    ) -> dict[str, Tensor]:
        """Read values, which may come from anyone; what is not kept is zero.

        Raises:
            WireError: There are more or fewer than the mask keeps.
        """
        dtype, count = _DTYPES[precision], self.count(mask)
        if len(values) != count * dtype.itemsize:
            raise WireError(
                f"{count} values in {precision} are {count * dtype.itemsize} bytes, got "
                f"{len(values)}."
            )
        flat = torch.from_numpy(np.frombuffer(values, dtype).astype(np.float32))
        found, start = {}, 0
        for name, shape in self.shapes.items():
            kept = mask.get(name)
            size = prod(shape) if kept is None else int(kept.count_nonzero())
            part, start = flat[start : start + size], start + size
            if kept is None:
                found[name] = part.view(shape).clone()
            else:
                found[name] = torch.zeros(shape).masked_scatter_(kept, part)
        return found


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


def _record(kept: NDArray[np.bool_]) -> bytes:
    count = int(np.count_nonzero(kept))
    if count == len(kept):
        return bytes([_WHOLE])
    if count * _SPARSE >= len(kept):
        return bytes([_BITMAP]) + np.packbits(kept, bitorder="little").tobytes()
    steps = np.diff(np.flatnonzero(kept), prepend=-1)
    most = int(steps.max(initial=0))
    width = next(width for width in _WIDTHS if most < 1 << 8 * width)
    planes = steps.astype(f"<u{width}").view(np.uint8).reshape(count, width).T
    return bytes([_PLACES, width]) + count.to_bytes(4, "little") + planes.tobytes()


def _kept(raw: bytes, position: int, size: int) -> tuple[NDArray[np.bool_], int]:
    """Read one record; return what is kept and where the next record begins."""
    kind = raw[position] if position < len(raw) else -1
    position += 1
    if kind == _WHOLE:
        return np.ones(size, dtype=bool), position
    if kind == _BITMAP:
        packed = _taken(raw, position, -(-size // 8))
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
        if bits[size:].any():
            raise WireError(f"a bitmap of {size} weights has bits beyond them.")
        return bits[:size].astype(bool), position + len(packed)
    if kind != _PLACES:
        raise WireError(f"a record of a structure begins with 0, 1 or 2, got {kind}.")
    width, *rest = _taken(raw, position, 5)
    count = int.from_bytes(bytes(rest), "little")
    if width not in _WIDTHS:
        raise WireError(f"steps between places take 1, 2 or 4 bytes, got {width}.")
    if count * _SPARSE >= size and size:
        raise WireError(f"{count} places of {size} weights are to be a bitmap.")
    packed = _taken(raw, position + 5, count * width)
    planes = np.frombuffer(packed, np.uint8).reshape(width, count)
    steps = np.ascontiguousarray(planes.T).view(f"<u{width}").reshape(count).astype(np.int64)
    places = steps.cumsum() - 1
    if count and (not steps.all() or int(places[-1]) >= size):
        raise WireError(f"places must rise and be below {size}.")
    kept = np.zeros(size, dtype=bool)
    kept[places] = True
    return kept, position + 5 + len(packed)


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
