"""What a compact sparse file takes, tensor by tensor, beside what it could take at best."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from prunus.deploy.container import Entry
from prunus.deploy.values import word


@dataclass(frozen=True)
class Size:
    """What a tensor, or all of a file, takes.

    Args:
        name: The tensor's, or the file's.
        elements: How many numbers it has.
        nonzero: How many of them are not zero; -0.0 is not.
        dense: Bytes in memory and in a safetensors file.
        bound: Bytes of the entropy of where the nonzeros are, tensor by tensor as if by chance,
            and of the nonzeros as they are stored. What the values have in common lets a file be
            smaller; names and scales make it larger.
        stored: Bytes in the file.
    """

    name: str
    elements: int
    nonzero: int
    dense: int
    bound: float
    stored: int


def sizes(path: str, entries: Iterable[Entry], total: int) -> list[Size]:
    """Return what each tensor of a file of `total` bytes takes, and last what the file does."""
    rows = [
        Size(
            name=entry.name,
            elements=entry.elements,
            nonzero=entry.nonzero,
            dense=entry.dense,
            bound=_bound(entry),
            stored=entry.size,
        )
        for entry in entries
    ]
    whole = Size(
        name=path,
        elements=sum(row.elements for row in rows),
        nonzero=sum(row.nonzero for row in rows),
        dense=sum(row.dense for row in rows),
        bound=sum(row.bound for row in rows),
        stored=total,
    )
    return [*rows, whole]


def _bound(entry: Entry) -> float:
    """Return the bytes of a tensor's mask, as if by chance, and of its nonzeros as stored."""
    values = entry.nonzero * word(entry.stored or entry.dtype).itemsize
    share = entry.nonzero / max(1, entry.elements)
    if share in (0, 1):
        return float(values)
    bits = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    return values + entry.elements * bits / 8
