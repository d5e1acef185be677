"""From a recipe to the result of a federated run."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from prunus import __version__
from prunus.errors import ExportError, RecipeError
from prunus.federated import checkpoint
from prunus.federated.client import Client, Memory
from prunus.federated.conditions import Conditions
from prunus.federated.document import document
from prunus.federated.exchange import Exchange, InProcess
from prunus.federated.federation import Server
from prunus.federated.measuring import kept_or_measured
from prunus.federated.meeting import meet
from prunus.federated.recipe import FederatedRecipe
from prunus.federated.samples import Thinned
from prunus.federated.task import Task, data_of, network_of, server_data
from prunus.files import alone, read_json, write_json, write_tensors, write_text
from prunus.pruning import Pruner
from prunus.report import write_federation
from prunus.run.document import environment
from prunus.saving import save
from prunus.training import Data, evaluate
from prunus.training.metrics import RecordLog, append_line
from prunus.training.participants import launch
from prunus.training.placement import placed

Tell = Callable[[Mapping[str, Any]], None]
"""Called with the record of each round, those of an earlier process first."""

_ENDING = 60.0  # seconds for a server whose SuperLink is gone to notice


@dataclass(frozen=True)
class Finished:
    """A federated run that is done.

    Args:
        directory: Where its files lie: `result.json`, `report.html`, `mask.safetensors`,
            `pruned.safetensors` and the records of all rounds.
        document: What `result.json` holds.
    """

    directory: Path
    document: Mapping[str, Any]


def federate(
    recipe: FederatedRecipe,
    root: Path | str = Path("runs"),
    *,
    exchange: Callable[[Task], Exchange] | None = None,
    tell: Tell = lambda record: None,
) -> Finished:
    """Run a federation, or go on with one that was stopped.

    After each round the server's state is written; a run that was killed goes on after the last
    round that was written. With clients in this process, it ends with the same bits on the CPU.
    The initial pruning is repeated if it was not over.

    Args:
        recipe: What to do.
        root: The folder of all runs.
        exchange: Makes what carries packets; None for clients in this process.
        tell: Told of each round.

    Raises:
        DataError: The data are missing or damaged.
        CheckpointError: A checkpoint is damaged, or of another run.
        TargetError: The target cannot be reached.
        RecipeError: All rounds' evidence is to count, but not all clients are in each.
        TrainingError: No client can be asked, or the initial pruning failed.
        EquivalenceError: The network without what was pruned differs from the masked one.
        BlockingIOError: Another process is at this run.
        OSError: A file cannot be written.
    """
    directory = directory_of(recipe, root)
    result = directory / "result.json"
    if result.exists():
        for record in (found := read_json(result))["rounds"]:
            tell(record)
        return Finished(directory, found)
    with alone(directory, seconds=_ENDING):
        return _performed(recipe, directory, exchange, tell)


def _performed(
    recipe: FederatedRecipe,
    directory: Path,
    exchange: Callable[[Task], Exchange] | None,
    tell: Tell,
) -> Finished:
    write_text(directory / "recipe.toml", recipe.to_toml())
    task = Task.of(recipe)
    carried = exchange(task) if exchange is not None else InProcess(task, data_of(recipe))
    if task.measures:
        task = replace(task, measured=kept_or_measured(task, carried, directory / "time.json"))
    run = _Run(recipe, directory, task, carried)
    run.to_the_end(tell)
    found = run.conclude()
    write_federation(found, directory / "report.html")
    write_json(directory / "result.json", found)  # from then on the run is finished
    run.checkpoint.unlink(missing_ok=True)
    return Finished(directory, found)


def directory_of(recipe: FederatedRecipe, root: Path | str) -> Path:
    """Return where the files of a run lie."""
    return Path(root) / f"{recipe.name}-{recipe.hash8}" / f"seed-{recipe.seed}"


class _Run:
    """A federated run between its first and its last round."""

    def __init__(
        self, recipe: FederatedRecipe, directory: Path, task: Task, exchange: Exchange
    ) -> None:
        self.recipe, self.directory, self.task = recipe, directory, task
        self.checkpoint = directory / "federation.checkpoint.safetensors"
        self.log = RecordLog(directory / "rounds.jsonl")
        model = network_of(recipe)
        pruner = Pruner(model, task.example, task.method, target=recipe.target, seed=recipe.seed)
        conditions = Conditions(recipe.clients, {}, recipe.seed)
        self.server = Server(task, model, pruner, exchange, conditions)
        self.left_out: dict[str, str] = {}
        self.made_by = {
            "version": __version__,
            "recipe": recipe.model_dump(mode="json", exclude={"name"}),
        }

    @cached_property
    def data(self) -> Data:
        """What the global network is judged on."""
        return server_data(self.recipe)

    def to_the_end(self, tell: Tell) -> None:
        """Do all rounds that are not yet done."""
        server = self.server
        self._meet()
        if not self.checkpoint.exists():
            self._check_evidence()
        if checkpoint.restore(server, self.log, self.made_by, self.checkpoint):
            for record in self.log.records:
                tell(record)
        else:
            self._begin(tell)
        while server.round < self.recipe.rounds.total:
            began = time.perf_counter()
            self._meet()
            record = server.advance()
            last = server.round == self.recipe.rounds.total
            if last or server.round % self.recipe.rounds.evaluate_every == 0:
                record |= self._judged(last)
            self._keep(record, began, tell)

    def _meet(self) -> None:
        """Take in those who have come since the last round."""
        classes = getattr(self.data, "class_names", ())
        self.left_out = meet(self.server, classes, count=self.data.classes)

    def _check_evidence(self) -> None:
        """Refuse to let clients sum up what they are never asked for.

        Raises:
            RecipeError: Not all clients are in each round, though all rounds' evidence is to count.
        """
        table, there = self.recipe.clients, len(self.server.addresses)
        every = table.per_round >= there and table.sampling == "uniform"
        if self.recipe.rounds.evidence == "all" and self.task.gathers is not None and not every:
            raise RecipeError(
                "rounds.evidence 'all' needs every client in every round, since what others have "
                f"summed up would be lost; got {table.per_round} of {there} clients a round, "
                f"{table.sampling} sampling. Take 'last', or clients.per_round = {there}."
            )

    def conclude(self) -> dict[str, Any]:
        """Remove what is pruned, write the networks, and return the result document."""
        server = self.server
        names = sorted(server.addresses)
        count = min(self.recipe.rounds.judged, len(names))
        chosen = torch.randperm(
            len(names), generator=torch.Generator().manual_seed(self.recipe.seed)
        )[:count]
        fairness = server.judge([names[k] for k in sorted(chosen.tolist())]) if count else {}
        result = server.pruner.finish()
        write_tensors(self.directory / "mask.safetensors", result.mask)
        path = self.directory / "pruned.safetensors"
        try:
            save(result, path, self.task.example)
        except ExportError:  # its forward is no graph: it is loaded into the user's own class
            save(result, path)
        return document(
            self.recipe,
            self.log.records,
            server.traffic,
            self.left_out,
            fairness,
            result.report.to_dict(),
            environment(),
        )

    def _begin(self, tell: Tell) -> None:
        """Judge the first network, after one party has pruned it where that is asked."""
        server, rounds = self.server, 0
        began = time.perf_counter()
        if self.recipe.prunes_alone:
            rounds = self._prune_alone()
        task = self.task
        record = {
            "round": 0,
            "asked": 0,
            "averaged": 0,
            "train_loss": None,
            "simulated_seconds": server.simulated,
            "down": server.traffic.down,
            "up": server.traffic.up,
            "density": task.density(server.pruner.mask),
            "reconfigured": True,
            "layers": server.layers(),
            "initial_rounds": rounds,
            **self._judged(last=False),
        }
        self._keep(record, began, tell)

    def _prune_alone(self) -> int:
        server, task = self.server, self.task
        assert self.recipe.initial is not None
        packet = server.initial_packet()
        if self.recipe.initial.where == "client":
            samples = server.conditions.samples
            name = max(sorted(samples), key=lambda name: samples[name])
            answer = server.exchange.ask({server.addresses[name]: packet})
            found = answer.get(server.addresses[name], "no answer")
            return server.start_from(found, name, packet.size)
        table = self.recipe.clients
        own = server_data(self.recipe, batch_size=table.batch_size)
        # a task of its own, since the network of the other is the clients'
        alone = Client("server", own, replace(task, model=network_of(self.recipe)))
        return server.start_from(alone.answer(packet, Memory()), None, 0)

    def _judged(self, last: bool) -> dict[str, float | None]:
        data = self.data if last else Thinned(self.data, self.recipe.rounds.evaluate_one_in)
        model, fabric = self.server.model, launch("fp32")
        with placed(model, fabric.device, torch.channels_last):  # in which convolutions are faster
            found = evaluate(model, data, "test").named(data.metric)
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def _keep(self, record: dict[str, Any], began: float, tell: Tell) -> None:
        """Write a record and the state after it; times of the real clock lie apart."""
        record["met"] = len(self.server.addresses)
        self.log.append(record)
        checkpoint.save(self.server, self.log, self.made_by, self.checkpoint)
        seconds = time.perf_counter() - began
        times = {"round": record["round"], "seconds": seconds, "clients": self.server.measured}
        append_line(self.directory / "timings.jsonl", times)
        tell(record)
