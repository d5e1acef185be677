"""The server: rounds of federated averaging in which a pruner decides what is kept."""

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from prunus.errors import TrainingError, WireError
from prunus.federated.arrival import LARGEST, Inspector, Refused, Update, outweighing
from prunus.federated.conditions import Conditions
from prunus.federated.exchange import Exchange
from prunus.federated.packet import Packet
from prunus.federated.task import Task
from prunus.federated.wire import give, tensors_of
from prunus.pruning import Pruner

_BYTES = 8  # of a weight that is received and sent back in float32


@dataclass
class Traffic:
    """What has travelled and what was not taken in, since the beginning.

    Attributes:
        down: Bytes to clients.
        up: Bytes from clients.
        refused: Reason -> updates.
        lost: Answers that never came: dropouts and failures of clients.
        late: Updates after the deadline.
        needed: How often a client asked for the structure.
    """

    down: int = 0
    up: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    late: int = 0
    needed: int = 0


class Server:
    """All that the server holds, and what it does in a round.

    Args:
        task: What participants do.
        model: The global network, trained in place.
        pruner: Of that network; its steps are rounds.
        exchange: Carries packets.
        conditions: Who takes part.

    Attributes:
        addresses: Client -> its address in the exchange.
        round: The last round that is over.
        version: Of the mask; rises when it changes.
        decided: The last round whose evidence decided what is kept.
        simulated: Seconds on the simulated clock.
        traffic: What has travelled.
        known: Client -> the version of the mask that it has acknowledged.
        measured: Client -> seconds of the real clock that its training took in the last round.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        pruner: Pruner,
        exchange: Exchange,
        conditions: Conditions,
    ) -> None:
        self.task, self.model, self.pruner = task, model, pruner
        self.exchange, self.conditions = exchange, conditions
        self.addresses: dict[str, str] = {}
        self.round = self.version = self.decided = 0
        self.simulated = 0.0
        self.traffic = Traffic()
        self.known: dict[str, int] = {}
        self.measured: dict[str, float] = {}
        self._structure = -1, b""

    def meet(self, name: str, address: str, samples: int) -> None:
        """Take in a client, or one that comes back from elsewhere."""
        self.addresses[name] = address
        self.conditions.samples[name] = samples
        self.known.pop(name, None)

    def advance(self) -> dict[str, Any]:
        """Do the next round; return its record."""
        self.round += 1
        mask = self.pruner.mask
        weights = self.conditions.participants(self.round)
        gathers, sends = self._gathers()
        header = {
            "kind": "train",
            "round": self.round,
            "version": self.version,
            "lr": self._rate(),
            "period": self.decided,
            "gathers": gathers,
            "sends": sends,
        }
        own = {name: mask[name] for name in self.task.layout.shapes if name in mask}
        before = self.task.layout.flat(tensors_of(self.model), own)
        gone = self.conditions.dropped(self.round) & weights.keys()
        answers, bytes_ = self._ask(header, [*weights], gone)
        inspector = Inspector(
            self.task.layout,
            own,
            self.version,
            before,
            self.task.precision,
            self.task.recipe.rounds.norm_bound,
            self.task.sums if sends else None,
            signed=self.task.gathers != "squares",
        )
        training = self.task.training_seconds(mask, gathers)
        per_byte = self.task.time.communication / _BYTES
        taken = {
            name: self.conditions.seconds(name, training, per_byte * bytes_[name])
            for name in answers
        }
        updates = self._taken(answers, inspector, taken)
        for name in outweighing(updates) if sends else ():
            self.traffic.refused["evidence"] += 1  # its weights are averaged all the same
            updates[name] = replace(updates[name], gathered={})
        self.measured = {name: update.seconds for name, update in updates.items()}
        lost = len(weights) - len(answers)
        self.traffic.lost += lost
        self.simulated += self.conditions.round_seconds(taken, missing=lost > 0)
        if updates:  # without any the network stays as it is
            give(self.model, self.task.layout.spread(_mean(weights, updates), own))
        changed = self._prune(updates, sends)
        return {
            "round": self.round,
            "asked": len(weights),
            "averaged": len(updates),
            "train_loss": _mean_loss(weights, updates),
            "simulated_seconds": self.simulated,
            "down": self.traffic.down,
            "up": self.traffic.up,
            "density": self.task.density(self.pruner.mask),
            "reconfigured": changed,
            "layers": self.layers() if changed else None,
        }

    def layers(self) -> dict[str, float]:
        """Return the share of weights that each layer keeps."""
        kept = self.task.kept(self.pruner.mask)
        return {g.name: n / g.size for g, n in zip(self.task.layers, kept, strict=True)}

    def initial_packet(self) -> Packet:
        """Return what asks a party to prune alone."""
        values = self.task.layout.values(tensors_of(self.model), {}, self.task.precision)
        return Packet({"kind": "initial"}, {"values": values})

    def start_from(self, answer: Packet | str, name: str | None, sent: int) -> int:
        """Take over what one party found alone; return the rounds that it trained.

        Args:
            answer: Its packet.
            name: The client; None where the server was the party, so that nothing travelled.
            sent: Bytes of what it was sent.

        Raises:
            TrainingError: It could not be done.
        """
        who = name or "the server"
        if isinstance(answer, str) or answer.kind != "pruned":
            reason = answer if isinstance(answer, str) else str(answer.header.get("reason"))
            raise TrainingError(f"the initial pruning by {who} failed: {reason}.")
        layout, precision = self.task.layout, self.task.precision
        try:
            mask = layout.mask(answer.part("structure"))
            before = layout.flat(tensors_of(self.model), mask)
            found = Inspector(layout, mask, 0, before, precision, bound=float("inf")).opened(answer)
            rounds, training = answer.get("rounds", int), answer.get("model_seconds", float)
            if min(rounds, training) < 0 or training > LARGEST:
                raise WireError(f"{rounds} rounds in {training:g} s cannot be.")
        except WireError as error:
            raise TrainingError(f"the initial pruning by {who} cannot be read: {error}") from error
        self.pruner.adopt(mask)  # first, so that what returns later has the values from before
        give(self.model, layout.spread(found.values, mask))
        self.version += 1
        if name is not None:
            self.traffic.down += sent
            self.traffic.up += answer.size
            sending = self.task.time.communication / _BYTES * (sent + answer.size)
            self.simulated += self.conditions.seconds(name, training, sending)
        return rounds

    def judge(self, names: list[str]) -> dict[str, float]:
        """Return the accuracy of the global network on data of each client's own."""
        answers, _ = self._ask({"kind": "evaluate", "version": self.version}, names, counted=False)
        found = {}
        for name, answer in answers.items():
            with suppress(WireError):  # one who does not say it is not counted
                accuracy = answer.get("accuracy", float)
                if 0 <= accuracy <= 1:
                    found[name] = accuracy
        return found

    def _ask(
        self,
        header: Mapping[str, Any],
        names: list[str],
        gone: Collection[str] = (),
        *,
        counted: bool = True,
    ) -> tuple[dict[str, Packet], dict[str, int]]:
        """Send the network to clients; return their answers and the bytes of each, both ways.

        Args:
            header: Of the packets.
            names: Of the clients.
            gone: Which of them only seem to be sent theirs, as if they had dropped out.
            counted: Whether the bytes count as traffic.
        """
        mask, layout = self.pruner.mask, self.task.layout
        own = {name: mask[name] for name in layout.shapes if name in mask}
        values = {"values": layout.values(tensors_of(self.model), own, self.task.precision)}
        if self._structure[0] != self.version:
            self._structure = self.version, layout.structure(own)
        whole = values | {"structure": self._structure[1]}
        packets = {
            name: Packet(header, values if self.known.get(name) == self.version else whole)
            for name in names
        }
        sizes = dict.fromkeys(names, 0)
        answers: dict[str, Packet] = {}
        for _ in range(2):  # again, with the structure, those that have lost it
            sent = {self.addresses[n]: p for n, p in packets.items() if n not in gone}
            found = self.exchange.ask(sent)
            lacking = []
            for name, packet in packets.items():
                answer = found.get(self.addresses[name], "no answer")
                sizes[name] += packet.size + (0 if isinstance(answer, str) else answer.size)
                if counted:
                    self.traffic.down += packet.size
                    self.traffic.up += 0 if isinstance(answer, str) else answer.size
                if isinstance(answer, str):
                    self.known.pop(name, None)
                elif answer.kind == "need":
                    lacking.append(name)
                else:
                    self.known[name] = self.version
                    answers[name] = answer
            if not lacking:
                break
            self.traffic.needed += len(lacking)
            packets = {name: Packet(header, whole) for name in lacking}
        return answers, sizes

    def _taken(
        self, answers: Mapping[str, Packet], inspector: Inspector, seconds: Mapping[str, float]
    ) -> dict[str, Update]:
        """Return the updates that came in time and are as they should be, in order of names."""
        deadline = self.conditions.table.deadline
        updates = {}
        for name in sorted(answers):
            if deadline is not None and seconds[name] > deadline:
                self.traffic.late += 1
                continue
            if answers[name].kind == "failed":
                self.traffic.refused["failed"] += 1
                continue
            try:
                updates[name] = inspector.opened(answers[name])
            except Refused as refused:
                self.traffic.refused[refused.reason] += 1
        return updates

    def _prune(self, updates: Mapping[str, Update], sends: bool) -> bool:
        """Count the round; say whether the mask changed."""
        gathering = self.pruner.gathering
        before = self.pruner.mask
        self.pruner.hold()
        if gathering is not None and sends:
            if not updates:  # nothing to decide by: the next round that has something decides
                return False
            gathering.clear()
            for update in updates.values():
                gathering.merge(update.gathered)
            self.decided = self.round
        self.pruner.update(late=sends)
        after = self.pruner.mask
        changed = any(not torch.equal(before[name], after[name]) for name in after)
        self.version += changed
        return changed

    def _gathers(self) -> tuple[bool, bool]:
        """Say whether clients sum up gradients in this round, and whether they send them."""
        if self.pruner.gathering is None:
            return False, False
        timeline = self.pruner.timeline
        sends = any(map(timeline.due, range(self.decided + 1, self.round + 1)))
        more = self.task.recipe.rounds.evidence == "all" and self.round <= timeline.end
        return sends or more, sends

    def _rate(self) -> float:
        rounds, rate = self.task.recipe.rounds, self.task.train.lr
        past = (self.round - 1) // rounds.lr_every if rounds.lr_every else 0
        return float(rate * rounds.lr_gamma**past)


def _mean(weights: Mapping[str, float], updates: Mapping[str, Update]) -> Tensor:
    """Return the weighed mean of what clients sent, float32 in a row."""
    total, mean = 0.0, next(iter(updates.values())).values.clone()
    for name, update in updates.items():  # equal values stay what they are
        total += weights[name]
        mean.lerp_(update.values, weights[name] / total)
    return mean


def _mean_loss(weights: Mapping[str, float], updates: Mapping[str, Update]) -> float | None:
    total = sum(weights[name] for name in updates)
    return sum(weights[n] * u.loss for n, u in updates.items()) / total if updates else None
