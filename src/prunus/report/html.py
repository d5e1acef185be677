"""The pages of results and inspections: one file each that asks the network for nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from prunus.files import write_text
from prunus.pruning import Sensitivity
from prunus.recipe import leaves
from prunus.report import bench, federation, figures, quantities, study, tickets, tune
from prunus.report.graph import draw
from prunus.report.headline import aim, equality, headline, reached, speed
from prunus.report.inspection import REMOVABLE, Inspection, Reason
from prunus.report.lines import Line, branch_lines, frozen_lines, group_lines, layer_lines
from prunus.report.sensitivity import HEIGHT, TOLERANCE, WIDTH, panels
from prunus.report.table import arms_grid, delivered_grid, levels_grid

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


def write_study(
    document: Mapping[str, Any], path: Path | str, tables: Mapping[str, str] | None = None
) -> None:
    """Write the page of a study, atomically.

    Args:
        document: What `study.json` holds. Text in it is shown as it is, never as HTML.
        path: Where to; usually ends in `.html`.
        tables: Format -> the study's table in it, to be copied from the page.

    Raises:
        OSError: `path` cannot be written.
    """
    template = _TEMPLATES.get_template("study.html")
    write_text(
        path,
        template.render(**study.page(document), tables=tables or {}, plotly=Markup(get_plotlyjs())),
    )


def write_bench(document: Mapping[str, Any], path: Path | str) -> None:
    """Write the page of a comparison, atomically.

    Args:
        document: What `prunus bench --json` prints. Text in it is shown as it is, never as HTML.
        path: Where to; usually ends in `.html`.

    Raises:
        OSError: `path` cannot be written.
    """
    page = _TEMPLATES.get_template("bench.html").render(
        **bench.page(document),
        charts={"latency": figures.latencies(bench.bars(document))},
        plotly=Markup(get_plotlyjs()),
    )
    write_text(path, page)


def write_search(document: Mapping[str, Any], path: Path | str) -> None:
    """Write the page of a search, atomically.

    Args:
        document: What `tune.json` holds. Text in it is shown as it is, never as HTML.
        path: Where to; usually ends in `.html`.

    Raises:
        OSError: `path` cannot be written.
    """
    template = _TEMPLATES.get_template("tune.html")
    write_text(path, template.render(**tune.page(document), plotly=Markup(get_plotlyjs())))


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
    recipe = _written(document["recipe"])
    write_text(path, template.render(**shown, recipe=recipe, plotly=Markup(get_plotlyjs())))


def _written(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each key of a recipe and its value as text."""
    return [(n, json.dumps(x, ensure_ascii=False, default=str)) for n, x in leaves(recipe)]


_QUALITY = ("accuracy", "mean_iou", "perplexity")


def _page(result: Mapping[str, Any]) -> str:
    curves = result.get("curves") or {}
    names = [arm.get("name") or "" for arm in result.get("arms") or ()]
    groups = result.get("groups") or []
    charts = {
        "loss": figures.curves(curves, "train_loss"),
        **{name: figures.curves(curves, f"val_{name}") for name in _QUALITY},
        "widths": figures.widths(groups),
        **tickets.charts(tickets.over_draws(result.get("tickets") or [])),
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
        arm_names=names,
        filter=list(dict.fromkeys(name for name in (*names, *curves) if name)) if charts else [],
        levels=levels_grid(result),
        tickets=tickets.MEASURES,
        charts={name: chart for name, chart in charts.items() if chart},
        groups=groups,
        frozen=_by_reason(result.get("frozen") or []),
        verification=_facts(result.get("verification")),
        latency=_facts(result.get("latency")),
        delivered=delivered_grid(result.get("delivered") or ()),
        environment=_facts(result.get("environment")),
        recipe=_written(result.get("recipe") or {}),
        plotly=Markup(get_plotlyjs()) if any(charts.values()) else None,
    )


def _by_reason(frozen: list[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group what was not pruned by why, the most frequent reason first."""
    reasons: dict[str, list[Mapping[str, Any]]] = {}
    for entry in frozen:
        reasons.setdefault(str(entry.get("reason") or "no reason given"), []).append(entry)
    return dict(sorted(reasons.items(), key=lambda item: -len(item[1])))


def _facts(table: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keep what is known, fractions with three figures."""
    return {
        name: f"{value:.3g}" if isinstance(value, float) else value
        for name, value in (table or {}).items()
        if value is not None
    }
