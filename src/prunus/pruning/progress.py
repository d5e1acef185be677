"""The lines on the terminal that say how far pruning is."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import length_hint

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from prunus.criteria.base import T, Track, untracked


@contextmanager
def tracks(*, shown: bool) -> Iterator[Track]:
    """Draw a bar for each work that is under way, on standard error; it goes when that is done.

    Args:
        shown: False for no output at all; there is none either where that is no terminal.
    """
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield untracked
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:

        def track(items: Iterable[T], name: str, total: int | None = None) -> Iterator[T]:
            task = progress.add_task(name, total=total or length_hint(items) or None)
            try:
                for item in items:
                    yield item
                    progress.advance(task)
            finally:
                progress.remove_task(task)

        yield track
