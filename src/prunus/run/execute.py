"""From a recipe to its result: the order of the stages and what each depends on."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prunus import __version__
from prunus.files import read_json, write_json, write_text
from prunus.recipe import Recipe, digest
from prunus.report import write_report
from prunus.run.controls import arms
from prunus.run.document import document, environment
from prunus.run.stages import Announce, Done, stage, sweep
from prunus.run.work import Work


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
) -> Finished:
    """Run a recipe, or finish a run that was stopped.

    The dense network is trained once for all recipes under `root` that train it alike; everything
    else lies in `root/<name>-<hash8>/seed-<n>`. A run that was killed at any moment goes on from
    its last finished stage and, within training, from the last checkpoint, and on the CPU ends with
    the same bits in masks, weights and metrics.

    Args:
        recipe: What to do.
        root: The folder of all runs.
        announce: Told of each stage that is done.
        progress: Draw a bar while training.

    Raises:
        RecipeError: The recipe names a missing file, or asks for what cannot be.
        DataError: The data are missing or damaged.
        CheckpointError: A file of weights does not fit, or a checkpoint is damaged.
        TargetError: The target cannot be reached.
        EquivalenceError: The smaller network differs from the masked one.
        TrainingError: The loss is not finite.
        ExportError: An exported file does not agree with its network.
        OSError: A file cannot be written.
    """
    root = Path(root)
    directory = root / f"{recipe.name}-{recipe.hash8}" / f"seed-{recipe.seed}"
    sweep(directory)
    work = Work(recipe, progress)
    plain = recipe.model_dump(mode="json")
    write_text(directory / "recipe.toml", recipe.to_toml())
    if not (directory / "environment.json").exists():
        write_json(directory / "environment.json", environment())

    taught = {}
    if recipe.distil:
        taught["distil"] = plain["distil"] | {"weights": [_sha256(file) for file in work.teachers]}

    done: dict[str, Done] = {}

    def do(name: str, compute: Any, **inputs: Any) -> None:
        done[name] = stage(directory / name, inputs, compute, announce)

    begun = {
        "version": __version__,
        "model": plain["model"],
        "data": plain["data"],
        "train": None if work.checkpoint else plain["train"],
        "weights": _sha256(work.checkpoint),
        "code": _sha256(_source(recipe.model.factory)),
    }
    label = (recipe.model.name or str(recipe.model.factory)).replace(":", "-").replace("/", "-")
    shared = root / f"dense-{label}-{digest(begun)}" / f"seed-{recipe.seed}" / "dense"
    done["dense"] = dense = stage(shared, begun | {"seed": recipe.seed}, work.dense, announce)

    do(
        "prune",
        partial(work.prune, dense=dense),
        dense=dense.key,
        method=plain["method"],
        target=plain["target"],
        training=plain["finetune"] if recipe.prunes_in_training else None,
        **(taught if recipe.prunes_in_training else {}),
    )
    pruned = last = done["prune"]
    if recipe.finetune and not recipe.prunes_in_training:
        recover = partial(work.recover, dense=dense, pruned=pruned)
        do("recover", recover, prune=pruned.key, finetune=plain["finetune"], **taught)
        last = done["recover"]
    for name, arm, draw in arms(recipe):
        if arm.startswith("scratch"):
            budget: Literal["E", "B"] = "E" if arm == "scratch_e" else "B"
            train = partial(work.scratch, dense=dense, pruned=pruned, budget=budget)
            do(name, train, prune=pruned.key, train=plain["train"])
        else:
            train = partial(work.control, dense=dense, pruned=pruned, arm=arm, draw=draw)
            starting = recipe.starting and recipe.starting.model_dump(mode="json")
            do(name, train, prune=pruned.key, train=starting)
    write = partial(work.export, dense=dense, pruned=pruned, last=last)
    do("export", write, last=last.key, export=plain["export"])
    if recipe.export.onnx and recipe.bench.rounds:
        time = partial(work.measure, exported=done["export"])
        do("measure", time, export=done["export"].key, bench=plain["bench"])

    found = document(
        recipe,
        {name: one.result for name, one in done.items()},
        read_json(directory / "environment.json"),
    )
    write_json(directory / "result.json", found)
    write_report(found, directory / "report.html")
    return Finished(directory, found)


def _source(factory: str | None) -> Path | None:
    """Return the file with the user's own network, whose changes make old results stale."""
    spec = importlib.util.find_spec(factory.partition(":")[0]) if factory else None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _sha256(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
