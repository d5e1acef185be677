import json
import math
from html.parser import HTMLParser

import pytest

from prunus.report import write_report


class Page(HTMLParser):
    """The text, tags and embedded data of a page, as a browser would read them."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.ids, self.chunks, self.scripts = [], [], [], []
        self._inside = None
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.chunks).split())

    def handle_starttag(self, tag, attributes):
        self._inside = tag
        self.tags.append((tag, dict(attributes)))
        if tag == "section":
            self.ids.append(dict(attributes)["id"])

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.chunks.append(data)

    @property
    def charts(self):
        return json.loads(self.scripts[0])


@pytest.fixture
def without_plotly(monkeypatch):
    """Leave out 5 MB of library that some tests would otherwise write a hundred times."""
    monkeypatch.setattr("prunus.report.html.get_plotlyjs", str)


@pytest.fixture
def page(tmp_path):
    def write(result):
        write_report(result, tmp_path / "report.html")
        return Page(tmp_path / "report.html")

    return write


def test_the_parts_come_in_the_order_a_reader_asks(page, resnet20):
    read = page(resnet20)
    assert read.ids == [
        "target",
        "arms",
        "curves",
        "widths",
        "frozen",
        "verification",
        "latency",
        "environment",
        "recipe",
    ]
    for fact in (
        "Asked to keep 50.0 % of the MACs, reached 49.7 %; proved equal to the masked network; "
        "1.72x as fast as the dense network; accuracy 91.56 % against 92.13 % before.",
        "3.1e-16",
        "onnxruntime 1.31.1",
        "0.681 to 0.695",
        "4.83x",
        "98.7 %",
        "reaches the network's output",
        'train.milestones = ["80ep", "120ep"]',
        "The widths were rounded to multiples of 8.",
    ):
        assert fact in read.text


def test_fractions_are_short_where_they_are_only_told(page):
    read = page({"verification": {"passed": True, "max_relative_difference": 3.8631737624017e-16}})
    assert "3.86e-16" in read.text
    assert "3.863" not in read.text


def test_the_page_asks_the_network_for_nothing(page, resnet20):
    read = page(resnet20)
    attributes = [attribute for _, found in read.tags for attribute in found]
    assert not {"src", "href", "srcset"} & set(attributes)
    assert "link" not in {tag for tag, _ in read.tags}
    policy = next(a["content"] for t, a in read.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert sum(len(script) > 1_000_000 for script in read.scripts) == 1, "plotly, once"


HOSTILE = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7 * 7 }}\"&"


def hostile(value, key=None):
    """Replace every text of a result, and every name in its recipe, but the arm called dense."""
    if isinstance(value, dict):
        return {k: hostile(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v, key) for v in value]
    return HOSTILE if isinstance(value, str) and value not in ("dense", "macs") else value


def test_text_of_the_result_is_never_markup(page, resnet20):
    clean = page(resnet20)
    result = hostile(resnet20)
    result["curves"] = {HOSTILE: result["curves"]["dense"]}
    result["recipe"] = {HOSTILE: {HOSTILE: HOSTILE}}
    result["environment"] = {HOSTILE: HOSTILE}
    result["latency"] = {HOSTILE: HOSTILE}
    read = page(result)

    assert {tag for tag, _ in read.tags} == {tag for tag, _ in clean.tags}
    assert len(read.scripts) == len(clean.scripts)
    assert not any(name.startswith("on") for _, found in read.tags for name in found)
    assert "{{ 7 * 7 }}" in read.text
    labels = [trace["name"] for trace in read.charts["loss"]["data"]]
    labels += read.charts["widths"]["layout"]["yaxis"]["ticktext"]
    labels += read.charts["widths"]["data"][0]["hovertext"]
    assert labels
    assert not any("<" in label for label in labels), "plotly reads tags in labels"


@pytest.mark.usefixtures("without_plotly")
@pytest.mark.parametrize("missing", [None, "absent"])
def test_any_key_may_be_missing(page, resnet20, missing):
    for key in list(resnet20):
        result = dict(resnet20)
        if missing is None:
            result[key] = None
        else:
            del result[key]
        read = page(result)
        gone = {"groups": "widths"}.get(key, key)
        assert gone not in read.ids or key == "latency"


@pytest.mark.usefixtures("without_plotly")
def test_any_inner_key_may_be_missing(page, resnet20):
    for key in ("arms", "groups", "frozen", "delivered"):
        for inner in list(resnet20[key][0]):
            changed = [{k: v for k, v in entry.items() if k != inner} for entry in resnet20[key]]
            page({**resnet20, key: changed})
            page({**resnet20, key: [{**entry, inner: None} for entry in resnet20[key]]})
    for key in ("target", "verification", "latency", "environment"):
        for inner in resnet20[key]:
            page({**resnet20, key: {**resnet20[key], inner: None}})


def test_an_empty_result_says_what_is_unknown(page):
    read = page({})
    assert "No target was recorded" in read.text
    assert "speed was not measured" in read.text
    assert read.ids == []
    assert read.scripts == [], "no charts, so no plotly"


def test_every_layer_has_its_bar(page, resnet56):
    groups = [
        {"name": f"features.{i}.block.with.a.very.long.name.conv", "before": 64, "after": i}
        for i in range(1, 61)
    ]
    chart = page({**resnet56, "groups": groups}).charts["widths"]

    before, after = chart["data"]
    assert before["x"] == [64] * 60
    assert after["x"] == list(range(1, 61))
    assert before["text"][4] == "5/64"
    assert before["y"] == after["y"] == list(range(60)), "equal shortened names stay apart"
    assert max(map(len, chart["layout"]["yaxis"]["ticktext"])) <= 20
    assert chart["layout"]["height"] >= 15 * 60
    assert before["hovertext"][0] == "features.1.block.with.a.very.long.name.conv: 64 → 1"


def test_curves_keep_arms_apart_and_leave_out_what_is_not_finite(page, resnet20):
    resnet20["curves"]["dense"][0]["train_loss"] = math.nan
    del resnet20["curves"]["dense"][1]["val_accuracy"]
    charts = page(resnet20).charts

    loss, accuracy = charts["loss"]["data"], charts["accuracy"]["data"]
    assert [trace["name"] for trace in loss] == ["dense", "fine-tuned", "scratch-E", "scratch-B"]
    assert loss[0]["y"][0] is None
    assert len(accuracy[0]["y"]) == len(loss[0]["y"]) - 1
    assert accuracy[1]["y"][0] == pytest.approx(resnet20["curves"]["fine-tuned"][0]["val_accuracy"])
    assert charts["loss"]["layout"]["xaxis"]["title"]["text"] == "epoch"


def test_without_epochs_the_curves_run_over_steps(page, resnet20):
    del resnet20["curves"]["dense"][0]["epoch"]
    chart = page(resnet20).charts["loss"]
    assert chart["layout"]["xaxis"]["title"]["text"] == "step"
    assert chart["data"][0]["x"][0] == 391


def test_what_was_not_pruned_is_grouped_with_the_commonest_reason_first(page):
    frozen = [{"name": "fc", "channels": 10, "reason": "output"}]
    frozen += [{"name": f"unit{i}", "channels": 4, "reason": "no rule"} for i in range(14)]
    text = page({"frozen": frozen}).text
    assert text.index("no rule 14") < text.index("unit13") < text.index("output 1")
    assert "2 more" in text


def test_the_page_replaces_an_old_one_whole(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report({"title": "new"}, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
