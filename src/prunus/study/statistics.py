"""Statistics over seeds: means with their intervals, paired differences, many comparisons at once.

Source: Student, Biometrika 1908 (the t interval); Holm, Scandinavian Journal of Statistics 1979.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

LEVEL = 0.95
"""Of every interval; a difference is one where the adjusted p is below 1 - LEVEL."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
        mean: Of the values.
        count: How many there are.
        sd: Their standard deviation, with count - 1; None of one value, or one network.
        margin: Half the width of the 95 % t interval, t * sd / sqrt(count); None where sd is.
    """

    mean: float
    count: int
    sd: float | None
    margin: float | None

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.margin is None else self.mean - self.margin

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.margin is None else self.mean + self.margin


def mean(values: Sequence[float], resolution: float = 0.0) -> Mean:
    """Return the mean of independent values and its interval.

    Args:
        values: At least one.
        resolution: The step between possible values, such as 1 / samples for an accuracy. Values
            that agree by rounding seem to have no spread; the standard deviation is taken to be at
            least that of a rounding error, resolution / sqrt(12).

    Example:
        >>> found = mean([1.0, 2.0, 3.0])
        >>> round(found.margin, 3)  # 4.303 / sqrt(3)
        2.484
    """
    count = len(values)
    middle = math.fsum(values) / count
    if count == 1:
        return Mean(middle, 1, None, None)
    spread = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (count - 1))
    spread = max(spread, resolution / math.sqrt(12))
    t = float(stats.t.ppf((1 + LEVEL) / 2, count - 1))
    return Mean(middle, count, spread, t * spread / math.sqrt(count))


def difference(
    values: Sequence[float], others: Sequence[float], resolution: float = 0.0
) -> tuple[Mean, float | None]:
    """Compare values pair by pair, seed by seed.

    Args:
        values: Of one arm, by seed.
        others: Of another, by the same seeds.
        resolution: The step between possible values; see `mean`. A difference has two of them.

    Returns:
        The mean of values - others, and the two-sided p of the paired t test; None of one pair.
    """
    apart = [value - other for value, other in zip(values, others, strict=True)]
    found = mean(apart, resolution * math.sqrt(2))
    if found.sd is None:
        return found, None
    if found.sd == 0:
        return found, 1.0 if found.mean == 0 else 0.0
    t = abs(found.mean) / (found.sd / math.sqrt(found.count))
    return found, 2 * float(stats.t.sf(t, found.count - 1))


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p values of a family of tests, adjusted so that all hold together.

    The k-th smallest of m is multiplied by m - k + 1, and none falls below one that was smaller.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(ps)), key=lambda k: ps[k])
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[k]))
        adjusted[k] = largest
    return adjusted
