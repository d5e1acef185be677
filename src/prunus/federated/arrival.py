"""What a client sent, checked before anything is done with it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from statistics import median

import torch
from torch import Tensor

from prunus.errors import WireError
from prunus.federated.packet import Packet
from prunus.federated.sums import unsealed
from prunus.federated.wire import Layout, Precision
from prunus.types import Mask

LARGEST = 1e30
"""Beyond it, sums over clients would not be finite in float32."""

_EVIDENCE = 1000.0
"""Times the median client's: most that one client's sums may come to."""


class Refused(WireError):
    """An update that is not taken in.

    Args:
        reason: "malformed", "version", "dtype", "shape", "not finite" or "norm".
        text: What is wrong with it.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Update:
    """A client's weights after a round.

    Attributes:
        values: Of all that is kept, in a row as `Layout.flat` puts them.
        loss: Its mean loss while it trained.
        seconds: That took so long there.
        gathered: Parameter name -> what it has summed up; empty where it was not asked.
    """

    values: Tensor
    loss: float
    seconds: float
    gathered: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Inspector:
    """Checks updates of one round against what was sent out.

    Args:
        layout: Of the network.
        mask: What is kept.
        version: Of the mask.
        before: The values that were sent, in a row, the norm of which bounds the update's.
        precision: In which values are to come.
        bound: Most that an update may move: its L2 norm over that of `before`.
        sums: Of the sums that are to come with it; None for none.
        signed: Whether those may be negative.
    """

    layout: Layout
    mask: Mask
    version: int
    before: Tensor
    precision: Precision
    bound: float
    sums: Layout | None = None
    signed: bool = False

    def opened(self, packet: Packet) -> Update:
        """Return the update in a packet.

        Raises:
            Refused: It must not be averaged.
        """
        try:
            version, precision = packet.get("version", int), packet.get("precision", str)
            loss, seconds = packet.get("loss", float), packet.get("seconds", float)
            written = packet.part("values")
        except WireError as error:
            raise Refused("malformed", str(error)) from error
        if version != self.version:
            raise Refused("version", f"the mask is version {self.version}, got {version}.")
        if precision != self.precision:
            raise Refused("dtype", f"values must come in {self.precision}, got {precision!r}.")
        try:
            values = self.layout.row(written, self.mask, self.precision)
            gathered = {} if self.sums is None else unsealed(packet, self.sums)
        except WireError as error:
            raise Refused("shape", str(error)) from error
        sums = [_range(x) for x in gathered.values()]
        if not all(map(math.isfinite, chain(_range(values), *sums))):
            raise Refused("not finite", "a value is not finite.")
        if max(map(abs, (loss, seconds, *chain(*sums)))) > LARGEST:
            raise Refused("not finite", f"a loss, a time or a sum is beyond {LARGEST:g}.")
        if not self.signed and any(low < 0 for low, _ in sums):
            raise Refused("malformed", "a sum of squares is negative.")
        moved, most = float((values - self.before).norm()), self.bound * self._norm
        if moved > most:
            raise Refused("norm", f"the weights moved by {moved:.3g}, at most {most:.3g} may be.")
        return Update(values, loss, seconds, gathered)

    @cached_property
    def _norm(self) -> float:
        return float(self.before.norm())


def outweighing(updates: Mapping[str, Update]) -> set[str]:
    """Return the clients whose sums are out of all proportion to the others'.

    Sums grow with a client's samples and with the square of its gradients. Below so many times the
    median's they count, so that a client that lies within them weighs more than it should. Of two
    clients neither can be told to be out of proportion.
    """
    sizes = {
        name: sum(float(x.abs().sum(dtype=torch.float64)) for x in update.gathered.values())
        for name, update in updates.items()
    }
    most = _EVIDENCE * median(sizes.values()) if len(sizes) > 2 else math.inf
    return {name for name, size in sizes.items() if size > most > 0}


def _range(x: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest value, both NaN if one is."""
    low, high = x.aminmax() if x.numel() else (x.sum(), x.sum())
    return float(low), float(high)
