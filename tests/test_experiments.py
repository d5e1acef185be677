"""What an experiment's page says is what its tables hold, and its recipes can be run."""

import csv
import re
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import pytest

from prunus.report.study import quality
from prunus.study import load as load_study
from prunus.study.arms import ARMS
from prunus.study.statistics import mean

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TABLES = sorted(EXPERIMENTS.glob("*/*measured.csv"))
RECIPES = sorted(EXPERIMENTS.glob("*/*.toml"))


def name_of(path):
    return f"{path.parent.name}/{path.name}"


def lines_of(path):
    """Return the rows of the page's tables, with their cells stripped."""
    text = (path.parent / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\", "") for cell in re.split(r"(?<!\\)\|", r)] for r in rows]


def test_there_are_tables_and_recipes():
    assert TABLES
    assert RECIPES


@pytest.mark.parametrize("path", TABLES, ids=name_of)
def test_what_was_measured_stands_in_the_readme(path):
    lines = lines_of(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows
    if "arm" not in rows[0]:
        for row in rows:
            values = {value for value in row.values() if value}
            assert any(values <= {*line} for line in lines), row
        return
    groups = defaultdict(list)
    untrained = set()
    for row in rows:
        assert not row["failed"]
        group = row["method"], row["target_value"], row["arm"]
        groups[group].append(float(row["test"]))
        if not float(row["total_epochs"]):
            untrained.add(group)
    for (method, target, arm), values in groups.items():
        measured = asdict(mean(values, 1e-4))
        found = {quality(measured, "accuracy")}
        if (method, target, arm) in untrained and len(set(values)) == 1:
            found.add(quality(measured | {"margin": None}, "accuracy"))  # one network for all seeds
        title = ARMS[arm].title
        assert any(
            line[0] == (method or "all")
            and line[1].endswith(target)
            and line[2].startswith(title)
            and found & {*line}
            for line in lines
        ), (method, target, title, found)


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_its_recipes_can_be_read(path):
    if 'runtime = "sparse"' in path.read_text(encoding="utf-8"):
        pytest.importorskip("prunus_engine")
    assert load_study(path).study.seeds >= 3


RESULTS = [
    row.split("|")
    for row in (EXPERIMENTS.parent / "docs/results.md").read_text("utf-8").splitlines()
    if row.startswith("| [")
]


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: row[1].strip())
def test_the_page_of_results_says_what_its_experiments_say(row):
    (folder,) = re.findall(r"experiments/([\w-]+)", row[1])
    text = (EXPERIMENTS / folder / "README.md").read_text("utf-8")
    numbers = re.findall(r"\d+\.\d+", row[3] + row[4])
    assert numbers
    assert [number for number in numbers if number not in text] == []
