"""Charts of a sensitivity scan."""

from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from prunus.pruning import Sensitivity
from prunus.pruning.scan import LayerScan
from prunus.report import inspection, write_inspection
from prunus.report.sensitivity import HEIGHT, WIDTH, panels
from prunus.space import trace


@pytest.fixture
def found():
    return Sensitivity(
        0.92,
        (0.25, 0.5, 1 - 1e-9),
        (
            LayerScan("a<b>", 10, (0.93, 0.915, 0.31), (0.3, 0.7, 1.4)),
            LayerScan("c", 10, (0.5, 0.92, 0.92), (0.2, 0.6, 1.2)),
        ),
    )


def test_points_lie_where_their_values_say(found):
    drawn = panels(found)
    (top, most), (floor, least) = drawn.ticks
    assert (most, least) == ("100 %", "30 %")
    first, second = drawn.panels
    for point, share, value in zip(
        first.points, (0, 0.25, 0.5, 1), (0.92, 0.93, 0.915, 0.31), strict=True
    ):
        assert point.x == pytest.approx(drawn.left + share * (drawn.right - drawn.left), abs=0.1)
        assert point.y == pytest.approx(floor - (value - 0.3) / 0.7 * (floor - top), abs=0.1)
        assert 0 < point.x < WIDTH and 0 < point.y < HEIGHT
    assert (first.limit, first.largest, first.q) == (3, 0.5, 0.7)
    assert (second.limit, second.largest, second.q) == (1, 0.0, 0.0)
    assert first.points[2].title == "a<b>, 50 % gone: 91.50 %"


def test_a_scan_without_any_drop_has_an_axis():
    flat = Sensitivity(1.0, (0.5,), (LayerScan("a", 4, (1.0,), ()),))
    drawn = panels(flat)
    assert [text for _, text in drawn.ticks] == ["100 %", "90 %"]
    assert drawn.panels[0].q is None


def test_the_page_has_a_chart_for_every_layer(found, tmp_path):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    seen = inspection("net", network, trace(network, torch.ones(1, 3)))
    write_inspection(seen, tmp_path / "without.html")
    write_inspection(seen, tmp_path / "with.html", found)
    assert 'id="sensitivity"' not in (tmp_path / "without.html").read_text(encoding="utf-8")
    page = (tmp_path / "with.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="sensitivity">') :]
    tree = ElementTree.fromstring(section[: section.index("</section>") + len("</section>")])
    assert [caption.text for caption in tree.iter("figcaption")] == ["a<b>", "c"]
    charts = [svg for svg in tree.iter("svg") if svg.get("role") == "img"]
    assert [len(list(svg.iter("circle"))) for svg in charts] == [4, 4]
    assert "50 %, q = 0.70" in section and "0 %, q = 0.00" in section
