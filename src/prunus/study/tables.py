"""The result of a study as text: every network as CSV, the means as Markdown and LaTeX."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from prunus.report.quantities import count
from prunus.report.study import quality, size_text

Document = Mapping[str, Any]

_CELL = ("method", "arm", "seed", "test", "val", "macs", "params", "bytes", "ms")
_SPENT = [(part, key) for part in ("own", "total") for key in ("epochs", "macs")]
HEADINGS = ("Method", "Target", "Arm", "Seeds", "Test", "MACs", "Parameters", "Epochs", "Training")


def csv_text(document: Document) -> str:
    """Return one line per network, finished or failed, with all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    target = ("target_metric", "target_value")
    spent = [f"{part}_{key}" for part, key in _SPENT]
    writer.writerow([*_CELL[:1], *target, *_CELL[1:], *spent, "failed"])
    for cell in document["cells"]:
        size = cell["target"] or {"metric": None, "value": None}
        values = [cell.get(key) for key in _CELL]
        numbers = [cell.get(part, {}).get(key) for part, key in _SPENT]
        row = [values[0], size["metric"], size["value"], *values[1:], *numbers, cell["failed"]]
        writer.writerow(row)
    return text.getvalue()


def markdown_text(document: Document) -> str:
    """Return the means as a table, with what they say below it."""
    lines: list[tuple[str, ...]] = [
        HEADINGS,
        ("---", "---", "---", *["---:"] * (len(HEADINGS) - 3)),
    ]
    lines += [tuple(map(_plain, row)) for row in grid(document)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    said = "".join(f"- {text}\n" for text in sentences(document))
    return f"# {document['title']}\n\n{table}\n{caption(document)}\n\n{said}"


def latex_text(document: Document) -> str:
    """Return the means as a booktabs table, to be included in a paper."""
    columns = "lll" + "r" * (len(HEADINGS) - 3)
    rows = [" & ".join(map(_tex, row)) + r" \\" for row in [HEADINGS, *grid(document)]]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "% " + caption(document),
            "",
        ]
    )


def grid(document: Document) -> list[tuple[str, ...]]:
    """Return the cells of a table under `HEADINGS`, one row per arm, method and size."""
    metric = document["metric"]
    rows = []
    for row in document["rows"]:
        name = (row["method"] or "all", size_text(row["target"]), row["title"])
        if not row["done"]:
            rows.append((*name, "0", f"failed: {row['failed']}", *[""] * 4))
            continue
        rows.append(
            (
                *name,
                str(row["done"]),
                quality(row["test"], metric),
                _known(row["macs"], count),
                _known(row["params"], count),
                f"{row['total']['epochs']:.3g}",
                count(row["total"]["macs"]),
            )
        )
    return rows


def caption(document: Document) -> str:
    """Say what the numbers are."""
    seeds = document["seeds"]
    interval = (
        "one seed, so there is no interval"
        if seeds == 1
        else f"mean over {seeds} seeds and half the width of its 95 % t interval"
    )
    return (
        f"Test: {_NAMES[document['metric']]}, {interval}. Epochs and Training (in MACs) include the"
        " unpruned network's training where the arm needs it. Training while a method prunes counts"
        " the whole network, its masked weights, too; all other training leaves them out."
    )


def sentences(document: Document) -> list[str]:
    """Return all that the study says, the summary first."""
    verdicts = document["verdicts"]
    return [*verdicts["summary"], *(one["text"] for one in verdicts["each"]), *document["notes"]]


_NAMES = {"accuracy": "accuracy", "mean_iou": "mean IoU", "perplexity": "perplexity"}


def _known(value: float | None, show: Callable[[float], str]) -> str:
    return "" if value is None else show(value)


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("_", "\\_").replace("<", "\\<")


def _tex(text: str) -> str:
    for mark in "\\{}&%$#_^~":
        text = text.replace(mark, _TEX.get(mark, f"\\{mark}"))
    return text.replace("±", r"$\pm$")


_TEX = {"\\": "/", "~": " ", "^": " "}
