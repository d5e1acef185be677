"""What a key of a recipe may be while it is searched: a range of numbers, or choices."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prunus.names import did_you_mean
from prunus.recipe import dotted, parts

Key = tuple[str, ...]
"""Path of a key in the tables of a recipe."""

_DIGITS = 4  # of a number that is searched, so that it can be read in the recipe


class Suggests(Protocol):
    """A trial of Optuna, which says what to try."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Return a whole number from low to high."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float:
        """Return a number from low to high."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """Return one of the choices."""
        ...


@dataclass(frozen=True)
class Range:
    """Numbers from low to high; whole ones where low, high and step are.

    Args:
        low: The smallest.
        high: The largest.
        log: Whether small ones are tried as often as large ones.
        step: Between two of them.

    Raises:
        ValueError: One of them is no number, or they contradict each other.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high), ("step", self.step)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value)):
                raise ValueError(f"{name} must be a number, got {value!r}")
        if not isinstance(self.log, bool):
            raise ValueError(f"log must be true or false, got {self.log!r}")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 for a logarithmic range, got {self.low:g}")
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError(
                f"step must be above 0, and only of a range that is not logarithmic, "
                f"got {self.step:g}"
            )

    @property
    def ends(self) -> Sequence[Any]:
        """Values that have to be possible."""
        return self.low, self.high

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Return what to try."""
        numbers = (self.low, self.high, 1 if self.step is None else self.step)
        if all(isinstance(number, int) for number in numbers):
            low, high, step = map(int, numbers)
            return trial.suggest_int(name, low, high, step=step, log=self.log)
        value = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """Values of any kind.

    Args:
        values: Which.

    Raises:
        ValueError: There are none, or one of them twice.
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a list of choices must not be empty")
        if len(set(self._labels)) < len(self.values):
            raise ValueError(f"choices must differ, got {list(self.values)}")

    @property
    def _labels(self) -> list[str]:
        return [json.dumps(value, sort_keys=True) for value in self.values]

    @property
    def ends(self) -> Sequence[Any]:
        """Values that have to be possible."""
        return self.values

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Return what to try."""
        return self.values[self._labels.index(trial.suggest_categorical(name, self._labels))]


Axis = Range | Choice


def axes_of(table: Mapping[str, Any], path: Key = ()) -> Iterator[tuple[Key, Axis]]:
    """Yield each key that is searched, whether its tables are written out or with dots.

    Args:
        table: Keys as TOML has them -> a range as a table, a list of choices, or more such keys.
        path: The key of the table.

    Raises:
        ValueError: A range or list cannot be.
    """
    for key, value in table.items():
        own = (*path, *parts(key))
        try:
            if isinstance(value, list | tuple):
                yield own, Choice(tuple(value))
            elif not isinstance(value, dict):
                raise ValueError(f"it must be a range or a list of choices, got {value!r}")
            elif value.keys() & {"low", "high"}:
                yield own, _range(value)
            else:
                yield from axes_of(value, own)
        except (TypeError, ValueError) as error:
            said = str(error)
            raise ValueError(
                said if said.startswith("'") else f"'{dotted(own)}': {said}."
            ) from error


def _range(given: Mapping[str, Any]) -> Range:
    known = ["low", "high", "log", "step"]
    for key in given:
        if key not in known:
            raise ValueError(
                f"a range has no '{key}'.{did_you_mean(key, known)} It has {', '.join(known)}"
            )
    for key in known[:2]:
        if key not in given:
            raise ValueError(f"a range needs low and high, and {key} is missing")
    return Range(**given)
