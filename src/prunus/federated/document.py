"""What a federated run found, as plain data for the report and for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prunus.federated.federation import Traffic
from prunus.federated.recipe import FederatedRecipe

Record = Mapping[str, Any]

SHARES = (0.5, 0.8, 0.9, 0.95, 1.0)
"""Of the final accuracy, for which the time is told."""


def document(
    recipe: FederatedRecipe,
    records: Sequence[Record],
    traffic: Traffic,
    left_out: Mapping[str, str],
    fairness: Mapping[str, float],
    report: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather what a run found.

    Args:
        recipe: The run's.
        records: Of all rounds, the first of the state before them.
        traffic: What travelled and what was not taken in.
        left_out: Address of a client that was there in the end -> why it took no part.
        fairness: Client -> accuracy of the final network on its own data.
        report: Of the removal in the end.
        environment: Where it was made.
    """
    last = records[-1]
    return {
        "title": recipe.name,
        "method": recipe.method.name,
        "seed": recipe.seed,
        "accuracy": last["accuracy"],
        "density": last["density"],
        "simulated_seconds": last["simulated_seconds"],
        "time_to_accuracy": time_to_accuracy(records),
        "traffic": {
            "down": traffic.down,
            "up": traffic.up,
            "refused": dict(sorted(traffic.refused.items())),
            "lost": traffic.lost,
            "late": traffic.late,
            "structures asked for": traffic.needed,
        },
        "left out": dict(left_out),
        "fairness": spread(fairness),
        "rounds": list(records),
        "report": report,
        "environment": environment,
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
    }


def time_to_accuracy(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return when the simulated clock first showed each share of the final accuracy.

    Returns:
        Per share, the accuracy, and the round, the seconds and the bytes both ways until then.
    """
    judged = [record for record in records if record.get("accuracy") is not None]
    found = []
    for share in SHARES:
        wanted = share * judged[-1]["accuracy"]
        first = next(record for record in judged if record["accuracy"] >= wanted)
        found.append(
            {
                "share": share,
                "accuracy": wanted,
                "round": first["round"],
                "simulated_seconds": first["simulated_seconds"],
                "bytes": first["down"] + first["up"],
            }
        )
    return found


def spread(accuracies: Mapping[str, float]) -> dict[str, Any] | None:
    """Return how accuracies differ among clients; None without any."""
    if not accuracies:
        return None
    values = np.array(list(accuracies.values()), dtype=np.float64)
    worst = min(sorted(accuracies), key=lambda name: accuracies[name])
    return {
        "clients": len(values),
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "worst": float(values.min()),
        "worst client": worst,
        "tenth percentile": float(np.quantile(values, 0.1)),
        "best": float(values.max()),
    }
