"""What the pages claim in figures stands there, and has a command that shows it."""

import json
import re
import runpy
import shlex
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "claims.py"))


@pytest.mark.parametrize("claim", BENCHMARK["CLAIMS"], ids=lambda claim: claim.text)
def test_a_claim_stands_and_what_shows_it_is_there(claim):
    assert BENCHMARK["stands"](claim)
    files = [word for word in shlex.split(claim.command) if word.endswith(".py")]
    assert files or claim.command == "prunus demo"
    assert all((ROOT / file).is_file() for file in files)


def test_the_counts_of_networks_are_those_of_the_rows():
    lines = (ROOT / "docs" / "coverage.jsonl").read_text(encoding="utf-8").splitlines()
    found = {}
    for row in map(json.loads, lines):
        found.setdefault((row["zoo"], row["name"]), {})[row["ratio"]] = row["status"]
    tried = [set(statuses.values()) for statuses in found.values() if {0.5, 0.75} <= set(statuses)]
    kept, refused = tried.count({"preserved"}), tried.count({"refused"})
    page = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    told = re.search(r"Of the (\d+) networks .*? (\d+) lost half .*? (\d+) were refused", page)
    assert [int(number) for number in told.groups()] == [len(tried), kept, refused]
    assert kept + refused == len(tried)


def test_the_counts_of_onnx_files_are_those_of_the_rows():
    lines = (ROOT / "docs" / "onnx.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {(row["zoo"], row["name"]): row["status"] for row in map(json.loads, lines)}
    counts = Counter(rows.values())
    page = " ".join((ROOT / "docs/how-to/deliver.md").read_text(encoding="utf-8").split())
    told = re.search(
        r"Of (\d+) networks (\d+) are pruned; (\d+) .*? (\d+) for one .*? (\d+) none", page
    )
    pruned = len(rows) - counts["not pruned"]
    kinds = ("exported", "fixed batch", "not exported")
    assert [int(number) for number in told.groups()] == [
        len(rows),
        pruned,
        *(counts[kind] for kind in kinds),
    ]
    assert pruned == sum(counts[kind] for kind in kinds)
