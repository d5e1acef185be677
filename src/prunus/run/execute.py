"""From a recipe to its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prunus.files import check_folder, read_json, write_json, write_text
from prunus.ranks import first, from_first
from prunus.recipe import Recipe
from prunus.report import write_report
from prunus.run.document import Results, document, environment
from prunus.run.logged import figures, tracked
from prunus.run.plan import Plan
from prunus.run.stages import Announce, sweep
from prunus.tracking import Sink, Sinks
from prunus.training.participants import join


@dataclass(frozen=True)
class Finished:
    """A run that is done.

    Args:
        directory: Where its files lie: `result.json`, `report.html`, and a folder per stage, such
            as `export` with the networks that leave.
        document: What `result.json` holds.
    """

    directory: Path
    document: Mapping[str, Any]


def run(
    recipe: Recipe,
    root: Path | str = Path("runs"),
    *,
    announce: Announce = lambda name, result, seconds: None,
    progress: bool = False,
    sinks: Sequence[Sink] = (),
) -> Finished:
    """Run a recipe, or finish a run that was stopped.

    The dense network is trained once for all recipes under `root` that train it alike; everything
    else lies in `root/<name>-<hash8>/seed-<n>`. A run that was killed at any moment goes on from
    its last finished stage and, within training, from the last checkpoint, and on the CPU ends with
    the same bits in masks, weights and metrics.

    Under torchrun all ranks train together; each calls this, with a `root` that all of them see,
    and the first one writes the files and measures. A rank that dies ends the others.

    Args:
        recipe: What to do.
        root: The folder of all runs.
        announce: Told of each stage that is done, on the first rank.
        progress: Draw a bar while training.
        sinks: Where it is logged, too: each evaluation as it comes, and what was found. Stages that
            were done before are logged as well, and nothing twice. One that fails is warned of
            and left out.

    Raises:
        RecipeError: The recipe names a missing file, or asks for what cannot be.
        DataError: The data are missing or damaged.
        CheckpointError: A file of weights does not fit, or a checkpoint is damaged.
        TargetError: The target cannot be reached.
        EquivalenceError: The smaller network differs from the masked one.
        TrainingError: The loss is not finite.
        ExportError: An exported file does not agree with its network.
        OSError: A file cannot be written.
        RankError: Any of these on the first rank, where this is another.
    """
    join()
    from_first(partial(check_folder, root))
    with Sinks(sinks if first() else ()).open(lambda: tracked(recipe, plan)) as log:
        plan = Plan(recipe, Path(root), progress=progress, watch=log.curve)

        def told(name: str, result: Mapping[str, Any], seconds: float | None) -> None:
            log.curve(name, result.get("curve", ()))
            announce(name, result, seconds)

        from_first(partial(_begin, recipe, plan.directory))
        results = {name: plan.do(name, told).result for name in plan.steps}
        found = from_first(partial(_end, recipe, plan.directory, results))
        log.finish(figures(found), plan.directory / "report.html")
    return Finished(plan.directory, found)


def _begin(recipe: Recipe, directory: Path) -> None:
    sweep(directory)
    write_text(directory / "recipe.toml", recipe.to_toml())
    if not (directory / "environment.json").exists():
        write_json(directory / "environment.json", environment())


def _end(recipe: Recipe, directory: Path, results: Results) -> dict[str, Any]:
    found = document(recipe, results, read_json(directory / "environment.json"))
    write_json(directory / "result.json", found)
    write_report(found, directory / "report.html")
    return found
