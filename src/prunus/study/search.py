"""A search as data: the tables of a recipe, and a [tune] table that says what is searched."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, PrivateAttr, field_validator, model_validator

from prunus.errors import RecipeError
from prunus.recipe import Recipe, Table, checked, digest, dotted, parse, put, read, to_toml
from prunus.study.axes import Axis, Key, axes_of

Quality = Literal["accuracy", "mean_iou", "perplexity"]
Cost = Literal["macs", "params", "bytes", "latency_ms"]
QUALITIES, COSTS = get_args(Quality), get_args(Cost)
HIGHER = ("accuracy", "mean_iou")
"""What is to be large; everything else is to be small."""

_SEARCHED = {"method", "target", "train", "finetune", "distil"}
_OF_DATA = {"batch_size", "augment"}
_PACE = {"finetune.length", "finetune.start", "finetune.eval_every", "data.batch_size"}


class Tune(Table):
    """What is searched, and what is good.

    Args:
        search: Key of the recipe -> what it may be: { low = 0.2, high = 0.8 } with log or step, or
            a list of choices, which may be tables. Keys are written as in TOML, so that one layer's
            share is 'method.ratios."layer1.*"'.
        objectives: The metric of the data, a cost, or both: "accuracy", "mean_iou" or "perplexity";
            "macs", "params", "bytes" or "latency_ms". Of both the Pareto front is sought.
        limits: Objective -> what a network must keep to: at most such a share of the unpruned
            network's MACs, parameters or bytes, so many milliseconds or such a perplexity; at least
            such an accuracy or mean IoU.
        trials: How many in all, those that were stopped or failed included.
        minutes: After so long no trial is begun.
        seed: Of the sampler; the recipe's own is that of every trial.
        sampler: Optuna's TPE, NSGA-II with a population of 20, or at random.
        startup: Trials at random before TPE has seen enough.
        stop: Whether trials that fall behind are stopped while they train.
    """

    search: dict[str, Any] = Field(min_length=1)
    objectives: tuple[Quality | Cost, ...] = ("accuracy", "macs")
    limits: Mapping[Quality | Cost, float] = Field(default={})
    trials: int = Field(default=30, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)
    sampler: Literal["tpe", "nsga2", "random"] = "tpe"
    startup: int = Field(default=10, ge=1)
    stop: bool = True

    @field_validator("search")
    @classmethod
    def _is_readable(cls, search: dict[str, Any]) -> dict[str, Any]:
        names = [dotted(path) for path, _ in axes_of(search)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"'{name}' is searched twice; keep one.")
        return search

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Tune":
        quality = [one for one in self.objectives if one in QUALITIES]
        costs = [one for one in self.objectives if one in COSTS]
        if not self.objectives or len(quality) > 1 or len(costs) > 1:
            raise ValueError(
                f"objectives must be the metric of the data, one cost or both, got "
                f"{', '.join(self.objectives) or 'none'}; put the others under limits."
            )
        if not quality and not self.limits.keys() & set(QUALITIES):
            raise ValueError(
                f"the least {costs[0]} is found by pruning everything; add a metric to objectives, "
                "or to limits what is needed, such as { accuracy = 0.9 }."
            )
        for name, value in self.limits.items():
            share = name in HIGHER or name in ("macs", "params", "bytes")
            if not (0 < value <= 1 if share else 0 < value < math.inf):
                hint = f" Did you mean {value / 100:g}?" if share and 1 < value < 100 else ""
                rule = "in (0, 1]" if share else "above 0"
                raise ValueError(f"limits.{name} must be {rule}, got {value:g}.{hint}")
        return self

    @property
    def axes(self) -> dict[Key, Axis]:
        """What each key may be."""
        return dict(axes_of(self.search))

    @property
    def metric(self) -> str:
        """The metric of the data: an objective, or what has a limit."""
        return next(one for one in (*self.objectives, *self.limits) if one in QUALITIES)

    @property
    def cost(self) -> str | None:
        """The objective that is a cost."""
        return next((one for one in self.objectives if one in COSTS), None)

    @property
    def named(self) -> set[str]:
        """All that is an objective or has a limit."""
        return {*self.objectives, *self.limits}

    @property
    def uneven(self) -> bool:
        """Whether trials may be evaluated at unlike points of their trainings."""
        return self.searches(_PACE)

    def searches(self, keys: Iterable[str]) -> bool:
        """Say whether any of some keys is searched, alone or as part of a whole table."""
        searched = [f"{dotted(path)}." for path in self.axes]
        return any(f"{key}.".startswith(path) for key in keys for path in searched)


class SearchRecipe(Table):
    """A search: the tables of a recipe, and what is searched.

    Args:
        recipe: The tables of a run, by name; keys that are searched need not be there.
        tune: What is searched.
    """

    recipe: dict[str, Any]
    tune: Tune

    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _is_possible(self) -> "SearchRecipe":
        for path in self.tune.axes:
            self._check_key(path)
        self._check_member(self._first)
        for path, axis in self.tune.axes.items():
            for value in axis.ends[1:]:
                self._check_member(self._first | {path: value})
        return self

    @property
    def name(self) -> str:
        """Names the directory of the results."""
        return str(self.recipe["name"])

    @property
    def base(self) -> Recipe:
        """The recipe of the trial with the first value of each key."""
        return self.member(self._first)

    @property
    def begins_alike(self) -> bool:
        """Whether all trials begin from one unpruned network."""
        return not any(path[0] in ("train", "data") for path in self.tune.axes)

    @property
    def hash8(self) -> str:
        """Eight hexadecimal digits of all that a trial depends on: not the name, nor how many."""
        tune = self.tune.model_dump(mode="json", exclude={"trials", "minutes"})
        recipe = {key: value for key, value in self.recipe.items() if key != "name"}
        return digest({"recipe": recipe, "tune": tune})

    def member(self, values: Mapping[Key, Any]) -> Recipe:
        """Return the recipe of a trial.

        Args:
            values: Of each key that is searched.

        Raises:
            RecipeError: They do not go together.
        """
        tables: dict[str, Any] = json.loads(json.dumps(self.recipe))
        for path in sorted(values, key=len):  # a table before what is in it
            put(tables, path, values[path])
        return parse(tables, self._folder)

    def standing_alone(self, values: Mapping[Key, Any], name: str) -> Recipe:
        """Return the recipe of a trial under a name, which finds its files from anywhere."""
        tables = self.member(values).model_dump(mode="json", exclude_defaults=True)
        tables["name"] = name
        model, distil = tables["model"], tables.get("distil", {})
        if "weights" in model:
            model["weights"] = self._anywhere(model["weights"])
        if "teachers" in distil:
            distil["teachers"] = [self._anywhere(file) for file in distil["teachers"]]
        return parse(tables)

    def to_toml(self) -> str:
        """Return the TOML text that `load_search` reads back as an equal search."""
        tune = self.tune.model_dump(mode="json", exclude_defaults=True)
        return to_toml({**self.recipe, "tune": tune})

    @property
    def _first(self) -> dict[Key, Any]:
        return {path: axis.ends[0] for path, axis in self.tune.axes.items()}

    def _anywhere(self, file: str) -> str:
        beside = self._folder / Path(file).expanduser()
        return str(beside.resolve()) if beside.is_file() else file

    def _check_key(self, path: Key) -> None:
        known = path[0] in Recipe.model_fields
        free = path[0] in _SEARCHED or (path[0] == "data" and {*path[1:2]} & _OF_DATA)
        if known and not free:
            raise RecipeError(
                f"tune.search: '{dotted(path)}' must be the same in all trials, or they cannot be "
                f"compared; searched may be keys of {', '.join(sorted(_SEARCHED))}, and "
                f"{' and '.join(f'data.{key}' for key in sorted(_OF_DATA))}."
            )

    def _check_member(self, values: Mapping[Key, Any]) -> None:
        try:
            member = self.member(values)
        except RecipeError as error:
            tried = ", ".join(f"{dotted(path)} = {value!r}" for path, value in values.items())
            raise RecipeError(f"tune.search: {error} (with {tried})") from error
        if member.data is None or member.data.val_size == 0:
            raise RecipeError(
                "a search chooses on validation samples, but there is no [data] table, or "
                "data.val_size is 0; hold some out."
            )
        if "latency_ms" in self.tune.named and not (member.export.onnx and member.bench.rounds):
            raise RecipeError(
                "tune: latency_ms is not measured, since export.onnx is false or bench.rounds is "
                "0; change that, or take macs."
            )
        dense = sorted(self.tune.named & {"bytes", "latency_ms"})
        if dense and not member.method.build().structured:
            raise RecipeError(
                f"tune: method '{member.method.name}' sets single weights to zero, which leaves "
                f"{' and '.join(dense)} as they were; take params or macs."
            )


def load_search(path: Path | str, overrides: Sequence[str] = ()) -> SearchRecipe:
    """Read the recipe of a search; see `prunus.recipe.load`.

    Raises:
        RecipeError: The file is missing or not TOML, a key or value is wrong, a key that is
            searched cannot take a value of its range, or an objective is not measured.
    """
    tables = read(path, overrides)
    if "tune" not in tables:
        raise RecipeError(
            f"{Path(path).name} has no [tune] table, so nothing is searched; give it to `prunus "
            "run`, or add tune.search."
        )
    return parse_search(tables, Path(path).parent)


def parse_search(tables: Mapping[str, Any], folder: Path = Path()) -> SearchRecipe:
    """Check the tables of a search's recipe.

    Args:
        tables: By name.
        folder: Where files that it names are looked for first.

    Raises:
        RecipeError: As `load_search`.
    """
    recipe = {name: table for name, table in tables.items() if name != "tune"}
    search = checked(SearchRecipe, {"recipe": recipe, "tune": tables["tune"]})
    search._folder = folder.resolve()
    return search
