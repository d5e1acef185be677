"""What a server and a client say to each other, whatever carries it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from prunus.errors import WireError

Scalar = bool | int | float | str
Kind = TypeVar("Kind", bool, int, float, str)


@dataclass(frozen=True)
class Packet:
    """A message: a few named scalars and, by name, bytes that `Layout` writes and reads.

    Args:
        header: Name -> scalar; "kind" says what the packet is.
        parts: Name -> bytes.
    """

    header: Mapping[str, Scalar]
    parts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the packet is; "" where it does not say."""
        kind = self.header.get("kind")
        return kind if isinstance(kind, str) else ""

    @property
    def size(self) -> int:
        """Bytes of the message: of parts, names and texts, and eight of each number."""
        scalars = (len(x) if isinstance(x, str) else 8 for x in self.header.values())
        names = sum(map(len, (*self.header, *self.parts)))
        return sum(scalars) + names + sum(map(len, self.parts.values()))

    def get(self, name: str, kind: type[Kind]) -> Kind:
        """Return a scalar of the header.

        Raises:
            WireError: It is missing, of another type, or not finite.
        """
        value = self.header.get(name)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise WireError(f"a packet's {name!r} must be {kind.__name__}, got {value!r}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise WireError(f"a packet's {name!r} must be finite, got {value}.")
        return value

    def part(self, name: str) -> bytes:
        """Return a part.

        Raises:
            WireError: It is missing.
        """
        if name not in self.parts:
            raise WireError(f"a packet of kind {self.header.get('kind')!r} lacks {name!r}.")
        return self.parts[name]
