"""`prunus study`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prunus.cli.show import Json, print_json, print_table

if TYPE_CHECKING:
    from prunus.study import Tell


def study(
    recipe: Path,
    /,
    *,
    changes: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    seeds: int | None = None,
    workers: int | None = None,
    dask: str | None = None,
    directory: Annotated[Path, Parameter(name="--dir")] = Path("runs"),
    json: Json = False,
) -> None:
    """Compare methods, sizes and training from scratch, over several seeds, with intervals.

    What is done is never done again: a study that was stopped, or that has grown by a method, a
    size, an arm or a seed, goes on from what is there.

    ```
    prunus study recipes/study-lenet5-fashion.toml
    prunus study study.toml --seeds 5 --workers 4
    prunus study study.toml --set study.targets.macs=[0.5,0.3] --dask tcp://host:8786
    ```

    Args:
        recipe: A TOML file with a [study] table.
        changes: Change one key of the recipe, as table.key=value; may be given again.
        seeds: Instead of the recipe's.
        workers: Processes that train side by side; one per core by default.
        dask: Train on the workers of a Dask scheduler instead, such as tcp://host:8786.
        directory: The results are kept in DIR/NAME, what was trained beside it.
        json: Print the result document as JSON.
    """
    from prunus.study import load
    from prunus.study import study as perform
    from prunus.study.tables import HEADINGS, grid, sentences

    overrides = [*(changes or []), *([] if seeds is None else [f"study.seeds={seeds}"])]
    loaded = load(recipe, overrides)
    with _progress(shown=not json) as tell:
        done = perform(loaded, directory, workers=workers, cluster=dask, tell=tell)
    if json:
        print_json(done.document)
        return
    shown = [HEADINGS.index(name) for name in ("Method", "Target", "Arm", "Test", "MACs")]
    rows = [[row[k] for k in shown] for row in grid(done.document)]
    print_table(done.document["title"], [HEADINGS[k] for k in shown], rows)
    for text in sentences(done.document):
        print(text)
    print(f"report: {done.directory / 'report.html'}")


@contextmanager
def _progress(*, shown: bool) -> "Iterator[Tell]":
    """Draw on standard error how many stages are done, what is under way, and what failed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    from prunus.study.cells import Task
    from prunus.study.schedule import Event

    if not shown:
        yield lambda event, task, words: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Elapsed(),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as progress:
        bar = progress.add_task("study", total=0)
        total = 0
        running: dict[str, None] = {}

        def tell(event: Event, task: Task, words: str) -> None:
            nonlocal total
            total += event in ("found", "waiting")
            if event == "begun":
                running[task.title] = None
            else:
                running.pop(task.title, None)
            if event in ("found", "done", "failed"):
                progress.advance(bar)
            if event in ("failed", "died"):
                verb = "failed" if event == "failed" else "is tried again"
                progress.console.print(f"{task.title} {verb}: {words}", markup=False)
            progress.update(bar, description="; ".join(running) or "study", total=total)

        yield tell
