"""`prunus study` and `prunus advise`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from prunus.cli.show import Json, Logs, counted, print_json, print_table
from prunus.errors import PrunusError, RecipeError

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
    log: Logs = None,
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
        log: Also log to tensorboard[:FOLDER] (DIR/tensorboard) or mlflow[:URI]; may be given again.
        json: Print the result document as JSON.
    """
    from prunus.study import load
    from prunus.study import study as perform
    from prunus.study.tables import sentences
    from prunus.tracking import sink

    overrides = [*(changes or []), *([] if seeds is None else [f"study.seeds={seeds}"])]
    loaded, sinks = load(recipe, overrides), [sink(text, directory) for text in log or ()]
    with _progress(shown=not json) as tell:
        done = perform(loaded, directory, workers=workers, cluster=dask, tell=tell, sinks=sinks)
    if json:
        print_json(done.document)
    else:
        print_means(done.document)
        for text in sentences(done.document):
            print(text)
        print(f"report: {done.directory / 'report.html'}")
    _check_complete(done.document)


def _check_complete(document: "Mapping[str, Any]") -> None:
    """End with a failure where networks are missing, after all that there is was shown."""
    cells = document["cells"]
    if missing := sum("test" not in cell for cell in cells):
        raise PrunusError(
            f"{missing} of {len(cells)} networks are missing, as said beside them; the same "
            "command tries them again."
        )


def print_means(document: "Mapping[str, Any]") -> None:
    """Print the means of a study, in 80 columns."""
    from prunus.study.tables import HEADINGS, grid

    shown = [HEADINGS.index(name) for name in ("Method", "Target", "Arm", "Test", "MACs")]
    rows = [[row[k] for k in shown] for row in grid(document)]
    print_table(document["title"], [HEADINGS[k] for k in shown], rows)


@contextmanager
def _progress(*, shown: bool) -> "Iterator[Tell]":
    """Draw on standard error how many stages are done, what is under way, and what failed.

    Where no bar can be drawn, such as in a file, each stage gets a line when it is done.
    """
    from prunus.study.cells import Task
    from prunus.study.schedule import Event

    if not shown:
        yield lambda event, task, words: None
        return
    with counted(0) as (progress, bar):
        total = ended = 0
        running: dict[str, None] = {}

        def tell(event: Event, task: Task, words: str) -> None:
            nonlocal total, ended
            total += event in ("found", "waiting")
            if event == "begun":
                running[task.title] = None
            else:
                running.pop(task.title, None)
            if event in ("found", "done", "failed", "lost"):
                ended += 1
            if event == "done" and not progress.console.is_terminal:
                progress.console.print(f"{ended}/{total} {task.title}", markup=False)
            if event in ("failed", "died"):
                verb = "failed" if event == "failed" else "is tried again"
                progress.console.print(f"{task.title} {verb}: {words}", markup=False)
            under_way = "; ".join(running) or "study"
            progress.update(bar, description=under_way, completed=ended, total=total)

        yield tell


def advise(
    model: str,
    data: str,
    /,
    *,
    target: str = "macs=0.5",
    minutes: float = 30,
    changes: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    weights: str | None = None,
    batch_size: int = 128,
    lr: float = 0.02,
    workers: int | None = None,
    directory: Annotated[Path, Parameter(name="--dir")] = Path("runs"),
    json: Json = False,
) -> None:
    """Find out within a time which method to take, and whether to prune at all.

    A small study: three methods at one size, two seeds each, against random units and training the
    small network from scratch, with trainings as long as the time allows.

    ```
    prunus advise lenet5 fashion-mnist-embedded --minutes 10
    prunus advise package.nets:build folder:photos --weights net.safetensors --target macs=0.3
    prunus advise package.nets:build folder:photos --set data.image_size=64
    ```

    Args:
        model: A network of the zoo, torchvision:NAME, or package.module:function of your own.
        data: A dataset of the zoo, or folder:PATH with train/CLASS/*.png.
        target: One of macs, params, bytes, sparsity or density, as macs=0.5.
        minutes: For all of it.
        changes: Set a key of a recipe's [model] or [data], as data.image_size=64 or
            model.options.classes=5; may be given again.
        weights: What the network has learned; without them it is trained first.
        batch_size: Samples per step.
        lr: Peak learning rate; a third of it for fine-tuning.
        workers: Processes that train side by side; one per core by default.
        directory: The results are kept in DIR/advise-MODEL-TARGET.
        json: Print the result document as JSON.
    """
    from prunus.cli.models import parse_target
    from prunus.recipe import override
    from prunus.study.advise import advise as find_out
    from prunus.study.tables import sentences

    own = ":" in model and not model.startswith("torchvision:")
    given = {
        "model": {"factory" if own else "name": model, "weights": weights},
        "data": {"name": data, "batch_size": batch_size},
    }
    tables = override(given, changes or ())
    if unknown := tables.keys() - given.keys():
        raise RecipeError(
            f"--set changes keys of model and data, got '{min(unknown)}'; for the rest write a "
            "recipe, and give it to `prunus study`."
        )
    goal = parse_target(target)
    with _progress(shown=not json) as tell:
        done = find_out(
            **tables,
            target=goal,
            minutes=minutes,
            root=directory,
            lr=lr,
            workers=workers,
            tell=tell,
        )
    if json:
        print_json(done.document)
    else:
        print_means(done.document)
        for text in (done.document["advice"], *sentences(done.document)):
            print(text)
        print(f"report: {done.directory / 'report.html'}")
    _check_complete(done.document)
