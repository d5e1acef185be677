"""What a study saves by training each network once, and by a second worker.

A study of three methods at two sizes with five arms on the embedded images is done in one process,
then each of its cells alone in a folder of its own, where nothing is shared; then, with more seeds,
by one worker and by two. Wall time, each from an empty folder, so that only a quiet machine tells.

Goals: cells alone take at least twice as long as the study; two workers on two cores are at least
1.6 times as fast as one.

    python benchmarks/study_speed.py [seeds]
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from prunus.study import StudyRecipe, parse_study, study
from prunus.study.cells import cells_of
from prunus.study.workers import do

SHARING_GOAL = 2.0
WORKERS_GOAL = 1.6
TABLES: dict[str, Any] = {
    "name": "speed",
    "model": {"name": "lenet5"},
    "data": {"name": "fashion-mnist-embedded", "batch_size": 64},
    "train": {"length": "2ep", "lr": 0.02, "schedule": "cosine"},
    "finetune": {"length": "1ep", "lr": 0.01},
}
GRID: dict[str, Any] = {
    "methods": [
        {"name": "l1_filter", "round_to": 1},
        {"name": "taylor", "round_to": 1},
        {"name": "magnitude", "targets": {"sparsity": [0.5, 0.9]}},
    ],
    "targets": {"macs": [0.5, 0.25]},
    "arms": ["pruned", "fine_tuned", "scratch_e", "scratch_b", "random"],
}


def recipe(seeds: int) -> StudyRecipe:
    return parse_study({**TABLES, "study": {**GRID, "seeds": seeds}})


def seconds(work: Callable[[Path], None]) -> float:
    """Time `work` on an empty folder."""
    root = Path(tempfile.mkdtemp())
    begin = time.perf_counter()
    work(root)
    taken = time.perf_counter() - begin
    shutil.rmtree(root)
    return taken


def whole(seeds: int, workers: int) -> float:
    def work(root: Path) -> None:
        found = study(recipe(seeds), root, workers=workers).document
        failed = [cell["failed"] for cell in found["cells"] if cell["failed"]]
        assert not failed, failed

    return seconds(work)


def alone() -> float:
    """Time every cell of one seed in a folder that knows nothing."""

    def cell(number: int) -> Callable[[Path], None]:
        def work(root: Path) -> None:
            laid_out = cells_of(recipe(1), root)
            for key in laid_out.cells[number].stages.values():
                failed = do(laid_out.tasks[key], root)
                assert not failed, failed

        return work

    count = len(cells_of(recipe(1), Path()).cells)
    return sum(seconds(cell(number)) for number in range(count))


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    torch.set_num_threads(1)
    whole(1, 1)  # pays for everything that is imported when first needed
    shared, apart = whole(1, 1), alone()
    one, two = whole(seeds, 1), whole(seeds, 2)
    table = Table("", "seconds", "against", "seconds", "ratio", "goal")
    rows = (
        ("each cell alone", apart, "one study", shared, SHARING_GOAL),
        (f"one worker, {seeds} seeds", one, "two workers", two, WORKERS_GOAL),
    )
    for name, slow, other, fast, goal in rows:
        ratio = slow / fast
        verdict = f"{goal} {'met' if ratio >= goal else 'missed'}"
        table.add_row(name, f"{slow:.1f}", other, f"{fast:.1f}", f"{ratio:.2f}", verdict)
    Console().print(table)


if __name__ == "__main__":
    main()
