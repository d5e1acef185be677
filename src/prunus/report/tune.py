"""The page of a search: what it found in words, all trials in one figure, and two tables."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prunus.report.quantities import count, milliseconds, percent

Document = Mapping[str, Any]

COSTS = {"macs": "MACs", "params": "Parameters", "bytes": "Bytes", "latency_ms": "Milliseconds"}
_SCALED = {"accuracy": "accuracy", "mean_iou": "mean IoU"}


def quality(value: float | None, metric: str) -> str:
    """Write a metric: "91.20 %"; nothing where it is not known."""
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if metric in _SCALED else f"{value:.2f}"


def value_text(value: Any) -> str:
    """Write a value as a recipe has it, numbers with four figures."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def cost_text(trial: Mapping[str, Any], cost: str) -> tuple[str, str]:
    """Write a cost of a trial, and its share of the unpruned network's."""
    if trial.get(cost) is None:
        return "", ""
    if cost == "latency_ms":
        return milliseconds(trial[cost]), ""
    return count(trial[cost]), percent(trial["share"][cost])


def page(document: Document) -> dict[str, Any]:
    """Return what the template of the page shows."""
    metric, costs = document["metric"], document["costs"]
    best = {row["number"] for row in document["front"]}
    dense = document["dense"]
    unpruned = {"share": {key: 1.0 for key in costs}, **dense} if dense.get("val") else None

    def row(trial: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "number": trial["number"],
            "best": trial["number"] in best,
            "state": _state(trial),
            "why": trial["why"],
            "val": quality(trial.get("val"), metric),
            "test": quality(trial.get("test"), metric),
            "costs": [cost_text(trial, cost) for cost in costs],
            "values": [value_text(trial["values"][key]) for key in document["keys"]],
            "recipe": trial.get("recipe"),
        }

    return {
        "title": document["title"],
        "goal": _goal(document),
        "summary": document["summary"],
        "notes": document["notes"],
        "several": len(document["objectives"]) > 1,
        "keys": document["keys"],
        "costs": [COSTS[cost] for cost in costs],
        "dense": unpruned
        and {
            "val": quality(dense["val"], metric),
            "test": quality(dense["test"], metric),
            "costs": [(cost_text(unpruned, cost)[0], "") for cost in costs],
        },
        "front": [row(trial) for trial in document["front"]],
        "trials": [row(trial) for trial in document["trials"]],
        "axes": {key: name for key, name, _ in _axes(document)},
        "environment": document["environment"],
        "data": _points(document, best),
    }


def _goal(document: Document) -> str:
    metric = document["metric"]
    words = [
        f"{'highest' if one in _SCALED else 'lowest'} {_name(one)}"
        for one in document["objectives"]
    ]
    limits = [
        f"{_name(name)} at {'least' if name in _SCALED else 'most'} "
        + (quality(value, metric) if name == metric else _limit(name, value))
        for name, value in document["limits"].items()
    ]
    return " and ".join(words) + (f", with {', '.join(limits)}" if limits else "")


def _limit(name: str, value: float) -> str:
    return f"{value:g} ms" if name == "latency_ms" else f"{percent(value)} of the unpruned"


def _name(objective: str) -> str:
    names = {"macs": "MACs", "latency_ms": "time", "mean_iou": "mean IoU", "params": "parameters"}
    return names.get(objective, objective)


def _state(trial: Mapping[str, Any]) -> str:
    if trial["state"] == "done" and not trial["within"]:
        return "outside a limit"
    return str(trial["state"])


def _axes(document: Document) -> list[tuple[str, str, Any]]:
    """Return what the figure may have to the right: its key, its name, and each trial's value."""
    axes: list[tuple[str, str, Any]] = [
        (cost, COSTS[cost], [trial.get(cost) for trial in document["trials"]])
        for cost in sorted(document["costs"], key=lambda one: one not in document["objectives"])
    ]
    axes.append(("trial", "Trial", [trial["number"] for trial in document["trials"]]))
    for key in document["keys"]:
        values = [trial["values"][key] for trial in document["trials"]]
        plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        axes.append((f"key {key}", key, values if plain else [*map(value_text, values)]))
    return axes


def _points(document: Document, best: set[int]) -> dict[str, Any]:
    """Return the trials as plain data, from which the page draws one figure."""
    metric = document["metric"]
    scale = 100 if metric in _SCALED else 1
    tested = {row["number"]: scale * row["test"] for row in document["front"]}
    points = []
    for trial in document["trials"]:
        reached: Sequence[float] = trial.get("curve") or ()
        value = trial.get("val", reached[-1] if reached else None)
        if value is None:
            continue
        number = trial["number"]
        points.append(
            {
                "number": number,
                "kind": "best" if number in best else _state(trial),
                "y": scale * value,
                "test": tested.get(number),
                "text": "\n".join(f"{k} = {value_text(v)}" for k, v in trial["values"].items()),
            }
        )
    dense = document["dense"]
    return {
        "points": points,
        "axes": {key: {"name": name, "values": values} for key, name, values in _axes(document)},
        "costs": document["costs"],
        "front": len(document["objectives"]) > 1 and document["objectives"],
        "dense": {"y": scale * dense["val"], **dense} if dense.get("val") is not None else None,
        "metric": f"{_SCALED[metric]}, %" if metric in _SCALED else metric,
    }
