"""From the recipe of a search to the networks that are best, and their recipes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prunus.errors import (
    EmptyLayerError,
    EquivalenceError,
    ExportError,
    RecipeError,
    TargetError,
    TrainingError,
)
from prunus.files import alone, write_json, write_text
from prunus.recipe import Recipe, dotted
from prunus.report import write_search
from prunus.run.document import environment
from prunus.run.plan import Plan
from prunus.run.sizes import dense_size, pruned_size
from prunus.run.stages import sweep
from prunus.run.work import Work
from prunus.study.axes import Key
from prunus.study.search import HIGHER, SearchRecipe, Tune
from prunus.study.search_document import document, sentence
from prunus.study.trials import Outcome, State, Trials
from prunus.training import Record

Tell = Callable[[Literal["begun", "ended", "tested"], int, str], None]
"""Called with what happened to a trial, how many have ended, and words on it."""

_ITS_OWN = (
    RecipeError,
    TargetError,
    EmptyLayerError,
    EquivalenceError,
    TrainingError,
    ExportError,
    ValueError,
    RuntimeError,
)
"""Errors that a trial's values may cause; any other would meet the next trial as well."""


@dataclass(frozen=True)
class Tuned:
    """A search that is done, or whose time is over.

    Args:
        directory: Where its files lie: `tune.json`, `report.html`, in `front` a recipe for each
            of the best, and `trials.jsonl`, which Optuna reads too.
        document: What `tune.json` holds; see `prunus.study.search_document.document`.
    """

    directory: Path
    document: Mapping[str, Any]


class _Behind(Exception):
    """A trial is stopped while it trains."""


def _quiet(event: str, ended: int, words: str) -> None:
    pass


def tune(recipe: SearchRecipe, root: Path | str = Path("runs"), *, tell: Tell = _quiet) -> Tuned:
    """Search, or go on with a search, and look at the test split with the best.

    A trial is a run whose stages lie under `root` in folders named after what goes into them, so
    that what trials have in common is done once. All choices are made on the validation split. A
    process killed at any moment loses what it trained since its last checkpoint, and the search
    goes on with the trial that it was at. More trials may be asked for later.

    Args:
        recipe: What is searched.
        root: The folder of all runs; the results go to `root/<name>-<hash8>`.
        tell: Told what happens.

    Raises:
        RecipeError: The metric is not that of the data, or a file is missing.
        DataError: The data are missing or damaged, or have no validation split.
        ModuleNotFoundError: Optuna is not installed.
        BlockingIOError: Another process is at this search.
        OSError: A file cannot be written.
    """
    root = Path(root).resolve()
    directory = root / f"{recipe.name}-{recipe.hash8}"
    trials = recipe.tune.trials
    with alone(directory):
        sweep(directory)
        book = Trials(directory / "trials.jsonl", recipe.tune)
        write_text(directory / "recipe.toml", recipe.to_toml())
        _check_metric(recipe)
        if recipe.begins_alike:
            tell("begun", len(book.ended), "dense")
            Plan(recipe.base, root, shared=True).do("dense")
        end = time.monotonic() + 60 * (recipe.tune.minutes or float("inf"))
        while (number := len(book.ended)) < trials and time.monotonic() < end:
            trial, values = book.begin()
            named = {dotted(path): value for path, value in values.items()}
            tell("begun", number, f"trial {number}: {_said(named)}")
            outcome = _Attempt(recipe, root, partial(book.behind, trial)).of(values)
            book.end(trial, outcome)
            tell("ended", number + 1, f"trial {number}: {sentence(outcome, recipe.tune)}")
        best = _tested(recipe, root, book, tell)
        _write_recipes(recipe, directory / "front", book, best)
        found = document(recipe, book.ended, best, _dense(recipe, root, book), environment())
        write_json(directory / "tune.json", found)
        write_search(found, directory / "report.html")
    return Tuned(directory, found)


