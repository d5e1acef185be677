"""What a comparison found, as tables and as a page."""

import json
import re

import pytest

from benched import document
from prunus.report import write_bench
from prunus.report.bench import bars, bench_grids, described, remarks
from prunus.report.table import Cell


@pytest.fixture(name="document")
def found():
    return document()


def test_a_grid_per_place_without_columns_that_nothing_fills(document):
    (one, first), (two, second) = bench_grids(document)
    assert (one, two) == ("threads 1, batch 1, 50 rounds", "threads 2, batch 1, 50 rounds")
    assert "Energy" not in first.headings
    cells = dict(zip(first.headings, first.rows[1], strict=True))
    assert cells["Speed-up"] == Cell("no difference", "0.98 to 1.03")
    assert cells["p90, p99"] == Cell("19.8 ms", "")
    assert cells["Median"].note.endswith("not stable after warm-up")
    assert second.rows[0][1].text == "6.00 ms"


def test_the_machine_is_described_by_what_is_known(document):
    assert described(document) == "A processor, 2 cores, avx2, 16.0 GiB of memory, Linux"


def test_the_page_shows_all_and_runs_nothing_of_it(document, tmp_path, monkeypatch):
    monkeypatch.setattr("prunus.report.html.get_plotlyjs", str)
    write_bench(document, tmp_path / "bench.html")
    page = (tmp_path / "bench.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "no difference" in page
    assert "torch has no &lt;int8&gt;" in page
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])
    assert [len(bar["y"]) for bar in charts["latency"]["data"]] == [2, 1]
    (first, _) = bars(document)
    assert first["below"] == pytest.approx([1.0, 0.99])


@pytest.mark.parametrize(
    ("load", "clock", "said"),
    [(None, "wall", ""), (1.9, "wall", ""), (8.0, "processor", ""), (8.0, "wall", "was busy")],
)
def test_a_busy_machine_is_told(document, load, clock, said):
    document["machine"]["load"] = load
    document["clock"] = clock
    warnings = remarks(document)[1:]
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)
