"""WHEN and how much: pure functions of the step.

Lengths carry their unit, "500it" for optimizer steps and "12ep" for epochs.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Curve = Callable[[float, float, float], float]
"""(progress in [0, 1], initial amount, final amount) -> amount removed, in [0, 1)."""

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(it|ep)")


def iterations(text: str, steps_per_epoch: int | None = None) -> int:
    """Return a length as a number of optimizer steps.

    Args:
        text: Such as "500it" or "12ep"; epochs may be fractions; at least a step if above 0.
        steps_per_epoch: Needed for epochs.

    Raises:
        ValueError: There is no unit, or epochs cannot be converted.

    Example:
        >>> iterations("12ep", steps_per_epoch=390)
        4680
    """
    found = _LENGTH.fullmatch(text) if isinstance(text, str) else None
    if found is None or (found[2] == "it" and "." in found[1]):
        raise ValueError(
            f"a length must be a number with its unit, '500it' or '12ep', got {text!r}."
        )
    if found[2] == "it":
        return int(found[1])
    if steps_per_epoch is None:
        raise ValueError(f"{text!r} counts epochs; pass steps_per_epoch, or give steps ('500it').")
    epochs = float(found[1])
    return max(1, round(epochs * steps_per_epoch)) if epochs else 0


def lasts(text: str) -> bool:
    """Tell whether a length is more than nothing.

    Example:
        >>> lasts("0.25ep"), lasts("0it")
        (True, False)
    """
    return iterations(text, steps_per_epoch=1) > 0


def repeated(text: str, times: int) -> str:
    """Return a length `times` as long.

    Example:
        >>> repeated("12ep", 3)
        '36ep'
    """
    iterations(text, steps_per_epoch=1)
    return f"{Decimal(text[:-2]) * times:f}{text[-2:]}"


def one_shot(progress: float, initial: float, final: float) -> float:
    """All at once."""
    return final


def constant(progress: float, initial: float, final: float) -> float:
    """The final amount at every update."""
    return final


def linear(progress: float, initial: float, final: float) -> float:
    """The same amount at each update."""
    return initial + (final - initial) * progress


def cubic(progress: float, initial: float, final: float) -> float:
    """Fast while there is redundancy, slower near the end: s_f + (s_i - s_f) (1 - t)^3.

    Source: Zhu and Gupta, 2017, arXiv:1710.01878, equation 1.
    """
    rest = 1 - progress
    return final + (initial - final) * rest * rest * rest


def geometric(progress: float, initial: float, final: float) -> float:
    """The same share of what remains at each update, as in iterative pruning."""
    return 1 - (1 - initial) * math.pow((1 - final) / (1 - initial), progress)


CURVES: dict[str, Curve] = {
    "one_shot": one_shot,
    "constant": constant,
    "linear": linear,
    "cubic": cubic,
    "geometric": geometric,
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Amount removed as a function of the optimizer step.

    Args:
        curve: "one_shot", "constant", "linear", "cubic" or "geometric".
        begin: First update.
        end: Step from which the final amount holds; ignored by "one_shot".
        every: Steps between updates.
        initial: Amount removed at the first update, in [0, 1).

    Raises:
        ValueError: A field is out of range or a length has no unit.
    """

    curve: Literal["one_shot", "constant", "linear", "cubic", "geometric"] = "one_shot"
    begin: str = "0it"
    end: str = "0it"
    every: str = "100it"
    initial: float = 0.0

    def __post_init__(self) -> None:
        if self.curve not in CURVES:
            raise ValueError(f"curve must be one of {', '.join(CURVES)}, got {self.curve!r}.")
        if not 0 <= self.initial < 1:
            raise ValueError(f"initial must be in [0, 1), got {self.initial:g}.")
        for length in (self.begin, self.end, self.every):
            iterations(length, steps_per_epoch=1)

    def timeline(self, steps_per_epoch: int | None = None) -> "Timeline":
        """Resolve the lengths to steps."""
        begin = iterations(self.begin, steps_per_epoch)
        end = begin if self.curve == "one_shot" else iterations(self.end, steps_per_epoch)
        every = iterations(self.every, steps_per_epoch)
        if end < begin:
            raise ValueError(f"end must not be before begin ({self.begin}), got {self.end}.")
        if every < 1:
            raise ValueError(f"every must be at least one step, got {self.every}.")
        return Timeline(CURVES[self.curve], begin, end, every, self.initial)


@dataclass(frozen=True)
class Timeline:
    """A schedule in optimizer steps; its curve is followed from `origin`, or else from `begin`."""

    curve: Curve
    begin: int
    end: int
    every: int
    initial: float
    origin: int | None = None

    def due(self, step: int) -> bool:
        """Say whether the mask is updated after `step` optimizer steps."""
        inside = self.begin <= step <= self.end
        return inside and ((step - self.begin) % self.every == 0 or step == self.end)

    def amount(self, step: int, final: float) -> float:
        """Return the amount removed from `step` on, given the final amount.

        Raises:
            ValueError: The schedule begins with more than the final amount.
        """
        if self.initial > final:
            raise ValueError(
                f"initial must not exceed the final amount removed ({final:g}), got "
                f"{self.initial:g}."
            )
        if step < self.begin:
            return 0.0
        return self.curve(self.progress(step), self.initial, final)

    def progress(self, step: int) -> float:
        """Return how much of the time from the origin to the last update is over, in [0, 1]."""
        origin = self.begin if self.origin is None else self.origin
        span = self.end - origin
        return min(1.0, max(0.0, (step - origin) / span)) if span else 1.0

    def updates(self) -> list[int]:
        """Return the steps after which the mask is updated."""
        last = [] if (self.end - self.begin) % self.every == 0 else [self.end]
        return [*range(self.begin, self.end + 1, self.every), *last]

    def rewound(self, to: int, updates: int) -> "Timeline":
        """Return the timeline when each of so many updates sends training back to step `to`.

        A training lasts until `begin`; those after the first are shorter by `to` steps. The curve
        is followed from `to` on, so that the first update already removes its part.

        Raises:
            ValueError: `to` is not inside a training, or updates are not one training apart.
        """
        if not 0 <= to < self.begin:
            raise ValueError(
                f"training can be sent back to a step before its end, {self.begin}, got {to}."
            )
        if self.end > self.begin and self.every != self.begin:
            raise ValueError(
                "a schedule that sends training back must have every = begin, the length of one "
                f"training, got every {self.every} and begin {self.begin} steps."
            )
        every = self.begin - to
        end = self.begin + (updates - 1) * every
        return Timeline(self.curve, self.begin, end, every, self.initial, origin=to)
