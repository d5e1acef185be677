"""The trials of a search: Optuna says what to try, keeps what came of it, and knows the best."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from prunus.recipe import digest, dotted
from prunus.study.axes import Key
from prunus.study.search import HIGHER, Tune

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

State = Literal["done", "refused", "stopped", "failed"]

RIVALS = 5
"""Trials that have to be there before another can fall behind them; Optuna's own number."""

_POPULATION = 20  # of NSGA-II
_SEEN = "outcome"  # of Prunus in Optuna's file


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        state: "done", trained to its end; "refused", outside a limit before it was trained;
            "stopped" while it trained, since it fell behind; or "failed".
        values: Of the keys that were searched, by their names in TOML.
        found: "val", the metric on the validation split; costs; "curve", the metric at each
            evaluation while it trained. Those that are known.
        excess: Limit -> by what share of it the network is beyond; not above 0 where it is within.
        why: Why it was refused, stopped or failed, or which limits it does not keep to.
    """

    state: State
    values: Mapping[str, Any]
    found: Mapping[str, Any] = field(default_factory=dict)
    excess: Mapping[str, float] = field(default_factory=dict)
    why: str = ""


class Trials:
    """All trials of a search, in one file that only grows.

    What is proposed next depends on the seed, the number of the trial and those that have ended, so
    that a search that was killed proposes again what it was at.

    Args:
        file: Optuna's journal; one process may use it at a time.
        tune: What is searched.

    Raises:
        ModuleNotFoundError: Optuna is not installed.
    """

    def __init__(self, file: Path, tune: Tune) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
            from optuna.trial import TrialState
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "a search needs Optuna; pip install 'prunus[tune]'."
            ) from error
        self._tune = tune
        file.parent.mkdir(parents=True, exist_ok=True)
        _mend(file)
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces the study
        try:
            self._study = optuna.create_study(
                storage=optuna.storages.JournalStorage(JournalFileBackend(str(file))),
                study_name="search",
                load_if_exists=True,
                directions=["maximize" if one in HIGHER else "minimize" for one in tune.objectives],
                pruner=optuna.pruners.MedianPruner(n_startup_trials=RIVALS),
            )
        finally:
            optuna.logging.set_verbosity(level)
        for trial in self._study.get_trials(states=[TrialState.RUNNING]):
            if _SEEN in trial.user_attrs:
                self._tell(trial.number, Outcome(**trial.user_attrs[_SEEN]))
            else:  # it was killed
                self._study.tell(trial.number, state=TrialState.FAIL)

    @property
    def ended(self) -> list[Outcome]:
        """What came of each trial, by its number."""
        return [Outcome(**trial.user_attrs[_SEEN]) for trial in self._seen()]

    @property
    def front(self) -> list[int]:
        """Numbers of the trials that are best: within the limits, and no other is better.

        With one objective one, with two the Pareto front; of equally good ones the first.
        """
        place = {trial.number: number for number, trial in enumerate(self._seen())}
        found: dict[tuple[float, ...], int] = {}
        for trial in self._study.best_trials:
            found.setdefault(tuple(trial.values), place[trial.number])
        return list(found.values())

    def begin(self) -> tuple["Trial", dict[Key, Any]]:
        """Return the next trial, and what it tries of each key."""
        self._study.sampler = self._sampler(len(self._seen()))
        trial = self._study.ask()
        axes = self._tune.axes.items()
        return trial, {path: axis.suggest(trial, dotted(path)) for path, axis in axes}

    def behind(self, trial: "Trial", found: Mapping[str, Any]) -> bool:
        """Whether a trial has fallen behind those that ended, so that it is hopeless.

        With the metric as the only objective Optuna's median rule says so. It has none for several
        objectives: then the same rule is asked of those trials alone that cost no more, and a trial
        whose cost is not known yet goes on.

        Args:
            trial: Under way.
            found: Of it; see `Outcome`.
        """
        if self._tune.uneven or not self._tune.stop:
            return False
        if self._tune.cost is None:
            self._report(trial, found)
            return trial.should_prune()
        cost = found.get(self._tune.cost)
        if cost is None:
            return False
        cheaper = [
            one.found["curve"]
            for one in self.ended
            if one.state == "done" and one.found[self._tune.cost] <= cost
        ]
        return behind_median(found["curve"], cheaper, 1 if self._tune.metric in HIGHER else -1)

    def end(self, trial: "Trial", outcome: Outcome) -> None:
        """Keep what came of a trial."""
        if self._tune.cost is None and outcome.found.get("curve"):
            self._report(trial, outcome.found)
        for limit, excess in outcome.excess.items():
            trial.set_constraint(limit, excess)
        plain = {key: getattr(outcome, key) for key in Outcome.__dataclass_fields__}
        trial.set_user_attr(_SEEN, json.loads(json.dumps(plain)))
        self._tell(trial.number, outcome)

    def _tell(self, number: int, outcome: Outcome) -> None:
        from optuna.trial import TrialState

        if outcome.state == "done":
            found = {**outcome.found, self._tune.metric: outcome.found["val"]}
            self._study.tell(number, [found[one] for one in self._tune.objectives])
        else:
            failed = outcome.state == "failed"
            self._study.tell(number, state=TrialState.FAIL if failed else TrialState.PRUNED)

    def _seen(self) -> list["FrozenTrial"]:
        """Return the trials that have ended, in order, without those that were killed."""
        return [t for t in self._study.get_trials(deepcopy=False) if _SEEN in t.user_attrs]

    def _sampler(self, number: int) -> "BaseSampler":
        from optuna import samplers

        tune = self._tune
        seed = int(digest([tune.seed, number]), 16)
        if tune.sampler == "tpe":
            return samplers.TPESampler(seed=seed, n_startup_trials=tune.startup)
        if tune.sampler == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)
        return samplers.RandomSampler(seed=seed)

    def _report(self, trial: "Trial", found: Mapping[str, Any]) -> None:
        known = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for step, value in enumerate(found["curve"], 1):
            if step not in known:
                trial.report(value, step)


def behind_median(curve: Sequence[float], others: Sequence[Sequence[float]], sign: int = 1) -> bool:
    """Whether the best value so far is worse than the median of others' at the same evaluation.

    Args:
        curve: A trial's values so far.
        others: Those of others; never of fewer than `RIVALS` that came as far.
        sign: 1 where large values are good, -1 where small ones are.

    Example:
        >>> behind_median([0.4, 0.5], [[0.3, 0.6, 0.7]] * 5)
        True
    """
    here = [sign * other[len(curve) - 1] for other in others if len(other) >= len(curve)]
    return len(here) >= RIVALS and max(sign * value for value in curve) < median(here)


def _mend(file: Path) -> None:
    """Take away what a process killed while it wrote left: half a line, and Optuna's lock."""
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)
    if file.exists() and not (text := file.read_bytes()).endswith(b"\n"):
        with file.open("r+b") as damaged:
            damaged.truncate(text.rfind(b"\n") + 1)
