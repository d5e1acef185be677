"""What an experiment's page says is what its table holds."""

import csv
from pathlib import Path

import pytest

EXPERIMENTS = sorted(Path(__file__).parents[1].glob("experiments/*/measured.csv"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_every_measured_accuracy_stands_in_the_readme(path):
    text = (path.parent / "README.md").read_text(encoding="utf-8")
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            line = next(
                x
                for x in text.splitlines()
                if x.lower().startswith(f"| {row['network'].replace('resnet', 'resnet-')}")
            )
            for key in ("accuracy_before", "accuracy_pruned", "accuracy_after", "speedup_median"):
                assert row[key] in line
