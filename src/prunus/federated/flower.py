"""Flower carries packets: as records of a message, through a grid of nodes.

Needs the extra `fed`. A packet's scalars are a ConfigRecord, its parts an ArrayRecord of plain
bytes, which Flower cuts into chunks, so that their size has no limit.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from prunus.errors import WireError
from prunus.federated.client import Memory
from prunus.federated.packet import Packet

_RAW = "prunus.bytes"  # how the arrays are serialised: not at all
_SCALARS = (bool, int, float, str)
_POLL = 0.3  # seconds between looks for answers
_TYPES = {"describe": MessageType.QUERY, "evaluate": MessageType.EVALUATE}
_GREETING = 60.0  # seconds to say who one is, which every round waits for
_SPARE = 10.0  # seconds for the answer that a message's time is over


def to_records(packet: Packet) -> RecordDict:
    """Return a packet as the content of a message."""
    return RecordDict({"header": ConfigRecord(dict(packet.header)), "parts": _arrays(packet.parts)})


def from_records(content: RecordDict) -> Packet:
    """Return the packet in the content of a message, which may come from anyone.

    Raises:
        WireError: There is none.
    """
    header, parts = content.get("header"), content.get("parts")
    if not isinstance(header, ConfigRecord) or not isinstance(parts, ArrayRecord):
        raise WireError("a message must hold a header and parts; all sides need one version.")
    scalars = {name: value for name, value in header.items() if isinstance(value, _SCALARS)}
    return Packet(scalars, {name: array.data for name, array in parts.items()})


def remember(state: RecordDict, memory: Memory) -> None:
    """Keep a client's memory on its node, where it lasts as long as the node runs."""
    tensors = {name: x.numpy() for name, x in memory.tensors().items()}
    state["memory"] = ArrayRecord({name: Array(np.atleast_1d(x)) for name, x in tensors.items()})


def recall(state: RecordDict) -> Memory:
    """Return what `remember` kept; an empty memory where there is nothing."""
    kept = state.get("memory")
    if not isinstance(kept, ArrayRecord):
        return Memory()
    return Memory.of({name: _tensor(array) for name, array in kept.items()})


class OverGrid:
    """An exchange over Flower's grid: every message has a time to live, every wait an end.

    Args:
        grid: Of the run.
        seconds: How long a client may take for a round; what comes later is lost. Once one has
            answered, others have up to a minute of that to say who they are.
        alone: How long it may take to prune alone.
        least: Nodes to wait for at the beginning.
    """

    def __init__(
        self, grid: Grid, *, seconds: float = 600.0, alone: float = 36000.0, least: int = 1
    ) -> None:
        self._grid, self._seconds, self._alone, self._least = grid, seconds, alone, least
        self._waited = self._met = False

    def clients(self) -> Sequence[str]:
        """Return the nodes that are there; at first, wait until there are enough."""
        end = time.monotonic() + self._seconds
        while True:
            found = sorted(map(str, self._grid.get_node_ids()))
            if self._waited or len(found) >= self._least:
                break
            if time.monotonic() > end:
                warnings.warn(
                    f"{len(found)} of {self._least} nodes came within {self._seconds:g} s; the "
                    "federation begins with those.",
                    stacklevel=2,
                )
                break
            time.sleep(_POLL)
        self._waited = True
        return found

    def ask(self, packets: Mapping[str, Packet]) -> dict[str, Packet | str]:
        """Ask nodes; those that are gone, fail or take too long have a reason for an answer."""
        there = set(self.clients())
        found: dict[str, Packet | str] = {
            node: "the node is gone" for node in packets if node not in there
        }
        asked = {node: packet for node, packet in packets.items() if node in there}
        if not asked:
            return found
        seconds = min(map(self._time_of, asked.values()))
        messages = [
            Message(
                content=to_records(packet),
                dst_node_id=int(node),
                message_type=_TYPES.get(packet.kind, MessageType.TRAIN),
                ttl=seconds,
            )
            for node, packet in asked.items()
        ]
        ids = list(self._grid.push_messages(messages))
        waiting = dict(zip(ids, asked, strict=True))
        end = time.monotonic() + seconds + _SPARE
        while waiting and time.monotonic() < end:
            for reply in self._grid.pull_messages(list(waiting)):
                node = waiting.pop(reply.metadata.reply_to_message_id, None)
                if node is not None:
                    found[node] = _answer(reply)
            if waiting:
                time.sleep(_POLL)
        self._met |= any(isinstance(answer, Packet) for answer in found.values())
        return found | dict.fromkeys(waiting.values(), "no answer in time")

    def _time_of(self, packet: Packet) -> float:
        """Return how many seconds an answer may take."""
        if packet.kind == "initial":
            return self._alone
        if packet.kind == "describe" and self._met:  # others are waiting meanwhile
            return min(_GREETING, self._seconds)
        return self._seconds

    def state(self) -> dict[str, Tensor]:
        """Return nothing: nodes keep what is theirs."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def _answer(reply: Message) -> Packet | str:
    if reply.has_error():
        return f"error {reply.error.code}: {reply.error.reason}"
    try:
        return from_records(reply.content)
    except WireError as error:
        return str(error)


def _arrays(parts: Mapping[str, bytes]) -> ArrayRecord:
    return ArrayRecord(
        {
            name: Array(dtype="uint8", shape=(len(data),), stype=_RAW, data=data)
            for name, data in parts.items()
        }
    )


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(array.numpy().copy())
