"""Ticket curves: early-stop iteration and accuracies against the share of weights left.

Source: Frankle and Carbin, ICLR 2019, arXiv:1803.03635, figures 1, 3 and 4: a logarithmic axis from
the whole network to the sparsest, a line per way of making networks, bars over trials.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from prunus.report.figures import plain, values
from prunus.report.quantities import percent

Series = Mapping[str, Any]
"""A line: "name", and "levels", each with "density" and the keys of `MEASURES`: None, or "mean"
with the ends "low" and "high" of its bar, None for no bar."""

MEASURES = {
    "early_stop": "Early-stop iteration",
    "early_stop_accuracy": "Validation accuracy at early stop",
    "final_accuracy": "Validation accuracy at the end",
}

_TICKS = 7


def over_draws(rows: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Return lines of the trainings of one run: means over draws, bars from lowest to highest.

    Args:
        rows: A result's "tickets".
    """
    found: dict[str, dict[int, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["arm"]][row["level"]].append(row)
    return [
        {
            "name": arm,
            "levels": [
                {"density": ones[0]["density"]}
                | {key: _range([one[key] for one in ones]) for key in MEASURES}
                for _, ones in sorted(levels.items())
            ],
        }
        for arm, levels in found.items()
    ]


def charts(series: Sequence[Series]) -> dict[str, Any]:
    """Return a figure as JSON values for each measure that is known.

    Args:
        series: The lines.
    """
    return {key: found for key in MEASURES if (found := _chart(series, key))}


def _range(given: Sequence[float | None]) -> dict[str, float | None] | None:
    known = [value for value in given if value is not None]
    if not known:
        return None
    low, high = (min(known), max(known)) if len(known) > 1 else (None, None)
    return {"mean": sum(known) / len(known), "low": low, "high": high}


def _length(value: Mapping[str, float | None], end: str) -> float:
    return 0.0 if value[end] is None else abs(value[end] - value["mean"])  # type: ignore[operator]


def _chart(series: Sequence[Series], key: str) -> Any:
    lines = []
    for one in series:
        known = [level for level in one["levels"] if level[key] is not None]
        if not known:
            continue
        found = [level[key] for level in known]
        lines.append(
            go.Scatter(
                x=[level["density"] for level in known],
                y=[value["mean"] for value in found],
                error_y={
                    "array": [_length(value, "high") for value in found],
                    "arrayminus": [_length(value, "low") for value in found],
                    "thickness": 1,
                    "width": 3,
                },
                name=plain(one["name"]),
                mode="lines+markers",
                showlegend=True,
            )
        )
    if not lines:
        return None
    densities = sorted({level["density"] for one in series for level in one["levels"]})
    shown = densities[:: -(-len(densities) // _TICKS)]
    figure = go.Figure(lines)
    figure.update_layout(height=320, hovermode="closest")
    figure.update_xaxes(
        type="log",
        autorange="reversed",
        title="weights left",
        tickvals=shown,
        ticktext=[percent(density) for density in shown],
    )
    figure.update_yaxes(tickformat="~%" if "accuracy" in key else None)
    return values(figure)
