"""What carries packets between the server and its clients."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from prunus.federated.client import Client, Memory
from prunus.federated.packet import Packet
from prunus.federated.task import Task
from prunus.training import Data


class Exchange(Protocol):
    """A way to ask clients."""

    def clients(self) -> Sequence[str]:
        """Return the addresses that can be asked now."""

    def ask(self, packets: Mapping[str, Packet]) -> dict[str, Packet | str]:
        """Ask several clients at once.

        Args:
            packets: Address -> what is asked.

        Returns:
            Address -> its answer, or why there is none.
        """

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""


class InProcess:
    """Clients in this process, one after the other: no network, no further process.

    Args:
        task: What they do.
        data: Client -> its data.
    """

    def __init__(self, task: Task, data: Mapping[str, Data]) -> None:
        self._clients = {name: Client(name, own, task) for name, own in data.items()}
        self.memories: dict[str, Memory] = {}

    def clients(self) -> Sequence[str]:
        """Return the names of all clients."""
        return sorted(self._clients)

    def ask(self, packets: Mapping[str, Packet]) -> dict[str, Packet | str]:
        """Let each client answer in turn."""
        return {
            name: self._clients[name].answer(packet, self.memories.setdefault(name, Memory()))
            for name, packet in packets.items()
        }

    def state(self) -> dict[str, Tensor]:
        """Return what the clients keep; structures that many of them keep are there once."""
        held: dict[str, Tensor] = {}
        for name, memory in self.memories.items():
            tensors = memory.tensors()
            held[f"structures/{memory.version}"] = tensors.pop("structure")
            held |= {f"{name}/{key}": value for key, value in tensors.items()}
        return held

    def load_state(self, state: dict[str, Any]) -> None:
        """Give the clients back what they kept."""
        structures: dict[str, Tensor] = {}
        held: dict[str, dict[str, Tensor]] = {}
        for key, value in state.items():
            name, _, what = key.rpartition("/")
            if name == "structures":
                structures[what] = value
            else:
                held.setdefault(name, {})[what] = value
        self.memories = {
            name: Memory.of(own | {"structure": structures[str(int(own["version"]))]})
            for name, own in held.items()
        }
