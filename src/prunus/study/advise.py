"""Advice within a time: a small study, its trainings as long as the time allows, and what follows.

Three methods at one size with two seeds each, against random units and training from scratch.
"""

import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from prunus.recipe import Recipe, digest
from prunus.run.stages import stage
from prunus.run.work import Work
from prunus.study.compare import chosen
from prunus.study.execute import Studied, study
from prunus.study.recipe import StudyRecipe, parse_study
from prunus.study.schedule import Tell
from prunus.study.verdicts import apart, size
from prunus.study.workers import threads, usual
from prunus.training import evaluate, fit
from prunus.types import Target

CHANNELS = ("l1_filter", "fpgm", "taylor")
WEIGHTS = ("magnitude", "wanda", "sparsegpt")

_SEEDS = 2
_SHORT = 1 / 3  # of the training is fine-tuning
_TRAINS = 0.6  # of the time; the rest goes into pruning, proofs and reading
_TIMED, _FEWEST = 8, 20  # steps


def advise(
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    target: Target,
    minutes: float,
    root: Path | str = Path("runs"),
    *,
    lr: float = 0.02,
    workers: int | None = None,
    tell: Tell = lambda event, task, words: None,
) -> Studied:
    """Find out, in about the given time, which method to take and whether pruning is worth it.

    Args:
        model: The [model] table of a recipe.
        data: Its [data] table.
        target: How small.
        minutes: In all. Started again, what is done is found done.
        root: The folder of all runs.
        lr: Peak learning rate of SGD with momentum, after a warm-up and down along half a cosine;
            a third of it for fine-tuning. Gradients are clipped to a norm of 1.
        workers: Processes; as for `study` by default.
        tell: Told what happens.

    Returns:
        The study; its document has what follows under "advice".

    Raises:
        RecipeError: The network or data are not known, or the methods cannot aim at the target.
        ValueError: The time is too short; the message says how much is needed. Or there are no
            workers.
    """
    if not minutes > 0:
        raise ValueError(f"minutes must be above 0, got {minutes:g}.")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}.")
    root = Path(root)
    workers = workers or usual()
    tables = _tables(model, data, target, lr, steps=_FEWEST)
    first = parse_study(tables)
    asked = {"tables": first.model_dump(mode="json"), "minutes": minutes, "workers": workers}

    def compute(directory: Path) -> dict[str, Any]:
        return _timed(first, threads(workers))

    measured = stage(root / f"timed-{digest(asked)}", asked, compute, lambda *told: None).result
    trainings = _SEEDS * (
        (0 if first.model.weights else 1) + len(first.study.methods) * (1 + 2 * _SHORT)
    )
    arms = _SEEDS * (1 + 3 * len(first.study.methods))
    left = 60 * minutes * _TRAINS * workers - arms * measured["evaluation"]
    steps = int(left / trainings / measured["step"])
    if steps < _FEWEST:
        needed = _FEWEST * trainings * measured["step"] + arms * measured["evaluation"]
        raise ValueError(
            f"minutes must be at least {needed / 60 / _TRAINS / workers:.1f} for this network on "
            f"{workers} workers, got {minutes:g}; allow more, or take smaller batches."
        )
    done = study(
        parse_study(_tables(model, data, target, lr, steps)), root, workers=workers, tell=tell
    )
    return Studied(done.directory, {**done.document, "advice": advice(done.document)})


def advice(document: Mapping[str, Any]) -> str:
    """Say what to do, from a study with one size.

    Args:
        document: Of the study, with the arms fine_tuned, scratch_e and random.
    """
    rivals: dict[str, dict[int, Any]] = {}
    for cell in document["cells"]:
        if cell["arm"] == "fine_tuned" and "test" in cell:
            rivals.setdefault(cell["method"], {})[cell["seed"]] = cell
    best = chosen(rivals, document["metric"])
    if best is None:
        return "No method came to its end, so there is no advice; the notes say why."
    where = size(next(iter(rivals[best].values()))["target"])
    found = {
        one["other"]: one
        for one in document["comparisons"]
        if one["family"] == "control" and one["method"] == best
    }
    sign = -1 if document["metric"] == "perplexity" else 1
    lost = [o for o, one in found.items() if apart(one) and sign * one["mean"] < 0]
    same = [o for o, one in found.items() if not apart(one)]
    rest = f"better than {best}, the best method on the validation split."
    if "scratch-E" in lost:
        return f"At {where}, do not fine-tune: scratch-E is {rest}"
    if lost:
        return f"At {where}, choose what goes at random: {lost[0]}, fine-tuned too, are {rest}"
    text = f"At {where}, take {best}, the best on the validation split of {', '.join(rivals)}."
    if same:
        text += (
            f" With {document['seeds']} seeds it cannot be told apart from {' or '.join(same)}, so "
            "a longer study may decide otherwise."
        )
    return text


def _tables(
    model: Mapping[str, Any], data: Mapping[str, Any], target: Target, lr: float, steps: int
) -> dict[str, Any]:
    single = target.metric in ("sparsity", "density")
    training: dict[str, Any] = {"schedule": "cosine", "lr": lr, "length": f"{steps}it"}
    training |= {"warmup": f"{steps // 10}it", "clip_norm": 1.0}  # for networks not seen before
    few = max(1, int(steps * _SHORT))
    short = {"lr": lr / 3, "length": f"{few}it", "warmup": "0it"}
    label = str(model.get("name") or model.get("factory")).replace(":", "-")
    return {
        "name": f"advise-{label}-{target.metric}-{target.value:g}",
        "model": dict(model),
        "data": dict(data),
        "train": training,
        "finetune": training | short,
        "study": {
            "methods": WEIGHTS if single else CHANNELS,
            "targets": {target.metric: (target.value,)},
            "seeds": _SEEDS,
            "arms": ("fine_tuned", "scratch_e", "random"),
        },
    }


def _timed(recipe: StudyRecipe, threads: int) -> dict[str, float]:
    """Measure the seconds of a training step and of both evaluations of an arm, in this process.

    Args:
        recipe: Of what is trained.
        threads: Of torch, as a worker has them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _measured(recipe)
    finally:
        torch.set_num_threads(before)


def _measured(recipe: StudyRecipe) -> dict[str, float]:
    member: Recipe = recipe.member(recipe.study.methods[0], None, 0)
    work = Work(member)
    network, data = work.network(), work.data
    assert recipe.train is not None and data is not None
    seconds = []
    for steps in (1, 1, 1 + _TIMED):  # the first pays for all that is imported and made once
        short = {"length": f"{steps}it", "warmup": "0it", "eval_every": "1000ep"}
        settings = recipe.train.model_copy(update=short)
        copy = deepcopy(network)
        begin = time.perf_counter()
        fit(copy, data, settings)
        seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    evaluate(network, data)
    evaluation = 2 * (time.perf_counter() - begin)
    return {"step": max(1e-6, seconds[2] - seconds[1]) / _TIMED, "evaluation": evaluation}
