"""Ticket curves of a study: how fast each level learned, over the seeds."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from prunus.recipe import LEVELLED
from prunus.run.levels import MEASURES, TICKET, learned
from prunus.run.stages import Done
from prunus.study.arms import ARMS
from prunus.study.cells import Cell, Cells
from prunus.study.statistics import mean
from prunus.study.verdicts import size

Row = dict[str, Any]


def curves(laid_out: Cells, done: Mapping[str, Done | None]) -> list[Row]:
    """Return a line per method that rewinds, size and arm, for `prunus.report.tickets.charts`.

    Args:
        laid_out: The study's cells.
        done: Key -> each stage, if it is done.

    Returns:
        Each with "name" and "levels": density, and mean, low and high of each of `MEASURES` over
        seeds, the ends those of the 95 % t interval; None where it is not known.
    """
    found: dict[tuple[Any, ...], dict[int, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
    for cell in laid_out.cells:
        pruned = done.get(cell.stages.get("prune", ""))
        own = pruned.result.get("levels") if pruned is not None else None
        if not own or cell.arm == "distilled":
            continue
        for level, row in enumerate(own):
            found[cell.method, cell.target, TICKET][level][cell.seed] = row
        for level, row in _trained(cell, done, len(own) - 1).items():
            line = found[cell.method, cell.target, ARMS[cell.arm].title]
            line[level][cell.seed] = {"density": own[level]["density"], **row}
    methods = {(method, target) for method, target, _ in found}
    return [
        {
            "name": arm if len(methods) == 1 else f"{_named(method, target)}: {arm}",
            "levels": [_means([*levels[k].values()]) for k in sorted(levels)],
        }
        for (method, target, arm), levels in found.items()
    ]


def _trained(cell: Cell, done: Mapping[str, Done | None], last: int) -> dict[int, Row]:
    """Return what the trainings of a control found, by level."""
    if cell.arm not in LEVELLED:
        return {}
    keys = {**cell.levels, last: cell.stages[cell.stage]}
    stages = {level: done[key] for level, key in keys.items()}
    return {k: learned(one.result["curve"]) for k, one in stages.items() if one is not None}


def _means(rows: list[Row]) -> Row:
    found: Row = {"density": mean([row["density"] for row in rows]).mean}
    for key in MEASURES:
        given = [row[key] for row in rows if row[key] is not None]
        one = mean(given) if given else None
        found[key] = one and {"mean": one.mean, "low": one.low, "high": one.high}
    return found


def _named(method: str, target: Any) -> str:
    if target is None:
        return method
    return f"{method} at {size({'metric': target.metric, 'value': target.value})}"
