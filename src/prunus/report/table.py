"""The arms of a result side by side, for the page, the terminal, and Markdown."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from prunus.report.quantities import count, interval, milliseconds, percent, size, times

Arm = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One figure of one arm; `note` compares it with the dense network or gives its interval."""

    text: str = ""
    note: str = ""


@dataclass(frozen=True)
class ArmsGrid:
    """Headings, and one row of cells per arm; a column that no arm has is left out."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def dense_arm(result: Mapping[str, Any]) -> Arm:
    """The arm named "dense", with which the others are compared; empty if there is none."""
    return next((arm for arm in result.get("arms") or () if arm.get("name") == "dense"), {})


def pruned_arm(result: Mapping[str, Any]) -> Arm:
    """The first arm that is not the dense one, which is what the run was for; or empty."""
    return next((arm for arm in result.get("arms") or () if arm.get("name") != "dense"), {})


def with_interval(value: Any) -> tuple[float, float | None, float | None]:
    """Read a number, or a median with its interval, as (median, low, high)."""
    if isinstance(value, Mapping):
        return value["median"], value.get("low"), value.get("high")
    return value, None, None


def arms_grid(result: Mapping[str, Any]) -> ArmsGrid:
    """Lay out the arms of a result document."""
    arms = result.get("arms") or ()
    dense = dense_arm(result)
    keys = [key for key in _COLUMNS if any(arm.get(key) is not None for arm in arms)]
    if all(arm.get("nonzero") in (None, arm.get("params")) for arm in arms):
        keys = [key for key in keys if key != "nonzero"]
    return ArmsGrid(
        tuple(_COLUMNS[key].heading for key in keys),
        tuple(
            tuple(
                Cell() if arm.get(key) is None else _COLUMNS[key].cell(arm[key], dense.get(key))
                for key in keys
            )
            for arm in arms
        ),
    )


_LEVELS: dict[str, Callable[[Any], str]] = {
    "density": lambda value: percent(value),
    "early_stop": lambda value: f"{value:,} it",
    "early_stop_accuracy": lambda value: percent(value, 2),
    "final_accuracy": lambda value: percent(value, 2),
}


def levels_grid(result: Mapping[str, Any]) -> ArmsGrid:
    """Lay out the trainings of a result whose method rewinds; no rows for another."""
    rows = [
        (Cell(str(number)), *(_level(level, key) for key in _LEVELS))
        for number, level in enumerate(result.get("levels") or ())
    ]
    return ArmsGrid(("Level", "Left", "Early stop", "Accuracy then", "At the end"), tuple(rows))


def _level(level: Mapping[str, Any], key: str) -> Cell:
    return Cell() if level.get(key) is None else Cell(_LEVELS[key](level[key]))


def levels_table(result: Mapping[str, Any]) -> Table | None:
    """Lay out the trainings of a result whose method rewinds, for the terminal; else None."""
    grid = levels_grid(result)
    if not grid.rows:
        return None
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in grid.headings:
        table.add_column(heading, justify="right")
    for row in grid.rows:
        table.add_row(*(cell.text for cell in row))
    return table


def delivered_grid(rows: Sequence[Mapping[str, Any]]) -> ArmsGrid:
    """Lay out what is delivered in each precision; speed-ups are over the dense one in float32.

    Args:
        rows: As `prunus.deploy.Delivered.to_dict` writes them; any key may be missing.
    """
    known = [key for key in _DELIVERED if any(row.get(key) is not None for row in rows)]
    dense = next(iter(rows), {})
    return ArmsGrid(
        tuple(_DELIVERED[key].heading for key in known),
        tuple(
            tuple(
                Cell() if row.get(key) is None else _DELIVERED[key].cell(row[key], dense.get(key))
                for key in known
            )
            for row in rows
        ),
    )


def delivered_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out what is delivered in each precision for the terminal, in 80 columns."""
    return as_table(delivered_grid(rows))


_SHORT = {"Parameters": "Params", "Non-zero": "Nonzero", "Epochs": "Ep."}


def arms_table(result: Mapping[str, Any]) -> Table:
    """Lay out the arms of a result document for the terminal, in 80 columns.

    Args:
        result: A result document; any key may be missing.
    """
    return as_table(arms_grid(result))


