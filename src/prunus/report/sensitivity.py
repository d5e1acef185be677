"""Where everything goes in the drawing of a sensitivity scan: a small chart per layer."""

from dataclasses import dataclass
from math import ceil, floor

from prunus.pruning import Sensitivity
from prunus.report.quantities import percent

TOLERANCE = 0.01
"""How much accuracy a layer alone may lose, for what is called its limit."""

WIDTH, HEIGHT = 176, 104
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 8, 20


@dataclass(frozen=True)
class Point:
    """One measurement; `title` says it to those who point at it."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Panel:
    """One layer's chart.

    Attributes:
        name: The layer.
        points: From the dense network on, in rising sparsity.
        limit: How many of `points` stay within the tolerance, the dense one included.
        largest: The sparsity of the last of them.
        q: The threshold that makes it; None where units are not single weights.
    """

    name: str
    points: tuple[Point, ...]
    limit: int
    largest: float
    q: float | None


@dataclass(frozen=True)
class Panels:
    """All charts, with the axes that they share: `ticks` are heights with their text."""

    dense: float
    ticks: tuple[tuple[float, str], ...]
    left: int
    right: int
    bottom: int
    panels: tuple[Panel, ...]


def panels(found: Sensitivity, tolerance: float = TOLERANCE) -> Panels:
    """Lay out a scan of accuracies."""
    values = [found.dense, *(value for layer in found.layers for value in layer.values)]
    low, high = floor(10 * min(values)) / 10, ceil(10 * max(values) - 1e-9) / 10
    low = min(low, high - 0.1)
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def y(value: float) -> float:
        return round(_TOP + height * (high - value) / (high - low), 1)

    largest = found.largest(tolerance)
    drawn = []
    for layer in found.layers:
        pairs = [(0.0, found.dense), *zip(found.sparsities, layer.values, strict=True)]
        limit = 1 + sum(share <= largest[layer.name] for share in found.sparsities)
        last = layer.thresholds[limit - 2] if limit > 1 and layer.thresholds else 0.0
        drawn.append(
            Panel(
                layer.name,
                tuple(
                    Point(
                        round(_LEFT + width * share, 1),
                        y(value),
                        f"{layer.name}, {percent(share, 0)} gone: {percent(value, 2)}",
                    )
                    for share, value in pairs
                ),
                limit,
                largest[layer.name],
                last if layer.thresholds else None,
            )
        )
    ticks = tuple((y(value), percent(value, 0)) for value in (high, low))
    return Panels(found.dense, ticks, _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM, tuple(drawn))
