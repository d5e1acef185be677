import json
import re
import time

import pytest

from prunus.report import write_study
from studied import document, row


def written(found, tmp_path):
    write_study(found, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_it_shows_words_numbers_and_widths(tmp_path):
    rows = [row("", "unpruned", None), row("l1", "fine-tuned")]
    rows.append(row("l1", "scratch-E", done=0, failed="TargetError: out of reach"))
    page = written(document(rows), tmp_path)
    for text in ("It is worth it.", "l1 is 0.4 above.", "a note", "90.00 ± 1.00 %", "MACs 0.5",
                 "TargetError: out of reach", "9.5", "12.5 %", "50.0 %"):  # fmt: skip
        assert text in page


def test_it_asks_the_network_for_nothing(tmp_path):
    page = written(document([row("l1", "fine-tuned")]), tmp_path)
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=|url\(|@import", own)
    assert "default-src 'none'" in own


def test_text_is_never_html(tmp_path):
    evil = "</script><script>alert(1)</script>"
    page = written(document([row(evil, evil)], title=evil, notes=[evil]), tmp_path)
    assert "alert(1)</script>" not in page


@pytest.mark.parametrize("metric", ["mean_iou", "perplexity"])
def test_other_metrics(metric, tmp_path):
    page = written(document([row("l1", "fine-tuned")], metric=metric), tmp_path)
    assert ("90.00 ± 1.00 %" in page) == (metric == "mean_iou")


def test_a_thousand_arms_are_one_figure_whose_data_come_once(tmp_path):
    rows = [
        row(f"m{k}", arm, {"metric": "macs", "value": share / 20})
        for k in range(10)
        for arm in ("pruned", "fine-tuned", "scratch-E", "scratch-B", "random")
        for share in range(1, 21)
    ]
    begin = time.perf_counter()
    page = written(document(rows), tmp_path)
    assert time.perf_counter() - begin < 10
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert len(json.loads(data)["series"]) == 50
    assert len(data) < 300_000
    assert page.count('class="chart"') == 1
