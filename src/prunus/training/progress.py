"""The line on the terminal that says how far training is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from prunus.training.metrics import Record

Show = Callable[[int, Record | None], None]
"""Takes the step that training has reached, and the last record if there is one."""


@contextmanager
def progress_bar(name: str, start: int, total: int, *, shown: bool) -> Iterator[Show]:
    """Draw a bar of steps with the validation accuracy and the time left.

    Args:
        name: Stands before the bar.
        start: The step at which this process begins.
        total: The last step.
        shown: False for no output at all.

    Yields:
        Call it after each step.
    """
    if not shown:
        yield lambda step, record: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[accuracy]}"),
        TimeRemainingColumn(),
    )
    # results go to standard output, what is only for the eye to standard error
    with Progress(*columns, refresh_per_second=4, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, completed=start, total=total, accuracy="")

        def show(step: int, record: Record | None) -> None:
            accuracy = record and record["val_accuracy"]
            text = "" if accuracy is None else f"val {accuracy:.2%}"
            progress.update(task, completed=step, accuracy=text)

        yield show
