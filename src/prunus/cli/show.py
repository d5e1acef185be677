"""Results as tables for people and JSON for programs; progress on standard error."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Json = Annotated[bool, Parameter(name="--json", negative="")]
Logs = Annotated[list[str] | None, Parameter(name="--log", negative="")]


class _Handler(logging.Handler):
    """Writes to standard error as it is by then: a bar that is drawn puts lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextmanager
def told(*, shown: bool) -> Iterator[None]:
    """Write on standard error what the library logs meanwhile."""
    logger, handler = logging.getLogger("prunus"), _Handler()
    if not shown:
        yield
        return
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def counted(total: int) -> "Iterator[tuple[Progress, TaskID]]":
    """Draw on standard error how much of what is counted is done, and what is under way."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    words = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), words, BarColumn(), MofNCompleteColumn(), Elapsed())
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as progress:
        yield progress, progress.add_task("", total=total)


def print_json(value: Any) -> None:
    """Print `value` as JSON, alone on standard output."""
    json.dump(value, sys.stdout, indent=1, allow_nan=False)
    print()


_SHORT = 14
"""Columns of cells no longer than that, such as numbers, stay whole; others are folded."""

_HEADING = 8
"""As wide may a heading be above narrower cells."""


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table of text below its title, no wider than the terminal, or than 80 columns."""
    rows = list(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for k, heading in enumerate(columns):
        longest = max((len(row[k]) for row in rows), default=0)
        if longest <= _SHORT:
            table.add_column(fill(heading, max(longest, _HEADING)), no_wrap=True)
        else:
            table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(Text(title, style="bold"), table)


def print_text(text: str) -> None:
    """Print a paragraph, broken between words."""
    Console().print(Text(" ".join(text.split())))


def print_arms(document: Mapping[str, Any]) -> None:
    """Print the networks of a result document side by side, and the levels of a lottery ticket."""
    from prunus.report import arms_table, delivered_table, levels_table

    Console().print(arms_table(document))
    if rows := document.get("delivered"):
        Console().print("", Text("Delivered, speed-ups over dense fp32", style="bold"))
        Console().print(delivered_table(rows))
    if (levels := levels_table(document)) is not None:
        Console().print(levels)


def announce(name: str, result: Mapping[str, Any], seconds: float | None) -> None:
    """Say on standard error that a stage of a run is done."""
    when = "done before" if seconds is None else f"{seconds:.1f} s"
    accuracy = result.get("accuracy")
    found = "" if accuracy is None else f"   accuracy {accuracy:.2%}"
    Console(stderr=True, highlight=False).print(f"[green]✓[/] {name:<10} {when:>11}{found}")