def as_table(grid: ArmsGrid, names: int | None = None) -> Table:
    """Lay out a grid for the terminal, notes below what they belong to.

    Args:
        grid: What is shown.
        names: Least width of the first column; what does not fit is folded.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for number, heading in enumerate(grid.headings):
        short = _SHORT.get(heading, heading)
        table.add_column(short, justify="right" if number else "left", no_wrap=number > 0)
    if names is not None:
        table.columns[0].min_width, table.columns[0].overflow = names, "fold"
    for row in grid.rows:
        cells = []
        for heading, cell in zip(grid.headings, row, strict=True):
            note = (
                ""
                if heading == "Latency"
                else cell.note.removesuffix(" points").replace(" to ", "-")
            )
            cells.append(Text.assemble(cell.text, (f"\n{note}" if note else "", "dim")))
        table.add_row(*cells)
    return table


def arms_markdown(result: Mapping[str, Any]) -> str:
    """Lay out the arms of a result document as a Markdown table; empty without arms.

    Args:
        result: A result document; any key may be missing.
    """
    grid = arms_grid(result)
    if not grid.rows:
        return ""
    lines = [grid.headings, ("---", *("---:" for _ in grid.headings[1:]))]
    lines += [
        tuple(_markdown(f"{c.text} ({c.note})" if c.note else c.text) for c in row)
        for row in grid.rows
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown(text: str) -> str:
    """Take from `text` what Markdown, or the HTML inside it, would act on."""
    return re.sub(r"([\\`*_\[\]<>|&])", r"\\\1", " ".join(text.split()))


@dataclass(frozen=True)
class _Column:
    heading: str
    cell: Callable[[Any, Any], Cell]  # from the arm's value and the dense arm's


def _of_dense(show: Callable[[float], str]) -> Callable[[Any, Any], Cell]:
    def cell(value: Any, dense: Any) -> Cell:
        return Cell(show(value), percent(value / dense) if dense and value != dense else "")

    return cell


def _share(value: Any, dense: Any) -> Cell:
    note = "" if dense in (None, value) else f"{100 * (value - dense):+.2f} points"
    return Cell(percent(value, 2), note)


def _perplexity(value: Any, dense: Any) -> Cell:
    return Cell(f"{value:.2f}", "" if dense in (None, value) else f"{value - dense:+.2f}")


def _latency(value: Any, dense: Any) -> Cell:
    median, low, high = with_interval(value)
    return Cell(milliseconds(median), interval(low, high))


def speedup_cell(value: Any, dense: Any = None) -> Cell:
    """Show how many times faster; what the interval covers is no difference."""
    median, low, high = with_interval(value)
    covered = low is not None and high is not None and low <= 1 <= high
    return Cell("no difference" if covered else times(median), interval(low, high))


_COLUMNS: dict[str, _Column] = {
    "name": _Column("Arm", lambda value, dense: Cell(str(value))),
    "accuracy": _Column("Accuracy", _share),
    "mean_iou": _Column("Mean IoU", _share),
    "perplexity": _Column("Perplexity", _perplexity),
    "params": _Column("Parameters", _of_dense(count)),
    "nonzero": _Column("Non-zero", _of_dense(count)),
    "macs": _Column("MACs", _of_dense(count)),
    "file_bytes": _Column("File", _of_dense(size)),
    "latency_ms": _Column("Latency", _latency),
    "speedup": _Column("Speed-up", speedup_cell),
    "early_stop": _Column("Early stop", lambda value, dense: Cell(f"{value:,} it")),
    "epochs": _Column("Epochs", lambda value, dense: Cell(f"{value:.3g}")),
}


_DELIVERED: dict[str, _Column] = {
    "network": _Column("Network", lambda value, dense: Cell(str(value))),
    "precision": _Column("Precision", lambda value, dense: Cell(str(value))),
    "bytes": _Column("File", _of_dense(size)),
    "latency_ms": _Column("Latency", _latency),
    "speedup": _Column("Speed-up", speedup_cell),
    "difference": _Column("Off float32 by", lambda value, dense: Cell(percent(value))),
    "agreement": _Column("Same class", lambda value, dense: Cell(percent(value))),
}
