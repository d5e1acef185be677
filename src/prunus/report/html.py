"""The pages of results and inspections: one file each that asks the network for nothing."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from prunus.files import write_text
from prunus.pruning import Sensitivity
from prunus.report import federation, figures, quantities, study
from prunus.report.graph import draw
from prunus.report.headline import aim, equality, headline, reached, speed
from prunus.report.inspection import REMOVABLE, Inspection, Reason
from prunus.report.lines import Line, branch_lines, frozen_lines, group_lines, layer_lines
from prunus.report.sensitivity import HEIGHT, TOLERANCE, WIDTH, panels
from prunus.report.table import arms_grid, levels_grid, with_interval

_TEMPLATES = Environment(
    loader=PackageLoader("prunus.report", "template"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "count": quantities.count,
    "interval": quantities.interval,
    "milliseconds": quantities.milliseconds,
    "percent": quantities.percent,
    "size": quantities.size,
    "times": quantities.times,
}


def write_report(result: Mapping[str, Any], path: Path | str) -> None:
    """Write the page of a result document, atomically.

    Args:
        result: A result document (`result.json` of a run). Any key may be missing or None; its part
            of the page is then left out. Text in it is shown as it is, never as HTML.
        path: Where to; usually ends in `.html`.

    Raises:
        OSError: `path` cannot be written.
    """
    write_text(path, _page(result))


def write_inspection(
    found: Inspection, path: Path | str, sensitivity: Sensitivity | None = None
) -> None:
    """Write the page of an inspection, with the network drawn, atomically.

    Args:
        found: What can be removed from a network.
        path: Where to; usually ends in `.html`.
        sensitivity: Accuracies with each layer alone pruned, drawn as well.

    Raises:
        OSError: `path` cannot be written.
    """
    groups = group_lines(found)
    reasons: dict[Reason, list[Line]] = {reason: [] for reason in found.coverage.reasons}
    of_text = {reason.reason: reason for reason in reasons}
    for line in frozen_lines(found):
        reasons[of_text[found.frozen[line.rows[0]].reason]].append(line)
    page = _TEMPLATES.get_template("inspection.html").render(
        title=found.model,
        found=found,
        headline=found.coverage.sentence,
        definition=REMOVABLE,
        drawing=draw(found, layer_lines(found, groups), groups),
        groups=groups,
        every=group_lines(found, every=True),
        branches=branch_lines(found),
        frozen=reasons,
        scan=None if sensitivity is None else panels(sensitivity),
        tolerance=TOLERANCE,
        width=WIDTH,
        height=HEIGHT,
    )
    write_text(path, page)


def write_study(document: Mapping[str, Any], path: Path | str) -> None:
    """Write the page of a study, atomically.

    Args:
        document: What `study.json` holds. Text in it is shown as it is, never as HTML.
        path: Where to; usually ends in `.html`.

    Raises:
        OSError: `path` cannot be written.
    """
    template = _TEMPLATES.get_template("study.html")
    write_text(path, template.render(**study.page(document), plotly=Markup(get_plotlyjs())))


def write_federation(document: Mapping[str, Any], path: Path | str) -> None:
    """Write the page of a federated run, atomically.

    Args:
        document: What its `result.json` holds. Text in it is shown as it is, never as HTML.
        path: Where to; usually ends in `.html`.

    Raises:
        OSError: `path` cannot be written.
    """
    template = _TEMPLATES.get_template("federation.html")
    shown = federation.page(document)
    recipe = list(_flat(document["recipe"]))
    write_text(path, template.render(**shown, recipe=recipe, plotly=Markup(get_plotlyjs())))


_QUALITY = ("accuracy", "mean_iou", "perplexity")


def _page(result: Mapping[str, Any]) -> str:
    curves = result.get("curves") or {}
    groups = result.get("groups") or []
    charts = {
        "loss": figures.curves(curves, "train_loss"),
        **{name: figures.curves(curves, f"val_{name}") for name in _QUALITY},
        "widths": figures.widths(groups),
    }
    return _TEMPLATES.get_template("page.html").render(
        title=result.get("title") or "Pruning report",
        method=result.get("method"),
        headline=headline(result),
        verdicts=[reached(result), equality(result), speed(result)],
        equality=equality(result),
        aim=aim(result.get("target")),
        notes=result.get("notes") or [],
        arms=arms_grid(result),
        levels=levels_grid(result),
        charts={name: chart for name, chart in charts.items() if chart},
        groups=groups,
        frozen=_by_reason(result.get("frozen") or []),
        verification=_facts(result.get("verification")),
        latency=_facts(result.get("latency")),
        latencies=_latencies(result),
        environment=_facts(result.get("environment")),
        recipe=list(_flat(result.get("recipe") or {})),
        plotly=Markup(get_plotlyjs()) if any(charts.values()) else None,
    )


def _by_reason(frozen: list[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group what was not pruned by why, the most frequent reason first."""
    reasons: dict[str, list[Mapping[str, Any]]] = {}
    for entry in frozen:
        reasons.setdefault(str(entry.get("reason") or "no reason given"), []).append(entry)
    return dict(sorted(reasons.items(), key=lambda item: -len(item[1])))


def _latencies(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for arm in result.get("arms") or []:
        if arm.get("latency_ms") is None:
            continue
        row = {"name": arm.get("name"), "latency": with_interval(arm["latency_ms"])}
        speedup = arm.get("speedup")
        rows.append(row | {"speedup": None if speedup is None else with_interval(speedup)})
    return rows


def _facts(table: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keep what is known, fractions with three figures."""
    return {
        name: f"{value:.3g}" if isinstance(value, float) else value
        for name, value in (table or {}).items()
        if value is not None
    }


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name every leaf by its path, as `--set` on the command line takes it."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False, default=str)
