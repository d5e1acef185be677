"""The result of a study as plain data: cells, means over seeds, comparisons, and what they say."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from prunus.recipe import SHAPES
from prunus.run.sizes import dense_size
from prunus.run.stages import Done
from prunus.study.arms import ARMS
from prunus.study.cells import Cell, Cells
from prunus.study.compare import comparisons, verdicts
from prunus.study.curves import curves
from prunus.study.measure import timings, values
from prunus.study.recipe import StudyRecipe
from prunus.study.statistics import Mean, mean

Row = dict[str, Any]


def document(
    study: StudyRecipe,
    laid_out: Cells,
    failed: Mapping[str, str],
    environment: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather a study.

    Args:
        study: Its recipe.
        laid_out: Its cells.
        failed: Key of a stage -> why it could not be done.
        environment: Where it was made.

    Returns:
        Plain data: "cells", one per network; "rows", one per arm, method and size, with means over
        seeds; "comparisons", "verdicts", "layers" and "tickets"; and what they were made with.
    """
    done = {key: task.step.recall() for key, task in laid_out.tasks.items()}
    stages = {key: task.stage for key, task in laid_out.tasks.items()}
    dense = dense_size(
        one.result for key, one in done.items() if one is not None and stages[key] == "prune"
    )
    ms, timed = timings(laid_out, done)
    if ms:
        dense["ms"] = ms["", None]
    cells = [_cell(cell, laid_out, done, dense, failed, ms) for cell in laid_out.cells]
    metric = next((found["metric"] for found in cells if "metric" in found), "accuracy")
    rows = [_row(own) for own in _grouped(cells).values()]
    compared = comparisons(cells, metric)
    return {
        "title": study.name,
        "metric": metric,
        "seeds": study.study.seeds,
        "dense": dense,
        "verdicts": verdicts(compared, metric, study.study.seeds),
        "rows": rows,
        "comparisons": compared,
        "layers": _layers(laid_out, done),
        "tickets": curves(laid_out, done),
        "timed": timed,
        "cells": cells,
        "notes": [*_notes(study, cells), *laid_out.notes],
        "environment": environment,
        "recipe": study.model_dump(mode="json", exclude_defaults=True),
    }


def _cell(
    cell: Cell,
    laid_out: Cells,
    done: Mapping[str, Done | None],
    dense: dict[str, float],
    failed: Mapping[str, str],
    ms: Mapping[tuple[str, Any], float],
) -> Row:
    """Return a cell's coordinates, its numbers if it is done, and why not if it failed."""
    target = cell.target and {"metric": cell.target.metric, "value": cell.target.value}
    found: Row = {"method": cell.method, "target": target, "arm": cell.arm, "seed": cell.seed}
    found["failed"] = next((failed[k] for k in cell.stages.values() if k in failed), None)
    ours = {name: one for name, key in cell.stages.items() if (one := done[key]) is not None}
    results = {name: one.result for name, one in ours.items()}
    if len(ours) < len(cell.stages):
        return found
    recipe = laid_out.tasks[cell.stages[cell.stage]].recipe
    own = None if cell.arm in ("small_dense", *SHAPES) else ms.get((cell.method, cell.target))
    numbers = values(cell, results, recipe, dense)
    if numbers["test"] is None:
        return found | {"failed": f"its {numbers['metric']} is beyond all bounds"}
    return found | dict(numbers) | {"ms": own, "weights": _digest(ours[cell.stage])}


def _digest(done: Done) -> str:
    """Return the SHA-256 of a network's file of weights, which tells it from all others."""
    with (done.directory / "weights.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _grouped(cells: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for cell in cells:
        target = cell["target"] and (cell["target"]["metric"], cell["target"]["value"])
        groups[cell["method"], target, cell["arm"]].append(cell)
    return groups


def _row(cells: Sequence[Row]) -> Row:
    """Return the means of one arm of a method at a size over its seeds."""
    first, done = cells[0], [cell for cell in cells if "test" in cell]
    row = {key: first[key] for key in ("method", "target", "arm")}
    row |= {"title": ARMS[first["arm"]].title, "seeds": len(cells), "done": len(done)}
    row["failed"] = next((cell["failed"] for cell in cells if cell["failed"]), None)
    if not done:
        return row
    if done[0]["made"]:
        row["title"] += f", {done[0]['made']}"
    one_network = len({cell["weights"] for cell in done}) == 1
    for key in ("test", "val"):
        given = [cell[key] for cell in done if cell[key] is not None]
        found = mean(given, done[0]["resolution"][key]) if given else None
        if found and one_network:
            found = Mean(found.mean, found.count, None, None)
        row[key] = found and asdict(found)
    for key in ("macs", "params", "bytes", "ms"):
        given = [cell[key] for cell in done if cell[key] is not None]
        row[key] = fmean(given) if given else None
    for part in ("own", "total"):
        row[part] = {key: fmean(cell[part][key] for cell in done) for key in ("epochs", "macs")}
    spent = row["total"]["macs"]
    row["per_tera"] = row["test"]["mean"] / (spent / 1e12) if spent else None
    return row


def _layers(laid_out: Cells, stages: Mapping[str, Done | None]) -> list[Row]:
    """Return what each method left of each layer at each size: channels, or the share of weights.

    Means over the seeds; apart from the method's own those of the arms with other widths.
    """
    found: dict[tuple[Any, ...], dict[str, Done]] = defaultdict(dict)
    for cell in laid_out.cells:
        own = cell.arm if cell.arm in SHAPES else ""
        done = stages.get(cell.stages.get(own or "prune", ""))
        if done is not None and cell.arm != "distilled":
            found[cell.method, cell.target, own][done.key] = done
    layers = []
    for (method, target, own), ones in found.items():
        results = [done.result for done in ones.values()]
        masked = results[0]["report"]["form"] == "masked"
        tables = [
            {name: (1.0, share) for name, share in result["kept"].items()}
            if masked
            else {g["name"]: (g["before"], g["after"]) for g in result["report"]["groups"]}
            for result in results
        ]
        layers.append(
            {
                "method": method,
                "target": target and {"metric": target.metric, "value": target.value},
                "arm": own and ARMS[own].title,
                "unit": "share of weights" if masked else "channels",
                "layers": [
                    {
                        "name": name,
                        "before": before,
                        "after": fmean(table[name][1] for table in tables if name in table),
                    }
                    for name, (before, _) in tables[0].items()
                ],
            }
        )
    return layers


def _notes(study: StudyRecipe, cells: Sequence[Row]) -> list[str]:
    notes = []
    if study.study.seeds == 1:
        notes.append("one seed: no intervals, and no difference can be told from chance")
    lengths = {method.title: study.lengths(method) for method in study.study.methods}
    if len({tuple(one.items()) for one in lengths.values()}) > 1:
        told = ", ".join(
            f"{title} {' + '.join(f'{n:g}{unit}' for unit, n in one.items())}"
            for title, one in lengths.items()
        )
        notes.append(f"budgets are unequal, as study.unequal_budgets says: {told}")
    if study.model.weights:
        notes.append("the unpruned network's weights are given; what they took is not counted")
    done = [cell for cell in cells if "test" in cell]
    if study.study.seeds > 1 and not all(cell["total"]["epochs"] for cell in done):
        notes.append("no interval is given where all seeds have one and the same untrained network")
    if len(done) < len(cells):
        notes.append(f"{len(cells) - len(done)} of {len(cells)} networks are missing")
    return notes
