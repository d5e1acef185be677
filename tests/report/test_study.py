import html
import json
import re
import time

import pytest
from plotly.offline import get_plotlyjs

from prunus.report import write_study
from prunus.study.tables import csv_text, markdown_text
from studied import document, row


def written(found, tmp_path, tables=None):
    write_study(found, tmp_path / "report.html", tables)
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
    found = document([row(evil, evil)], title=evil, notes=[evil], tickets=[line(evil)])
    page = written(found, tmp_path, {evil: evil})
    assert "alert(1)</script>" not in page


@pytest.mark.parametrize("metric", ["mean_iou", "perplexity"])
def test_other_metrics(metric, tmp_path):
    page = written(document([row("l1", "fine-tuned")], metric=metric), tmp_path)
    assert ("90.00 ± 1.00 %" in page) == (metric == "mean_iou")


def line(name, margin=0.01):
    def value(mean):
        ends = (None, None) if margin is None else (mean - margin, mean + margin)
        return {"mean": mean, "low": ends[0], "high": ends[1]}

    levels = [
        {"density": 0.8**k, "early_stop": value(400 - 10 * k), "early_stop_accuracy": None,
         "final_accuracy": value(0.9 - 0.01 * k)}
        for k in range(4)
    ]  # fmt: skip
    return {"name": name, "levels": levels}


def test_tickets_are_drawn_from_the_whole_network_to_the_sparsest(tmp_path):
    lines = [line("winning ticket"), line("random mask", margin=None)]
    page = written(document([row("lottery", "fine-tuned")], tickets=lines), tmp_path)
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])
    assert list(charts) == ["early_stop", "final_accuracy"]  # nothing is known of the third
    ticket, control = charts["final_accuracy"]["data"]
    assert ticket["y"] == control["y"] == pytest.approx([0.9, 0.89, 0.88, 0.87])
    assert ticket["error_y"]["array"] == pytest.approx([0.01] * 4)
    assert control["error_y"]["array"] == [0] * 4
    axis = charts["final_accuracy"]["layout"]["xaxis"]
    assert (axis["type"], axis["autorange"]) == ("log", "reversed")
    assert axis["ticktext"] == ["51.2 %", "64.0 %", "80.0 %", "100.0 %"]
    assert 'id="charts"' not in written(document([row("l1", "fine-tuned")]), tmp_path)


def test_tables_are_there_to_be_copied_as_they_are(tmp_path):
    text = "method,arm\nl1,<fine & tuned>\n"
    page = written(document([row("l1", "fine-tuned")]), tmp_path, {"CSV, every network": text})
    (found,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    assert html.unescape(found) == text
    assert "<summary>CSV, every network</summary>" in page


def test_time_is_a_cost_where_it_was_measured(tmp_path):
    rows = [row("", "unpruned", None, ms=2.0), row("l1", "fine-tuned", ms=0.512)]
    timed = document(rows, timed="Latency: as measured.")
    timed["dense"] = timed["dense"] | {"ms": 2.0}
    page = written(timed, tmp_path)
    for text in ('value="ms"', "0.512 ms<small>25.6 %", "Latency: as measured."):
        assert text in page
    assert 'value="ms"' not in written(document(rows), tmp_path)


def test_a_thousand_arms_are_one_figure_whose_data_come_once(tmp_path):
    rows = [
        row(f"m{k}", arm, {"metric": "macs", "value": share / 20})
        for k in range(10)
        for arm in ("pruned", "fine-tuned", "scratch-E", "scratch-B", "random")
        for share in range(1, 21)
    ]
    tables = {"CSV": csv_text(document(rows)), "Markdown": markdown_text(document(rows))}
    begin = time.perf_counter()
    page = written(document(rows), tmp_path, tables)
    assert time.perf_counter() - begin < 10
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert len(json.loads(data)["series"]) == 50
    assert len(data) < 300_000
    assert len(page) - len(get_plotlyjs()) < 1_500_000
    assert page.count('class="chart"') == 1
