"""Exact global selection of the lowest 90 % of many scores: Prunus, NumPy and PyTorch.

`prunus.selectors.lowest` returns a mask with an exact count, ties broken by index;
`numpy.partition` and `torch.topk` only rank. They are run in turns within one process; the table
shows medians, and the ratio to `numpy.partition` in the same turn. Goal: at most 1.3.

    python benchmarks/threshold.py [turns]
"""

import statistics
import sys
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from prunus.selectors import lowest

SIZES = (25_000_000, 100_000_000)
SHARE = 0.9
GOAL = 1.3


def one_turn(scores: torch.Tensor) -> dict[str, float]:
    """Return the seconds that each way takes."""
    count = round(SHARE * len(scores))
    ways = {
        "numpy.partition": lambda: np.partition(scores.numpy(), count),
        "prunus": lambda: lowest([scores], count),
        "torch.topk": lambda: torch.topk(scores, len(scores) - count),
    }
    seconds = {}
    for name, way in ways.items():
        begin = time.perf_counter()
        way()
        seconds[name] = time.perf_counter() - begin
    return seconds


def main(turns: int) -> None:
    """Measure both sizes and print one row for each."""
    torch.set_num_threads(2)
    table = Table(title=f"ms to select {SHARE:.0%} of the scores, 2 threads; goal {GOAL}")
    names = ("numpy.partition", "prunus", "torch.topk")
    for heading in ("scores", *names, *(f"{name} / numpy" for name in names[1:])):
        table.add_column(heading, justify="right", no_wrap=True)
    for size in SIZES:
        scores = torch.randn(size, generator=torch.Generator().manual_seed(0)).abs_()
        rows = [one_turn(scores) for _ in range(turns + 1)][1:]
        medians = [f"{statistics.median(row[name] for row in rows) * 1e3:.0f}" for name in names]
        ratios = [
            f"{statistics.median(row[name] / row[names[0]] for row in rows):.2f}"
            for name in names[1:]
        ]
        table.add_row(f"{size:,}", *medians, *ratios)
    Console(width=110).print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
