"""A federated run as data: the tables of a recipe, with TOML as its text form."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from prunus.errors import RecipeError, TargetError
from prunus.federated.methods import METHODS
from prunus.federated.wire import Precision
from prunus.methods import Method
from prunus.recipe import MethodChoice, Network, Table, checked, digest, read, to_toml
from prunus.schedules import iterations
from prunus.selectors import TIME_MODELS, TimeModel
from prunus.training import TrainSettings
from prunus.types import Target

Division = Literal["writer", "alphabet", "role", "iid", "dirichlet"]
"""What makes a client: who made the data, or a division by chance."""


MEASURED = "measured"
"""The time that clients measure of themselves."""

_TIMES_OF = {"raspberry_pi_conv2": "prunefl_conv2"}  # time models of one network
_IN_ORDER = ("folder:", "omniglot", "shakespeare")  # data whose batches are not alike


class Clients(Table):
    """Who takes part, and with what.

    Args:
        data: A dataset of the zoo, or "folder:PATH" with a folder of images per class in train/ and
            in test/.
        by: What makes a client, see `prunus.zoo.clients`; "iid" and "dirichlet" divide the training
            samples by chance.
        count: Number of clients, where chance divides.
        alpha: Of the Dirichlet distribution of each class over the clients; the smaller, the more
            unequal.
        batch_size: Samples in a local step.
        held_out: Share of each client's samples that it does not train on, by which it is judged in
            the end, in [0, 1); where the data have no test samples of each client.
        root: Where to look for the data first.
        image_size: Side to which the images of a folder are cut, 224 by default.
        per_round: Clients in a round, drawn at random.
        sampling: "uniform" draws clients alike and weighs their updates by their samples;
            "samples" draws them, with replacement, by their samples and weighs updates alike.
        dropout: Chance that a client that was asked never answers, in [0, 1); the server waits for
            it until the deadline.
        deadline: Seconds of the simulated clock after which an update comes too late.
        speeds: How many times as fast as the time model clients are; dealt out at random.
        bandwidths: The same for communication.
    """

    data: str
    by: Division = "iid"
    count: int = Field(10, ge=1)
    alpha: float = Field(0.5, gt=0, allow_inf_nan=False)
    batch_size: int = Field(20, ge=1)
    held_out: float = Field(0.0, ge=0, lt=1)
    root: str | None = None
    image_size: int | None = Field(None, ge=1)
    per_round: int = Field(10, ge=1)
    sampling: Literal["uniform", "samples"] = "uniform"
    dropout: float = Field(0.0, ge=0, lt=1)
    deadline: float | None = Field(None, gt=0)
    speeds: tuple[float, ...] = Field((1.0,), min_length=1)
    bandwidths: tuple[float, ...] = Field((1.0,), min_length=1)

    @model_validator(mode="after")
    def _is_possible(self) -> "Clients":
        if min(*self.speeds, *self.bandwidths) <= 0:
            raise ValueError("speeds and bandwidths must be above 0.")
        if self.dropout and self.deadline is None:
            raise ValueError(
                "dropout needs a deadline, the seconds that the server waits for who never answers."
            )
        return self


class Rounds(Table):
    """What happens in each round, and how often.

    Args:
        total: Number of rounds.
        evaluate_every: Rounds between evaluations on the test split.
        evaluate_one_in: Until the last round, on one in so many of its batches; not of a folder,
            "omniglot" or "shakespeare", whose samples come class by class or role by role.
        lr_gamma: Factor of the learning rate every `lr_every` rounds.
        lr_every: Rounds; 0 for a constant rate.
        evidence: "last": clients sum up gradients in the round before a decision; "all": in every
            round, as in the paper, and keep them until then, for which all clients are in each;
            sums of one that drops out of the deciding round are lost.
        evidence_share: Share of the masked weights whose sums are sent, the largest; the others
            count as zero.
        precision: Of values on the way.
        norm_bound: An update that moves the weights by more than so many times their norm is
            refused.
        judged: Most clients whose accuracy is taken at the end.
    """

    total: int = Field(ge=1)
    evaluate_every: int = Field(10, ge=1)
    evaluate_one_in: int = Field(1, ge=1)
    lr_gamma: float = Field(0.5, gt=0, le=1)
    lr_every: int = Field(0, ge=0)
    evidence: Literal["last", "all"] = "last"
    evidence_share: float = Field(1.0, gt=0, le=1)
    precision: Precision = "fp32"
    norm_bound: float = Field(10.0, gt=0)
    judged: int = Field(100, ge=0)


class Initial(Table):
    """Pruning by one party alone, before the federation begins.

    Args:
        where: "client": the one with most samples; "server": on the first batches of the dataset.
        batches: Batches that it trains on, again and again.
        rounds: Most rounds of local steps; 0 for no pruning before.
        every: Rounds between reconfigurations; they begin when more samples of these are right than
            by 1.5 times chance.
        look: Rounds between looks at that.
        settled: Relative change of the density up to which a reconfiguration counts as none.
        patience: So many of those in a row end it.
    """

    where: Literal["client", "server"] = "client"
    batches: int = Field(10, ge=1)
    rounds: int = Field(1000, ge=0)
    every: int = Field(50, ge=1)
    look: int = Field(10, ge=1)
    settled: float = Field(0.1, ge=0)
    patience: int = Field(5, ge=1)


class FederatedMethod(MethodChoice):
    """A method of `prunus.federated.METHODS` by name; lengths count rounds."""

    table: ClassVar[Mapping[str, Callable[..., Method]]] = METHODS


class FederatedRecipe(Table):
    """A federated run: a network, the clients with their data, how they train, and how it prunes.

    Args:
        name: Names the run's directory.
        seed: Of initialisation, participants and every other random choice.
        model: The network.
        clients: Who takes part.
        train: How a client trains in one round: `length` is that of a round, such as "5it".
        rounds: What happens in each.
        method: The method and its arguments.
        target: How small; of "prunefl" the highest density.
        initial: Pruning by one party before; only of "prunefl".
        init: Seed of the first weights; None for `seed`. With another, and the method "ticket",
            a mask is tried on weights that it was not found with.
        time: For the simulated clock and for "prunefl": a name of `prunus.selectors.TIME_MODELS`,
            of which "raspberry_pi_conv2" is for the network "prunefl_conv2" alone, or "measured",
            fitted to what clients measure of themselves before the first round.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0)
    model: Network
    clients: Clients
    train: TrainSettings
    rounds: Rounds
    method: FederatedMethod
    target: Target | None = None
    initial: Initial | None = None
    init: int | None = Field(None, ge=0)
    time: str = "by_macs"

    @model_validator(mode="after")
    def _is_complete(self) -> "FederatedRecipe":
        if self.time not in (*TIME_MODELS, MEASURED):
            known = ", ".join((*TIME_MODELS, MEASURED))
            raise ValueError(f"time must be one of {known}, got {self.time!r}.")
        for time in (self.time, self.method.arguments.get("time")):
            if self.model.name != (network := _TIMES_OF.get(str(time), self.model.name)):
                raise ValueError(
                    f"time {time!r} was measured for {network!r} and says nothing of "
                    f"{self.model.name or self.model.factory!r}; take 'by_macs' or {MEASURED!r}."
                )
        if self.rounds.evaluate_one_in > 1 and self.clients.data.startswith(_IN_ORDER):
            raise ValueError(
                f"rounds.evaluate_one_in must be 1 for {self.clients.data!r}, whose test samples "
                "come class by class or role by role, so that a part of the batches is another "
                f"test, got {self.rounds.evaluate_one_in}."
            )
        if not self.train.length.endswith("it") or iterations(self.train.length) < 1:
            raise ValueError(
                "train.length is that of a client in one round and must be steps, such as '5it', "
                f"got '{self.train.length}'."
            )
        for key in ("schedule", "warmup", "ema", "early_stop", "keep", "start"):
            if getattr(self.train, key) != TrainSettings.model_fields[key].default:
                raise ValueError(
                    f"train.{key} is about a whole training, and a client trains for one round; "
                    "leave it out, and see lr_gamma and lr_every in [rounds]."
                )
        if self.prunes_alone and self.method.name != "prunefl":
            raise ValueError(
                f"[initial] is of method 'prunefl', got '{self.method.name}'; leave it out, or set "
                "initial.rounds = 0."
            )
        method = self.build()
        if iterations(method.schedule.end) > self.rounds.total:
            raise ValueError(
                f"method.end must be within the {self.rounds.total} rounds, got "
                f"{method.schedule.end}; set an earlier end, or more rounds.total."
            )
        if self.target is not None:
            try:
                method.check_target(self.target)
            except TargetError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def prunes_alone(self) -> bool:
        """Whether one party prunes before the federation begins."""
        return self.initial is not None and self.initial.rounds > 0

    def build(self, time: TimeModel | None = None) -> Method:
        """Return the method; one that reckons with time does so with `time`, or by its name here.

        Until clients have measured it, "measured" is taken for the time by multiply-accumulates.
        """
        arguments = self.method.arguments
        takes = "time" in inspect.signature(METHODS[self.method.name]).parameters
        if takes and "time" not in arguments:
            arguments["time"] = time or TIME_MODELS.get(self.time, TimeModel())
        return METHODS[self.method.name](**arguments)

    @property
    def hash8(self) -> str:
        """Eight hexadecimal digits of the choices that differ from their defaults, seed aside."""
        return digest(self.model_dump(mode="json", exclude_defaults=True, exclude={"name", "seed"}))

    def to_toml(self) -> str:
        """Return the TOML text that `load` reads back as an equal recipe."""
        return to_toml(self.model_dump(mode="json", exclude_defaults=True))


def load(path: Path | str, overrides: Sequence[str] = ()) -> FederatedRecipe:
    """Read the recipe of a federated run; see `prunus.recipe.load`.

    Raises:
        RecipeError: The file is missing or not TOML, or a key or value is wrong.
    """
    tables = read(path, overrides)
    if "clients" not in tables:
        raise RecipeError(
            f"{Path(path).name} has no [clients] table, so it is no federated run; give it to "
            "`prunus run` or `prunus study`."
        )
    return parse(tables)


def parse_json(text: str) -> FederatedRecipe:
    """Read what `FederatedRecipe.model_dump_json` wrote; raises as `parse`."""
    return parse(json.loads(text))


def parse(tables: Mapping[str, Any]) -> FederatedRecipe:
    """Check the tables of a federated run.

    Raises:
        RecipeError: A key is unknown or missing, or a value is of the wrong type or out of range.
    """
    return checked(FederatedRecipe, tables)
