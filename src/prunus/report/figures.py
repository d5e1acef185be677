"""The charts of the page, as plotly figures without colours: the page gives those by its scheme."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

_LABEL = 20  # characters of a layer's name that a narrow screen has room for
_ROW = 19  # pixels per layer
_NUMBERS = 70  # pixels right of the longest bar, for "1024/2048"


def curves(
    records: Mapping[str, Sequence[Mapping[str, Any]]], key: str, axis: str | None = None
) -> Any:
    """Draw one quantity of every arm over training.

    Args:
        records: Arm -> its records, in order.
        key: Name of the quantity, such as "val_accuracy".
        axis: What it is drawn over; None for "epoch" where all records know it, else "step".

    Returns:
        The figure as JSON values, or None if no record has the quantity.
    """
    known = {
        name: [record for record in rows or () if record.get(key) is not None]
        for name, rows in records.items()
    }
    known = {name: rows for name, rows in known.items() if rows}
    if not known:
        return None
    if axis is None:
        every = [record for rows in known.values() for record in rows]
        axis = "epoch" if all(record.get("epoch") is not None for record in every) else "step"
    figure = go.Figure(
        [
            go.Scatter(
                x=[record.get(axis) for record in rows],
                y=[record[key] for record in rows],
                name=plain(name),
                mode="lines" if len(rows) > 1 else "markers",
                showlegend=True,
            )
            for name, rows in known.items()
        ]
    )
    figure.update_layout(height=320, hovermode="x unified")
    figure.update_xaxes(title=axis.replace("_", " "))
    share = "accuracy" in key or key == "density"
    figure.update_yaxes(tickformat="~%" if share else None)
    return values(figure)


def widths(groups: Sequence[Mapping[str, Any]]) -> Any:
    """Draw the channels of every group before and after, one row per group.

    Args:
        groups: The result's groups; those without both numbers are left out.

    Returns:
        The figure as JSON values, or None without groups.
    """
    rows = [g for g in groups if g.get("before") is not None and g.get("after") is not None]
    if not rows:
        return None
    # Rows are numbered, not named: two groups whose shortened names agree stay two rows.
    numbers = list(range(len(rows)))
    names = [str(row.get("name", "")) for row in rows]
    hover = [
        plain(f"{name}: {row['before']} → {row['after']}")
        for name, row in zip(names, rows, strict=True)
    ]
    figure = go.Figure(
        [
            go.Bar(
                name="before",
                x=[row["before"] for row in rows],
                text=[f"{row['after']}/{row['before']}" for row in rows],
                textposition="outside",
                cliponaxis=False,
            ),
            go.Bar(name="after", x=[row["after"] for row in rows]),
        ]
    )
    figure.update_traces(
        y=numbers, orientation="h", hovertext=hover, hovertemplate="%{hovertext}<extra></extra>"
    )
    figure.update_layout(
        barmode="overlay",
        bargap=0.25,
        height=50 + _ROW * len(rows),
    )
    figure.update_xaxes(range=[0, max(row["before"] for row in rows)], visible=False)
    figure.update_yaxes(
        tickvals=numbers,
        ticktext=[plain(_shortened(name)) for name in names],
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
    )
    return values(figure, right=_NUMBERS)


def latencies(groups: Sequence[Mapping[str, Any]]) -> Any:
    """Draw medians with their 95 % intervals, one row per network and runtime.

    Args:
        groups: Per threads and batch, as `prunus.report.bench.bars` makes them.

    Returns:
        The figure as JSON values.
    """
    labels = list(dict.fromkeys(label for group in groups for label in group["labels"]))
    figure = go.Figure(
        [
            go.Bar(
                name=plain(group["name"]),
                orientation="h",
                x=group["ms"],
                y=[labels.index(label) for label in group["labels"]],
                error_x={"array": group["above"], "arrayminus": group["below"], "thickness": 1},
                hovertext=[plain(label) for label in group["labels"]],
                hovertemplate="%{hovertext}: %{x:.4g} ms",
                showlegend=True,
            )
            for group in groups
        ]
    )
    figure.update_layout(
        barmode="group", bargap=0.3, height=90 + 2 * _ROW * len(labels) * max(1, len(groups))
    )
    figure.update_xaxes(title="ms", rangemode="tozero")
    figure.update_yaxes(
        tickvals=list(range(len(labels))),
        ticktext=[plain(_shortened(label)) for label in labels],
        range=[len(labels) - 0.4, -0.6],
        showgrid=False,
    )
    return values(figure)


def _shortened(name: str) -> str:
    return name if len(name) <= _LABEL else "…" + name[1 - _LABEL :].lstrip(".")


def plain(text: str) -> str:
    """Keep plotly from reading tags in `text`: it takes a subset of HTML in every label."""
    return html.escape(text, quote=False)


def values(figure: go.Figure, right: int = 8) -> Any:
    """Return a figure as JSON values, `right` pixels from the right edge."""
    figure.update_layout(
        template="none",
        margin={"l": 8, "r": right, "t": 8, "b": 8},
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "traceorder": "normal"},
    )
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    return json.loads(figure.to_json())
