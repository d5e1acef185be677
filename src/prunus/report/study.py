"""The page of a study: what it found in words, curves of all arms, a table, widths side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from prunus.report import tickets
from prunus.report.quantities import count, milliseconds, percent

Document = Mapping[str, Any]

_FORMS = {"macs": "MACs", "params": "params", "bytes": "bytes"}
_BEFORE = ("Method", "Target", "Arm", "Seeds", "Test", "Validation")
_AFTER = ("Epochs", "Training", "Per T")
COSTS = {"macs": "MACs", "params": "Parameters", "bytes": "Bytes", "ms": "Latency, ms"}


def size_text(target: Mapping[str, Any] | None) -> str:
    """Name a size briefly: "MACs 0.5"; a dash where there is none."""
    if target is None:
        return "-"
    return f"{_FORMS.get(target['metric'], target['metric'])} {target['value']:g}"


def quality(found: Mapping[str, Any] | None, metric: str) -> str:
    """Write a mean with its margin: "91.20 ± 0.31 %"."""
    if found is None:
        return ""
    scale, unit = (1, "") if metric == "perplexity" else (100, " %")
    margin = "" if found["margin"] is None else f" ± {scale * found['margin']:.2f}"
    return f"{scale * found['mean']:.2f}{margin}{unit}"


def page(document: Document) -> dict[str, Any]:
    """Return what the template of the page shows."""
    metric, dense = document["metric"], document["dense"]
    rows = [_row(row, metric, dense) for row in document["rows"]]
    return {
        "title": document["title"],
        "seeds": document["seeds"],
        "networks": len(document["cells"]),
        "summary": document["verdicts"]["summary"],
        "each": document["verdicts"]["each"],
        "notes": document["notes"],
        "rows": rows,
        "filter": list(dict.fromkeys(row["arm"] for row in rows)),
        "methods": list(dict.fromkeys(row["method"] for row in rows if row["method"])),
        "costs": {key: name for key, name in COSTS.items() if dense.get(key)},
        "headings": [*_BEFORE, *(COSTS[key] for key in COSTS if dense.get(key)), *_AFTER],
        "timed": document["timed"],
        "layers": _layers(document["layers"]),
        "charts": tickets.charts(document["tickets"]),
        "tickets": tickets.MEASURES,
        "environment": document["environment"],
        "data": _points(document),
    }


def _row(row: Mapping[str, Any], metric: str, dense: Mapping[str, float]) -> dict[str, Any]:
    cells = {
        "method": row["method"],
        "target": size_text(row["target"]),
        "arm": row["title"],
        "seeds": f"{row['done']}/{row['seeds']}" if row["done"] < row["seeds"] else row["done"],
        "failed": row["failed"] or "",
    }
    if not row["done"]:
        return cells
    return cells | {
        "test": quality(row["test"], metric),
        "val": quality(row["val"], metric),
        "costs": [_share(key, row[key], dense.get(key)) for key in COSTS if dense.get(key)],
        "epochs": f"{row['own']['epochs']:.3g}",
        "all_epochs": f"{row['total']['epochs']:.3g}",
        "macs": count(row["own"]["macs"]),
        "all_macs": count(row["total"]["macs"]),
        "per_tera": _plain(_scale(metric) * row["per_tera"]) if row["per_tera"] else "",
    }


def _share(key: str, value: float | None, whole: float | None) -> tuple[str, str]:
    if value is None:
        return "-", ""
    text = milliseconds(value) if key == "ms" else count(value)
    return text, percent(value / whole) if whole and value != whole else ""


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _scale(metric: str) -> int:
    return 1 if metric == "perplexity" else 100


def _points(document: Document) -> dict[str, Any]:
    """Return the curves as plain data, from which the page draws one figure."""
    scale = _scale(document["metric"])
    series: dict[tuple[str, str], dict[str, Any]] = {}
    for row in document["rows"]:
        if not row["done"]:
            continue
        one = series.setdefault(
            (row["method"], row["title"]),
            {"method": row["method"], "arm": row["title"], "points": []},
        )
        one["points"].append(
            {
                "target": size_text(row["target"]),
                "y": scale * row["test"]["mean"],
                "margin": None if row["test"]["margin"] is None else scale * row["test"]["margin"],
                "cost": {key: row[key] for key in COSTS},
            }
        )
    return {
        "series": list(series.values()),
        "costs": COSTS,
        "metric": {"accuracy": "test accuracy, %", "mean_iou": "test mean IoU, %"}.get(
            document["metric"], "test perplexity"
        ),
    }


def _layers(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Set what the methods left side by side: per unit, a row per layer, a column per method."""
    tables = []
    for unit in dict.fromkeys(one["unit"] for one in found):
        ours = [one for one in found if one["unit"] == unit]
        names = list(dict.fromkeys(layer["name"] for one in ours for layer in one["layers"]))
        columns = [{layer["name"]: layer for layer in one["layers"]} for one in ours]
        tables.append(
            {
                "unit": unit,
                "heads": [
                    (
                        ", ".join(filter(None, (one["method"], one["arm"]))),
                        size_text(one["target"]),
                    )
                    for one in ours
                ],
                "rows": [
                    (
                        name,
                        _before(columns, name, unit),
                        [_left(c.get(name), unit) for c in columns],
                    )
                    for name in names
                ],
            }
        )
    return tables


def _before(columns: Sequence[Mapping[str, Any]], name: str, unit: str) -> str:
    before = next(column[name]["before"] for column in columns if name in column)
    return f"{before:g}" if unit == "channels" else ""


def _left(layer: Mapping[str, Any] | None, unit: str) -> tuple[str, float]:
    """Write what is left, and its share of what was, for a bar."""
    if layer is None:
        return "-", 0.0
    share = layer["after"] / layer["before"]
    return (f"{layer['after']:.4g}" if unit == "channels" else percent(share)), share
