"""What a comparison found, as tables and as a page."""

import json
import re

import pytest

from prunus.report import write_bench
from prunus.report.bench import bars, bench_grids, described, remarks
from prunus.report.table import Cell


def row(name, median, threads=1, batch=1, **changes):
    latency = {"median": median, "low": 0.9 * median, "high": 1.2 * median}
    latency |= {"p50": median, "p90": 2 * median, "p99": None}
    plain = {
        "name": name,
        "runtime": "onnxruntime 1.32.0",
        "precision": "fp32",
        "threads": threads,
        "batch": batch,
        "latency_ms": latency,
        "throughput": 1000 / median,
        "speedup": None,
        "verdict": None,
        "bytes": 2048,
        "memory": None,
        "joules": None,
        "stable": True,
        "warmup_s": 0.1,
    }
    return plain | changes


@pytest.fixture
def document():
    noise = {
        "speedup": {"median": 1.01, "low": 0.98, "high": 1.03},
        "verdict": "no difference beyond the noise",
    }
    return {
        "machine": {
            "processor": "A processor",
            "cores": 2,
            "instructions": "avx2",
            "memory": 2**34,
            "system": "Linux",
            "load": None,
        },
        "rounds": 50,
        "clock": "wall",
        "energy": "not readable",
        "rows": [
            row("<b>a</b>", 10.0),
            row("b", 9.9, **noise, stable=False),
            row("<b>a</b>", 6.0, threads=2),
        ],
        "refused": [
            {
                "name": "b",
                "runtime": "torch",
                "precision": "int8",
                "threads": 1,
                "batch": 1,
                "reason": "torch has no <int8>",
            }
        ],
        "notes": [],
    }


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
