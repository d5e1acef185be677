import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from prunus.report import inspection, write_inspection
from prunus.report.graph import COLOURS, draw
from prunus.report.inspection import Reason, UnitCost
from prunus.report.lines import frozen_lines, group_lines, layer_lines
from prunus.space import trace
from prunus.space.units import Frozen


class Residual(nn.Module):
    """108 + 8 + 148 + 10 parameters; on 5 x 5 pixels 2700 + 3600 + 8 MACs."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.fc((x + self.conv2(x)).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return x + self.fc2(self.fc1(self.norm(x)).relu())


class Stack(nn.Module):
    """A token reader; its blocks are alike but for the widths given."""

    def __init__(self, hidden=(6, 6, 6), tied=False):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.blocks = nn.ModuleList(Block(8, width) for width in hidden)
        self.head = nn.Linear(8, 20, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def inspected(network, example, name="net"):
    return inspection(name, network, trace(network, example))


@pytest.fixture
def residual():
    return inspected(Residual(), torch.randn(1, 3, 5, 5))


@pytest.fixture
def stack():
    return inspected(Stack(), torch.arange(7)[None])


def test_what_one_unit_costs_by_hand(residual):
    (group,) = residual.groups
    assert (group.name, group.units, group.positions) == ("conv1", 4, 25)
    assert group.coupled == ("conv1", "conv2")
    assert group.readers == ("conv2", "fc")
    # Three of four channels: conv1 81, bn1 6, conv2 81 + 3, fc 6 + 2; of 274 parameters.
    # MACs: 25 x (81 + 81) + 6, of 6308.
    assert group.unit == UnitCost(params=274 - 179, macs=6308 - 4056)


def test_the_largest_removal_by_hand(residual):
    params, macs = residual.coverage.params, residual.coverage.macs
    assert (params.dense, params.least) == (274, 27 + 2 + (9 + 1) + (2 + 2))
    assert (macs.dense, macs.least) == (6308, 25 * (27 + 9) + 2)
    assert params.removable == pytest.approx(1 - 43 / 274)
    assert residual.coverage.sentence == (
        "Up to 84.31 % of the parameters and 85.70 % of the MACs can go."
    )


def test_what_stays_by_layer_and_by_reason(residual):
    assert residual.frozen == (Frozen("fc", 2, "is the network's output"),)
    # Its weights lose columns; its two biases stay.
    assert residual.coverage.reasons == (Reason("is the network's output", 1, 2, 2),)


def test_a_layers_several_weights_are_one_entry():
    network = nn.LSTM(3, 5, batch_first=True)
    found = inspected(network, torch.randn(1, 4, 3))
    assert len({(kept.name, kept.reason) for kept in found.frozen}) == len(found.frozen)


def test_layers_come_in_the_order_of_the_forward(stack):
    assert [layer.name for layer in stack.layers] == [
        "embed",
        *(f"blocks.{k}.{part}" for k in range(3) for part in ("fc1", "fc2")),
        "head",
    ]
    first, second = stack.layers[1:3]
    assert (first.params, first.macs) == (8 * 6 + 6, 7 * 8 * 6)
    assert (first.makes, first.reads) == (("blocks.0.fc1",), ())
    assert (second.makes, second.reads) == ((), ("blocks.0.fc1",))


def test_a_tied_weight_stands_where_it_is_defined():
    found = inspected(Stack(tied=True), torch.arange(7)[None])
    assert found.layers[0].name == "embed"
    assert found.layers[0].tied == ("head",)
    assert "head" not in [layer.name for layer in found.layers]


def test_repeated_blocks_share_a_line(stack):
    assert [line.name for line in group_lines(stack)] == ["blocks.{0-2}.fc1"]
    assert [line.name for line in group_lines(stack, every=True)] == [
        f"blocks.{k}.fc1" for k in range(3)
    ]
    assert "blocks.{0-2}.fc2" in [line.name for line in frozen_lines(stack)]
    assert [line.name for line in layer_lines(stack, group_lines(stack))] == [
        "embed",
        "blocks.{0-2}.fc1",
        "blocks.{0-2}.fc2",
        "head",
    ]


def test_blocks_of_other_widths_keep_their_own_line():
    found = inspected(Stack((6, 9, 6)), torch.arange(7)[None])
    assert [line.name for line in group_lines(found)] == ["blocks.{0,2}.fc1", "blocks.1.fc1"]


def test_what_is_coupled_is_told_short_or_in_full(residual):
    assert [line.related for line in group_lines(residual)] == [("conv2",)]
    assert [line.related for line in group_lines(residual, every=True)] == [("conv2",)]


def test_as_json_and_back(residual):
    document = residual.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document.keys() == {
        *("model", "params", "macs", "bytes", "coverage"),
        *("groups", "branches", "frozen", "layers", "unknown"),
    }
    assert document["branches"] == [{"name": "conv2:branch", "cost": {"params": 148, "macs": 3600}}]
    assert document["coverage"]["params"] == {"dense": 274, "least": 43, "removable": 0.843066}
    assert document["groups"][0]["unit"] == {"params": 95, "macs": 2252}
    assert document["layers"][0] == {
        "name": "conv1",
        "params": 108,
        "macs": 2700,
        "makes": ["conv1"],
        "reads": [],
        "tied": [],
    }


def test_a_network_of_which_nothing_can_go(tmp_path):
    found = inspected(nn.Linear(3, 2), torch.randn(1, 3))
    assert found.groups == ()
    assert found.coverage.params.removable == 0
    assert found.coverage.sentence == "No units can be removed."
    write_inspection(found, tmp_path / "page.html")


def test_every_layer_is_drawn_and_every_group_is_a_band(residual):
    groups = group_lines(residual)
    drawing = draw(residual, layer_lines(residual, groups), groups)
    conv1, conv2, fc = drawing.rows
    (band,) = drawing.bands
    assert (band.top, band.bottom) == (conv1.y, fc.y)
    assert [[dot.made for dot in row.dots] for row in drawing.rows] == [[True], [True], [False]]
    assert {dot.x for row in drawing.rows for dot in row.dots} == {band.x}
    assert [note.text for note in conv1.notes] == ["4 units, each 95 parameters, 2.25 k MACs"]
    assert [note.text for note in fc.notes] == ["2 stay: each is the network's output"]
    assert (conv2.bar, conv1.bar) == (1, 0.75)
    assert (conv2.grey, fc.grey, fc.stays) == (False, True, True)


def test_bands_that_overlap_have_lanes_of_their_own_and_neighbours_their_colours():
    network = nn.Sequential(*(nn.Linear(k, k + 1) for k in range(2, 30)))
    found = inspected(network, torch.randn(1, 2))
    groups = group_lines(found)
    bands = draw(found, layer_lines(found, groups), groups).bands
    assert len(bands) == len(groups) == 27
    assert len({band.x for band in bands}) == 2, "lanes are used again"
    for k, one in enumerate(bands):
        assert 0 <= one.colour < COLOURS
        for other in bands[k + 1 :]:
            if one.top <= other.bottom and other.top <= one.bottom:
                assert one.x != other.x
                assert one.colour != other.colour


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.chunks = [], []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.chunks).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.chunks.append(data)


@pytest.fixture
def page(tmp_path):
    def write(found):
        write_inspection(found, tmp_path / "page.html")
        return Page(tmp_path / "page.html")

    return write


def test_the_page_holds_every_group_and_every_reason(page, stack):
    read = page(stack)
    for k in range(3):
        assert f"blocks.{k}.fc1" in read.text
    assert "blocks.{0-2}.fc1" in read.text
    assert "is the network's output" in read.text
    assert stack.coverage.sentence in read.text
    drawn = ElementTree.fromstring(
        re.search(r'<div class="graph">\s*(<svg.*?</svg>)', read.source, re.DOTALL)[1]
    )
    assert len(drawn.findall("g")) == 4
    assert len([line for line in drawn.iter("line") if "band" in line.get("class")]) == 1


def test_the_page_asks_for_nothing_and_runs_nothing(page, stack):
    read = page(stack)
    attributes = {name for _, found in read.tags for name in found}
    assert not attributes & {"src", "href", "srcset", "xlink:href"}
    assert not {"script", "link"} & {tag for tag, _ in read.tags}
    policy = next(a["content"] for t, a in read.tags if t == "meta" and "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert not re.search(r"url\(|@import|https?:", read.source)


def test_names_are_never_markup(page):
    network = Residual()
    found = inspected(network, torch.randn(1, 3, 5, 5), "<script>alert(1)</script>&{{ 7 * 7 }}")
    read = page(found)
    assert "script" not in {tag for tag, _ in read.tags}
    assert "<script>alert(1)</script>&{{ 7 * 7 }}" in read.text


def test_operations_without_a_rule_are_named(page, stack):
    read = page(replace(stack, unknown={"odd_operation": 3}))
    assert "No rule for odd_operation (met 3 times)" in read.text
