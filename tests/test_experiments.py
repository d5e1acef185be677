"""What an experiment's page says is what its table holds."""

import csv
from pathlib import Path

import pytest

EXPERIMENTS = sorted(Path(__file__).parents[1].glob("experiments/*/measured.csv"))


FIGURES = ("accuracy_before", "accuracy_pruned", "accuracy_after", "speedup_median")
"""Of networks that were pruned once."""
FEDERATED = ("accuracy", "density", "seconds", "megabytes", "seconds_80", "seconds_90")
"""Of federated runs, a line for each arm and seed."""


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_every_measured_figure_stands_in_the_readme(path):
    text = (path.parent / "README.md").read_text(encoding="utf-8")
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            first, figures = (
                (f"| {row['arm']} | {row['seed']} |", FEDERATED)
                if "arm" in row
                else (f"| {row['network'].replace('resnet', 'resnet-')}", FIGURES)
            )
            line = next(x for x in text.splitlines() if x.lower().startswith(first))
            for key in figures:
                assert row[key] in line
