"""The result document: what a run found, as plain data for the report and for programs."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from prunus import __version__
from prunus.deploy.machine import processor
from prunus.recipe import Recipe
from prunus.run.controls import NAMES
from prunus.run.controls import arms as arms_of
from prunus.run.levels import learned, tickets

Results = Mapping[str, Mapping[str, Any]]
"""Stage -> what it found; stages that the recipe does not have are absent."""

_QUALITY = ("accuracy", "mean_iou", "perplexity", "loss")
_WHERE = ("runtime", "threads", "batch", "rounds", "clock")


def document(recipe: Recipe, results: Results, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what the stages found.

    Args:
        recipe: The run's.
        results: What its stages found.
        environment: Where it was made.

    Returns:
        Plain data. The first arm is the dense network, the second what the run was for.
    """
    report, measured = results["prune"]["report"], results.get("measure", {})
    costs = report["costs"]
    levels, controls = results["prune"].get("levels"), _controls(recipe)
    dense = results["dense"]
    if _untrained(recipe):  # as it was drawn, it is nothing to compare with
        dense = {**dense, "accuracy": None, "loss": None}
    arms = [_arm("dense", dense, costs["macs"]["dense"])]
    last = "recover" if "recover" in results else "prune"
    stages = {"prune": "pruned", "recover": "fine-tuned"} | controls
    for stage in (last, *(name for name in stages if name in results and name != last)):
        name = "not fine-tuned" if stage == "prune" and last == "recover" else stages[stage]
        arm = _arm(name, results[stage], _macs(stage, results[stage], report))
        if levels:
            found = levels[-1] if stage == "prune" else learned(results[stage]["curve"])
            arm["early_stop"] = found["early_stop"]
        arms.append(arm)
    for arm, file in zip(arms, ("dense", "pruned"), strict=False):
        arm["file_bytes"] = results.get("export", {}).get(file)
        arm["latency_ms"] = _delivered(measured, file).get("latency_ms")
    arms[1]["speedup"] = _delivered(measured, "pruned").get("speedup")
    curves = {"dense": "dense"} | stages
    return {
        "title": recipe.name,
        "method": recipe.method.name,
        "target": report["target"],
        "arms": arms,
        "curves": {
            name: results[stage]["curve"]
            for stage, name in curves.items()
            if "curve" in results.get(stage, {})
        },
        "levels": levels,
        "tickets": tickets(recipe, results),
        "groups": report["groups"],
        "frozen": report["frozen"],
        "verification": report["verification"],
        "delivered": measured.get("delivered"),
        "latency": {key: measured[key] for key in _WHERE if key in measured} if measured else None,
        "environment": environment,
        "recipe": recipe.model_dump(mode="json", exclude_defaults=True),
        "notes": [*_notes(recipe, report), *_not_in_int8(results)],
    }


def _controls(recipe: Recipe) -> dict[str, str]:
    return {
        stage: NAMES[arm] if draw == 1 else f"{NAMES[arm]} {draw}"
        for stage, arm, draw in arms_of(recipe)
    }


def _delivered(measured: Mapping[str, Any], network: str) -> Mapping[str, Any]:
    """Return what was measured of a network in float32; nothing where it was not."""
    rows = measured.get("delivered") or ()
    found = (r for r in rows if (r["network"], r["precision"]) == (network, "fp32"))
    return next(found, {})


def _not_in_int8(results: Results) -> list[str]:
    quantised = results.get("quantise") or {}
    return [
        f"the {name} network is not delivered in int8: {found['refused']}"
        for name, found in quantised.items()
        if "refused" in found
    ]


def _untrained(recipe: Recipe) -> bool:
    return recipe.data is not None and not (recipe.train or recipe.model.weights)


def _macs(stage: str, result: Mapping[str, Any], report: Mapping[str, Any]) -> int:
    """Return the MACs of the network that a stage made; or of the pruned one, without its own."""
    if "costs" in result:  # an ordinary network, of which nothing was pruned
        return int(result["costs"]["macs"])
    costs = result.get("report", report)["costs"]["macs"]
    return int(costs["dense" if stage == "unpruned" else "pruned"])


def _arm(name: str, result: Mapping[str, Any], macs: int) -> dict[str, Any]:
    found = {key: result.get(key) for key in (*_QUALITY, "params", "nonzero", "epochs")}
    return {"name": name, "macs": macs, **found}


def _notes(recipe: Recipe, report: Mapping[str, Any]) -> list[str]:
    notes: list[str] = report["notes"] + [
        f"no rule for {operation} (met {count} times): the channels it touches stay whole"
        for operation, count in report["unknown"].items()
    ]
    if recipe.model.weights:
        notes.append(f"the dense network's weights are those of {Path(recipe.model.weights).name}")
    if (soft := recipe.soft_targets) is not None:
        others = len(recipe.distil.teachers) if recipe.distil else 0
        notes.append(
            "fine-tuning learns soft targets of "
            f"{f'{others} given networks' if others else 'the dense network'} (temperature "
            f"{soft.temperature:g}, weight of the labels {soft.hard_weight:g}); the other arms "
            "learn from labels alone"
        )
    if _untrained(recipe):
        notes.append("the dense network was pruned as it was drawn, not trained")
    if report["form"] == "rewritten graph":
        notes.append("the smaller network is a rewritten graph, not of the original classes")
    if report["form"] == "masked" and report["nonzero"] < report["costs"]["params"]["pruned"]:
        notes.append("single weights are zero, not gone: MACs and speed are those of dense kernels")
    return notes


def environment() -> dict[str, Any]:
    """Return where and when a run is made."""
    return {
        "prunus": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
