"""What a client does when the server asks: train, judge, or prune alone."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.criteria import Gathering
from prunus.errors import TrainingError, WireError
from prunus.federated.holding import Holding
from prunus.federated.initial import prune_alone
from prunus.federated.measuring import fitted, measure
from prunus.federated.packet import Packet
from prunus.federated.samples import OnlyTraining, described
from prunus.federated.sums import sealed
from prunus.federated.task import Task
from prunus.federated.wire import counters_kept, give, tensors_of
from prunus.training import Data, evaluate, fit
from prunus.training.data import Split
from prunus.types import Mask


@dataclass
class Memory:
    """What a client keeps between messages; it may be lost at any time.

    Attributes:
        version: Of the structure; -1 for none.
        period: The last round that had decided what is kept when the sums were begun.
        structure: Which weights are kept, as `Layout.structure` writes it.
        sums: What it has summed up and not yet sent.
    """

    version: int = -1
    period: int = 0
    structure: bytes = b""
    sums: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it as tensors."""
        held = {f"sums.{name}": value for name, value in self.sums.items()}
        structure = torch.from_numpy(np.frombuffer(self.structure, np.uint8).copy())
        counts = {"version": torch.tensor(self.version), "period": torch.tensor(self.period)}
        return {**counts, "structure": structure, **held}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Memory":
        """Return the memory that `tensors` gave."""
        sums = {n.removeprefix("sums."): x for n, x in tensors.items() if n.startswith("sums.")}
        version, period = (int(tensors[name].item()) for name in ("version", "period"))
        return cls(version, period, tensors["structure"].numpy().tobytes(), sums)


@dataclass(frozen=True)
class Client:
    """One participant.

    Args:
        name: Among all.
        data: Its own; they never leave.
        task: What all of them do.
    """

    name: str
    data: Data
    task: Task

    def answer(self, packet: Packet, memory: Memory) -> Packet:
        """Do what a packet asks for; `memory` is changed in place.

        Raises:
            WireError: The packet is damaged or of another network.
        """
        with counters_kept(self.task.model):
            return self._answered(packet, memory)

    def _answered(self, packet: Packet, memory: Memory) -> Packet:
        if packet.kind == "describe":
            return Packet({"kind": "described", "client": self.name, **described(self.data)})
        if packet.kind == "measure":
            return measure(self.task, self.data)
        if packet.kind == "initial":
            return self._prune_alone(packet)
        version = packet.get("version", int)
        if "structure" in packet.parts:
            memory.version, memory.structure = version, packet.part("structure")
        if memory.version != version:
            return Packet({"kind": "need", "version": version})
        mask = self.task.mask_of(memory.structure)
        values = packet.part("values")
        give(self.task.model, self.task.layout.tensors(values, mask, self.task.precision))
        if packet.kind == "evaluate":
            return self._judge()
        if packet.kind != "train":
            raise WireError(f"a packet must ask to train, evaluate or prune, got {packet.kind!r}.")
        try:
            return self._train(packet, memory, mask)
        except (TrainingError, OverflowError) as error:
            return Packet({"kind": "failed", "reason": str(error)})

    def _train(self, packet: Packet, memory: Memory, mask: Mask) -> Packet:
        task, round_ = self.task, packet.get("round", int)
        model = task.model
        gathers, sends = packet.get("gathers", bool), packet.get("sends", bool)
        if memory.period != (period := packet.get("period", int)):
            memory.period, memory.sums = period, {}  # they are of another mask
        start, steps = (round_ - 1) * task.local_steps, task.local_steps
        settings = task.train.model_copy(
            update={
                "lr": packet.get("lr", float),
                "start": f"{start}it",
                "length": f"{start + steps}it",
                "eval_every": f"{start + steps}it",
                "checkpoint_every": f"{start + steps}it",
            }
        )
        hook, data = Holding(model, mask, gathers), OnlyTraining(self.data)
        begin = time.perf_counter()
        try:
            history = fit(model, data, settings, seed=task.seed_of(round_, self.name), hook=hook)
        finally:
            hook.done()
        seconds = time.perf_counter() - begin
        header: dict[str, Any] = {
            "kind": "trained",
            "version": memory.version,
            "precision": task.precision,
            "loss": history.final["train_loss"],
            "seconds": seconds,
        }
        parts = {"values": task.layout.values(tensors_of(model), mask, task.precision)}
        if gathers and task.gathers is not None:
            gathering = Gathering(task.gathers)
            gathering.merge(memory.sums)
            sums = {name: value.cpu() for name, value in hook.sums.items()}
            gathering.add(sums, weight=data.seen)
            memory.sums = gathering.sums
        if sends:
            share = task.evidence_share
            parts |= sealed(memory.sums, task.sums, mask, task.precision, share)
            memory.sums = {}
        return Packet(header, parts)

    def _judge(self) -> Packet:
        """Evaluate on what the client does not train on, or else on what it has."""
        own: Split = "test" if self.task.own_tests else "val"
        split = own if next(self.data.eval_batches(own), None) is not None else "train"
        found = evaluate(self.task.model, self.data, split)
        header: dict[str, Any] = {
            "kind": "evaluated",
            "split": split,
            "accuracy": found.accuracy,
            "loss": found.loss,
            "count": found.count,
        }
        return Packet(header)

    def _prune_alone(self, packet: Packet) -> Packet:
        task = self.task
        if task.measures and task.measured is None:  # what is worth its time on this device
            task = replace(task, measured=fitted(task, [measure(task, self.data)]))
        values = packet.part("values")
        whole: Mask = {}
        give(task.model, task.layout.tensors(values, whole, task.precision))
        begin = time.perf_counter()
        try:
            found = prune_alone(task, self.data)
        except TrainingError as error:
            return Packet({"kind": "failed", "reason": str(error)})
        header: dict[str, Any] = {
            "kind": "pruned",
            "version": 0,
            "precision": task.precision,
            "loss": 0.0,
            "seconds": time.perf_counter() - begin,
            "model_seconds": found.seconds,
            "rounds": found.rounds,
        }
        parts = {
            "structure": task.layout.structure(found.mask),
            "values": task.layout.values(tensors_of(task.model), found.mask, task.precision),
        }
        return Packet(header, parts)
