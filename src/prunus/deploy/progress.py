"""The line on the terminal while times are measured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Tell: TypeAlias = Callable[[str, int, int], None]
"""Takes what is going on, how many are done, and of how many."""

_OFTEN_S = 0.25


@contextmanager
def still_bar(*, shown: bool) -> Iterator[Tell]:
    """Draw a bar that moves only when it is told.

    A bar that is drawn by a thread of its own takes the processor from what is timed.

    Args:
        shown: False for no output at all.

    Yields:
        Call it between measurements; a call soon after another draws nothing if only the number has
        changed.
    """
    if not shown:
        yield lambda what, done, total: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, auto_refresh=False, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)
        drawn, said = -_OFTEN_S, ""

        def tell(what: str, done: int, total: int) -> None:
            nonlocal drawn, said
            progress.update(task, description=what, completed=done, total=total)
            if what != said or monotonic() - drawn >= _OFTEN_S:
                progress.refresh()
                drawn, said = monotonic(), what

        yield tell
