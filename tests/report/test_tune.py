import re

import pytest

from prunus.report import write_search


def trial(number, **changes):
    found = {
        "number": number, "state": "done",
        "values": {"target.macs": 0.41234567, "method.name": "l1"},
        "within": True, "why": "", "val": 0.9, "curve": [0.8, 0.9], "macs": 5e5, "params": 1e5,
        "bytes": 4e5, "share": {"macs": 0.5, "params": 0.25, "bytes": 0.25},
    }  # fmt: skip
    return found | changes


def document(trials, front=(), **changes):
    found = {
        "title": "a search", "metric": "accuracy", "objectives": ["accuracy", "macs"],
        "limits": {"params": 0.5, "accuracy": 0.8}, "costs": ["macs", "params", "bytes"],
        "keys": ["target.macs", "method.name"],
        "dense": {
            "macs": 10**6, "params": 4 * 10**5, "bytes": 16 * 10**5, "val": 0.95, "test": 0.94,
        },
        "summary": "Many trials.", "trials": trials, "notes": ["a note"],
        "front": [
            {**trials[k], "test": 0.875, "recipe": f"front/trial-{k}.toml"} for k in front
        ],
        "environment": {"cpu": "some"}, "recipe": {},
    }  # fmt: skip
    return found | changes


def written(found, tmp_path):
    write_search(found, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_it_shows_words_and_numbers(tmp_path):
    stopped = trial(1, state="stopped", why="behind after 2 evaluations", curve=[0.7])
    del stopped["val"]
    refused = trial(2, state="refused", why="params are beyond")
    for key in ("val", "curve"):
        del refused[key]
    failed = {"number": 3, "state": "failed", "values": trial(3)["values"], "within": True,
              "why": "TargetError: out of reach"}  # fmt: skip
    page = written(document([trial(0), stopped, refused, failed], front=[0]), tmp_path)
    for text in (
        "Many trials.", "a note", "90.00 %", "87.50 %", "94.00 %", "500 k", "50.0 %", "0.4123",
        "behind after 2 evaluations", "TargetError: out of reach", "front/trial-0.toml",
        "highest accuracy and lowest MACs, with parameters at most 50.0 % of the unpruned, "
        "accuracy at least 80.00 %",
    ):  # fmt: skip
        assert text in page, text


def test_it_asks_the_network_for_nothing(tmp_path):
    page = written(document([trial(0)], front=[0]), tmp_path)
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=|url\(|@import", own)
    assert "default-src 'none'" in own


def test_text_is_never_html(tmp_path):
    evil = "</script><script>alert(1)</script>"
    bad = trial(0, why=evil, values={evil: evil})
    page = written(document([bad], front=[0], title=evil, notes=[evil], keys=[evil]), tmp_path)
    assert "alert(1)</script>" not in page


@pytest.mark.parametrize("metric", ["mean_iou", "perplexity"])
def test_other_metrics(metric, tmp_path):
    found = document([trial(0)], front=[0], metric=metric, objectives=[metric, "macs"], limits={})
    assert ("90.00 %" in written(found, tmp_path)) == (metric == "mean_iou")


def test_a_search_without_trials_has_a_page(tmp_path):
    empty = document([], keys=[], costs=[], dense={"macs": 0, "params": 0, "bytes": 0})
    assert "Many trials." in written(empty, tmp_path)
