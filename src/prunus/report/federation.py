"""The page of a federated run: accuracy over time and bytes, density over rounds, and fairness."""

from collections.abc import Mapping
from typing import Any

from prunus.report import figures
from prunus.report.quantities import percent, size

Document = Mapping[str, Any]


def sentence(document: Document) -> str:
    """Say in a sentence what came out."""
    traffic, eighty = document["traffic"], document["time_to_accuracy"][1]
    first = document["rounds"][0]["accuracy"]
    if first is not None and first >= document["accuracy"]:
        reached = f"no more than the {percent(first)} before the first round"
    else:
        reached = (
            f"80 % of that accuracy after {eighty['simulated_seconds']:,.0f} s of the simulated "
            f"clock and {size(eighty['bytes'])}"
        )
    return (
        f"{percent(document['accuracy'])} accuracy with {percent(document['density'])} of the "
        f"weights; {reached}; in all {size(traffic['down'])} to clients and {size(traffic['up'])} "
        "from them."
    )


def page(document: Document) -> dict[str, Any]:
    """Return what the template of the page shows."""
    rounds = [{**record, "bytes": record["down"] + record["up"]} for record in document["rounds"]]
    changes = [record for record in rounds if record["layers"]]
    names = list(changes[0]["layers"]) if changes else []
    end = rounds[-1]["round"]
    layers = {
        name: [
            *({"round": r["round"], "density": r["layers"][name]} for r in changes),
            {"round": end, "density": changes[-1]["layers"][name]},
        ]
        for name in names
    }
    whole = {document["method"]: rounds}
    charts = {
        "time": figures.curves(whole, "accuracy", "simulated_seconds"),
        "bytes": figures.curves(whole, "accuracy", "bytes"),
        "loss": figures.curves(whole, "train_loss", "round"),
        "density": figures.curves(layers, "density", "round"),
    }
    traffic = document["traffic"]
    refused = ", ".join(f"{count} {reason}" for reason, count in traffic["refused"].items())
    return {
        "title": document["title"],
        "method": document["method"],
        "headline": sentence(document),
        "reached": [
            {
                "share": percent(one["share"]),
                "accuracy": percent(one["accuracy"]),
                "round": one["round"],
                "seconds": f"{one['simulated_seconds']:,.0f} s",
                "bytes": size(one["bytes"]),
            }
            for one in document["time_to_accuracy"]
        ],
        "traffic": {
            "to clients": size(traffic["down"]),
            "from clients": size(traffic["up"]),
            "updates refused": refused or "none",
            "no answer": traffic["lost"],
            "too late": traffic["late"],
            "structures asked for": traffic["structures asked for"],
        },
        "fairness": _fairness(document["fairness"]),
        "verification": {
            name: value
            for name, value in (document["report"]["verification"] or {}).items()
            if value not in ("", None)
        },
        "environment": document["environment"],
        "charts": {name: chart for name, chart in charts.items() if chart},
    }


def _fairness(found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        name: percent(value) if isinstance(value, float) else value
        for name, value in (found or {}).items()
    }
