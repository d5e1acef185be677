"""What a study saves by training each network once, and by a second worker.

A study of three methods at two sizes with five arms on the embedded images is done by one worker,
in this process, and by two. Wall time, each from an empty folder, so that only a quiet machine
tells. Its cells alone, where nothing is shared, would take the seconds of all stages that each
rests on, as they were timed in the first study. Some cells drawn at random are really done alone,
each in a folder that knows nothing, and the sum is multiplied by what they took over what was
expected of them.

Goals: cells alone take at least twice as long as the study; two workers on two cores are at least
1.6 times as fast as one.

    python benchmarks/study_speed.py [seeds] [steps of a training]
"""

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from prunus.study import StudyRecipe, parse_study, study
from prunus.study.cells import Cell, cells_of
from prunus.study.workers import do

SHARING_GOAL = 2.0
WORKERS_GOAL = 1.6
DRAWN = 8  # cells
GRID: dict[str, Any] = {
    "methods": [
        {"name": "l1_filter", "round_to": 1},
        {"name": "taylor", "round_to": 1},
        {"name": "magnitude", "targets": {"sparsity": [0.5, 0.8]}},
    ],
    "targets": {"macs": [0.5, 0.25]},
    "arms": ["pruned", "fine_tuned", "scratch_e", "scratch_b", "random"],
}


def recipe(seeds: int, steps: int) -> StudyRecipe:
    return parse_study(
        {
            "name": "speed",
            "model": {"name": "lenet5"},
            "data": {"name": "fashion-mnist-embedded", "batch_size": 64},
            "train": {"length": f"{steps}it", "lr": 0.02, "schedule": "cosine"},
            "finetune": {"length": f"{steps // 2}it", "lr": 0.01},
            "study": {**GRID, "seeds": seeds},
        }
    )


def whole(what: StudyRecipe, workers: int) -> tuple[float, dict[str, float]]:
    """Return the seconds of a study from an empty folder, and those of each stage by its folder."""
    begun: dict[str, float] = {}
    taken: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()

        def tell(event: str, task: Any, words: str) -> None:
            assert event != "failed", words
            key = str(task.step.directory.relative_to(root))
            if event == "begun":
                begun[key] = time.perf_counter()
            elif event == "done":
                taken[key] = time.perf_counter() - begun[key]

        begin = time.perf_counter()
        study(what, root, workers=workers, tell=tell)
        return time.perf_counter() - begin, taken


def stages(cell: Cell, root: Path) -> list[str]:
    return [str(Path(key).relative_to(root)) for key in cell.stages.values()]


def alone(what: StudyRecipe, number: int) -> float:
    """Return the seconds of one cell in a folder that knows nothing."""
    with tempfile.TemporaryDirectory() as folder:
        laid_out = cells_of(what, Path(folder))
        begin = time.perf_counter()
        for key in laid_out.cells[number].stages.values():
            failed = do(laid_out.tasks[key], Path(folder))
            assert not failed, failed
        return time.perf_counter() - begin


def main() -> None:
    given = [int(text) for text in sys.argv[1:3]]
    seeds, steps = given + [3, 80][len(given) :]
    torch.set_num_threads(1)
    what = recipe(seeds, steps)
    alone(what, 1)  # pays for everything that is imported when first needed
    one, taken = whole(what, 1)
    two, _ = whole(what, 2)
    root = Path("/nowhere")
    cells = cells_of(what, root).cells
    expected = [sum(taken[stage] for stage in stages(cell, root)) for cell in cells]
    drawn = random.Random(0).sample(range(len(cells)), DRAWN)
    longer = sum(alone(what, k) for k in drawn) / sum(expected[k] for k in drawn)
    table = Table("", "seconds", "against", "seconds", "ratio", "goal")
    rows = (
        (f"{len(cells)} cells alone", longer * sum(expected), "one study", one, SHARING_GOAL),
        ("one worker", one, "two workers", two, WORKERS_GOAL),
    )
    for name, slow, other, fast, goal in rows:
        ratio = slow / fast
        verdict = f"{goal} {'met' if ratio >= goal else 'missed'}"
        table.add_row(name, f"{slow:.1f}", other, f"{fast:.1f}", f"{ratio:.2f}", verdict)
    Console().print(table)
    print(
        f"{seeds} seeds. Cells alone: estimated from their stages' seconds in the study, times "
        f"{longer:.2f}, which {DRAWN} of them took alone over what was expected."
    )


if __name__ == "__main__":
    main()