class _Attempt:
    """One trial.

    Args:
        search: What is searched.
        root: The folder of all runs.
        behind: Says of what is found so far whether the trial is hopeless.
    """

    def __init__(
        self, search: SearchRecipe, root: Path, behind: Callable[[dict[str, Any]], bool]
    ) -> None:
        self._search, self._root, self._behind = search, root, behind
        self._found: dict[str, Any] = {}
        self._excess: dict[str, float] = {}

    def of(self, values: Mapping[Key, Any]) -> Outcome:
        """Return what comes of values."""
        named = {dotted(path): value for path, value in values.items()}
        state: State = "failed"
        try:
            state, why = self._run(self._search.member(values))
        except _ITS_OWN as error:
            why = f"{type(error).__name__}: {error}"
        return Outcome(state, named, self._found, self._excess, why)

    def _run(self, member: Recipe) -> tuple[State, str]:
        plan = Plan(member, self._root, shared=True, watch=self._watch, trial=True)
        last, tune = _last(plan), self._search.tune
        if last != "prune":
            self._measure_size(plan)
            if why := self._beyond():
                return "refused", f"{why} before it was trained"
        try:
            done = plan.do(last)
        except _Behind:
            sweep(plan.steps[last].directory)
            return "stopped", f"behind after {len(self._found['curve'])} evaluations"
        self._measure_size(plan)
        self._found |= {"val": self._known(done.result["val"], tune.metric)}
        self._found |= {"curve": self._curve(done.result.get("curve", []))}
        if "latency_ms" in tune.named:
            rows = plan.do("measure").result["delivered"]
            time = next(r for r in rows if (r["network"], r["precision"]) == ("pruned", "fp32"))
            self._found |= {"latency_ms": time["latency_ms"]["median"]}
        return "done", self._beyond()

    def _watch(self, name: str, records: Sequence[Record]) -> None:
        if name == "dense":  # which serves all trials
            return
        self._found["curve"] = self._curve(records)
        if self._behind(self._found):
            raise _Behind

    def _curve(self, records: Sequence[Record]) -> list[float]:
        return [self._known(record, f"val_{self._search.tune.metric}") for record in records]

    @staticmethod
    def _known(found: Mapping[str, Any], metric: str) -> float:
        if found[metric] is None:
            raise TrainingError(f"{metric} is beyond all bounds; the learning rate may be too high")
        return float(found[metric])

    def _measure_size(self, plan: Plan) -> None:
        result = plan.do("prune").result
        dense = dense_size([result])
        self._found |= pruned_size(result)
        self._found["share"] = {key: self._found[key] / dense[key] for key in dense}

    def _beyond(self) -> str:
        """Compare with the limits as far as the values are known; say which are not kept to."""
        tune = self._search.tune
        known = self._found | self._found["share"]
        known |= {tune.metric: self._found["val"]} if "val" in self._found else {}
        said = []
        for name, limit in tune.limits.items():
            if name in known:
                above = (known[name] - limit) / limit
                self._excess[name] = excess = -above if name in HIGHER else above
                if excess > 0:
                    said.append(f"{name} {known[name]:.4g} is beyond {limit:g}")
        return ", ".join(said)


def _last(plan: Plan) -> str:
    """Return the stage whose network a run is for."""
    return "recover" if "recover" in plan.steps else "prune"


def _plan(search: SearchRecipe, root: Path, outcome: Outcome) -> Plan:
    """Return the stages of a trial that has ended."""
    return Plan(search.member(_values(search.tune, outcome)), root, shared=True, trial=True)


def _values(tune: Tune, outcome: Outcome) -> dict[Key, Any]:
    return {path: outcome.values[dotted(path)] for path in tune.axes}


def _tested(
    search: SearchRecipe, root: Path, book: Trials, tell: Tell
) -> dict[int, Mapping[str, Any]]:
    """Look at the test split with each of the best; return number -> what was found."""
    ended, found = book.ended, {}
    for number in book.front:
        tell("tested", len(ended), f"trial {number} on the test split")
        found[number] = _plan(search, root, ended[number]).do("test").result
    return found


def _dense(search: SearchRecipe, root: Path, book: Trials) -> dict[str, Any]:
    """Return what is known of the unpruned network: its size, and its metric if all begin there."""
    plans = (_plan(search, root, one) for one in book.ended if "macs" in one.found)
    pruned = next((plan.do("prune").result for plan in plans), None)
    found: dict[str, Any] = {**dense_size([] if pruned is None else [pruned])}
    if search.begins_alike:
        result = Plan(search.base, root, shared=True).do("dense").result
        metric = search.tune.metric
        found |= {"val": result["val"][metric], "test": result[metric]}
    return found


def _write_recipes(
    search: SearchRecipe, folder: Path, book: Trials, best: Mapping[int, Any]
) -> None:
    """Write a recipe for each of the best, and take away those of networks that no longer are."""
    ended = book.ended
    names = {number: f"{search.name}-trial-{number}" for number in best}
    for number, name in names.items():
        recipe = search.standing_alone(_values(search.tune, ended[number]), name)
        write_text(folder / f"{name}.toml", recipe.to_toml())
    for old in folder.glob("*.toml"):
        if old.stem not in names.values():
            old.unlink()


def _check_metric(search: SearchRecipe) -> None:
    data, metric = Work(search.base).data, search.tune.metric
    assert data is not None
    if data.metric != metric:
        raise RecipeError(
            f"tune: {metric} is not measured, since the metric of {data.name} is {data.metric}; "
            "name that."
        )
    if next(data.eval_batches("val"), None) is None:
        raise RecipeError(
            f"a search chooses on validation samples, and {data.name} has none; set data.val_size."
        )


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
