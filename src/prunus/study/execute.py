"""From a study's recipe to its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prunus.errors import RecipeError
from prunus.files import write_json, write_text
from prunus.report import write_study
from prunus.run.document import environment
from prunus.run.fits import check_fit, check_schedule
from prunus.run.stages import sweep
from prunus.run.work import Work
from prunus.study.cells import Task, cells_of
from prunus.study.document import document
from prunus.study.logged import Logged
from prunus.study.recipe import StudyRecipe
from prunus.study.schedule import Event, Tell, Workers, perform
from prunus.study.tables import csv_text, latex_text, markdown_text
from prunus.study.workers import Here, Processes, threads, usual
from prunus.tracking import Sink
from prunus.training.participants import ranks


@dataclass(frozen=True)
class Studied:
    """A study that is done.

    Args:
        directory: Where its files lie: `study.json`, `study.csv`, `study.md`, `study.tex` and
            `report.html`.
        document: What `study.json` holds; see `prunus.study.document.document`.
    """

    directory: Path
    document: Mapping[str, Any]


def _quiet(event: Event, task: Any, words: str) -> None:
    pass


def study(
    recipe: StudyRecipe,
    root: Path | str = Path("runs"),
    *,
    workers: int | None = None,
    cluster: str | None = None,
    tell: Tell = _quiet,
    sinks: Sequence[Sink] = (),
) -> Studied:
    """Do a study, or what is left to do of it.

    Every stage lies under `root` in a folder named after what goes into it: it is done once for all
    arms, methods, sizes and studies that need it, and a study that grows does only what is new. A
    process killed at any moment loses what it trained since its last checkpoint. What cannot be
    done is reported, and the rest goes on.

    Worker processes import the main module of the program: call this below
    `if __name__ == "__main__":`.

    Args:
        recipe: What is compared.
        root: The folder of all runs; the results go to `root/<name>`.
        workers: Processes; with 1 all is done in this one. By default one per core, or one in all
            where a GPU does the work. Cores that are left are shared out as torch's threads.
        cluster: Address of a Dask scheduler, such as "tcp://host:8786", instead of processes here.
            `root` and all data must lie where its workers find them too.
        tell: Told what happens.
        sinks: Where its networks are logged, each once it is trained, and the report in the end.
            One that fails is warned of and left out.

    Raises:
        RecipeError: A file that the recipe names is missing, the network does not take the data, a
            training is too short for its method, or there are no validation samples.
        DataError: The data are missing or damaged.
        ValueError: `workers` is below 1, or torchrun has started several processes.
        ModuleNotFoundError: A cluster needs Dask, which is not installed.
        OSError: A file cannot be written.
    """
    if ranks() > 1:
        raise ValueError(
            "a study trains its networks side by side, each in one process; start it without "
            "torchrun, with --workers or --dask."
        )
    root = Path(root).resolve()
    directory = root / recipe.name
    sweep(directory)
    laid_out = cells_of(recipe, root)
    if not all((task.step.directory / "result.json").is_file() for task in laid_out.tasks.values()):
        _check(recipe)
    write_text(directory / "recipe.toml", recipe.to_toml())
    logged = Logged(recipe, laid_out, directory, sinks)

    def told(event: Event, task: Task, words: str) -> None:
        tell(event, task, words)
        if event == "done":
            logged.trained(task)

    timings = {key: laid_out.tasks[key] for key in laid_out.timings.values()}
    training = {key: task for key, task in laid_out.tasks.items() if key not in timings}
    failed = perform(training, _workers(root, workers, cluster), told)
    alone = {  # beside others a network would be timed too slow
        key: replace(task, needs=())
        for key, task in timings.items()
        if not failed.keys() & {*task.needs}
    }
    failed |= perform(alone, Here(root), tell)
    found = document(recipe, laid_out, failed, environment())
    write_json(directory / "study.json", found)
    tables = {"csv": csv_text(found), "md": markdown_text(found), "tex": latex_text(found)}
    for ending, text in tables.items():
        write_text(directory / f"study.{ending}", text)
    names = {"csv": "CSV, every network", "md": "Markdown, means", "tex": "LaTeX, means"}
    write_study(found, directory / "report.html", {names[key]: tables[key] for key in tables})
    logged.finish(found, directory / "report.html")
    return Studied(directory, found)


def _check(recipe: StudyRecipe) -> None:
    """Refuse, before anything is trained, what every network or all of a method would fail at."""
    members = [
        recipe.member(method, target, seed=0)
        for method in recipe.study.methods
        for target in recipe.targets(method)
    ]
    work = Work(members[0])
    data = work.data
    assert data is not None
    check_fit(work.network(), data)
    for member in members:
        check_schedule(member, data)
    if next(data.eval_batches("val"), None) is None:
        raise RecipeError(
            f"a study chooses on validation samples, and {data.name} has none; set data.val_size."
        )


def _workers(root: Path, count: int | None, cluster: str | None) -> Workers:
    if cluster is not None:
        from prunus.study.cluster import Cluster

        return Cluster(cluster, root)
    if count is not None and count < 1:
        raise ValueError(f"workers must be at least 1, got {count}.")
    count = count or usual()
    return Here(root) if count == 1 else Processes(root, count, threads(count))
