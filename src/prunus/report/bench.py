"""What `prunus bench` found: tables by threads and batch, and a page with a chart."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from prunus.report.quantities import interval, milliseconds, size
from prunus.report.table import ArmsGrid, Cell, speedup_cell

Document = Mapping[str, Any]
Row = Mapping[str, Any]


def described(document: Document) -> str:
    """Say what the machine is, in a line."""
    here = document["machine"]
    parts = [
        here["processor"],
        f"{here['cores']} cores",
        here["instructions"],
        None if here["memory"] is None else f"{size(here['memory'])} of memory",
        here["system"],
        None if here["load"] is None else f"load {here['load']:g} before the start",
    ]
    return ", ".join(str(part) for part in parts if part)


def bench_grids(document: Document) -> list[tuple[str, ArmsGrid]]:
    """Lay out the rows: a title and a grid per threads and batch."""
    found = []
    for (threads, batch), rows in by_place(document):
        cells = [{heading: cell(row) for heading, cell in _COLUMNS.items()} for row in rows]
        shown = [heading for heading in _COLUMNS if any(row[heading] != Cell() for row in cells)]
        grid = ArmsGrid(tuple(shown), tuple(tuple(row[key] for key in shown) for row in cells))
        found.append((f"threads {threads}, batch {batch}, {document['rounds']} rounds", grid))
    return found


def by_place(document: Document) -> list[tuple[tuple[int, int], list[Row]]]:
    """Group the rows by threads and batch."""

    def place(row: Row) -> tuple[int, int]:
        return row["threads"], row["batch"]

    rows = sorted(document["rows"], key=place)
    return [(key, list(group)) for key, group in groupby(rows, key=place)]


def remarks(document: Document) -> list[str]:
    """Say what could not be measured, each reason once with all that it holds for, and warnings."""
    found: dict[str, list[str]] = {}
    for one in document["refused"]:
        found.setdefault(one["reason"], []).append(one["name"])
    refused = [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in found.items()]
    return [*refused, *document["notes"], *filter(None, [_busy(document)])]


def _busy(document: Document) -> str:
    """Say that the machine had other work, which tells on the clock on the wall; "" if not."""
    here = document["machine"]
    load, cores = here["load"], here["cores"]
    if document["clock"] == "processor" or None in (load, cores) or load < cores:
        return ""
    return (
        f"the machine was busy (load {load:g} on {cores} cores), and short inferences are "
        "interrupted less than long ones: take the clock 'processor' with one thread, or wait"
    )


def runs_in(row: Row) -> str:
    """Name runtime and precision."""
    return f"{row['runtime']} {row['precision']}"


def _median(row: Row) -> Cell:
    time = row["latency_ms"]
    shaky = "" if row["stable"] else ", not stable after warm-up"
    return Cell(milliseconds(time["median"]), interval(time["low"], time["high"]) + shaky)


def _percentiles(row: Row) -> Cell:
    found = (row["latency_ms"][key] for key in ("p90", "p99"))
    return Cell(*("" if value is None else milliseconds(value) for value in found))


def _speedup(row: Row) -> Cell:
    return Cell() if row["speedup"] is None else speedup_cell(row["speedup"])


def _sizes(row: Row) -> Cell:
    return Cell(*("" if row[key] is None else size(row[key]) for key in ("bytes", "memory")))


def _energy(row: Row) -> Cell:
    return Cell() if row["joules"] is None else Cell(f"{1e3 * row['joules']:.3g} mJ")


_COLUMNS: dict[str, Callable[[Row], Cell]] = {
    "Network": lambda row: Cell(row["name"], runs_in(row)),
    "Median": _median,
    "p90, p99": _percentiles,
    "Rows/s": lambda row: Cell(f"{row['throughput']:.4g}"),
    "Speed-up": _speedup,
    "File, memory": _sizes,
    "Energy": _energy,
}


def page(document: Document) -> dict[str, Any]:
    """Return what the template of the page shows."""
    return {
        "title": "Latency",
        "machine": {key: value for key, value in document["machine"].items() if value is not None},
        "energy": document["energy"],
        "grids": bench_grids(document),
        "remarks": remarks(document),
    }


def bars(document: Document) -> Sequence[dict[str, Any]]:
    """Return the bars of the chart: per threads and batch, names, medians and their intervals."""
    found = []
    for (threads, batch), rows in by_place(document):
        medians = [row["latency_ms"]["median"] for row in rows]
        found.append(
            {
                "name": f"threads {threads}, batch {batch}",
                "labels": [f"{row['name']}, {runs_in(row)}" for row in rows],
                "ms": medians,
                "above": [row["latency_ms"]["high"] - row["latency_ms"]["median"] for row in rows],
                "below": [row["latency_ms"]["median"] - row["latency_ms"]["low"] for row in rows],
            }
        )
    return found
