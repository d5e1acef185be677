"""Widths and masks after a pattern: of each method, of another network, and uniform ones."""

import sys

import pytest
from torch import nn

from prunus import zoo
from prunus.errors import RecipeError
from prunus.space import trace
from prunus.study import parse_study, study
from tiny import STUDY, build_tiny_data

SHAPES = ("uniform", "guided", "transferred")


def staged(layers=2):
    """Two stages, of 8 and 16 channels, each of so many layers."""
    found, inputs = [nn.AvgPool2d(4)], 1
    for channels in (8, 16):
        for _ in range(layers):
            found += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
            inputs = channels
        found += [nn.MaxPool2d(2)]
    return nn.Sequential(*found, nn.Flatten(), nn.Linear(16, 10))


def tables(**changes):
    own = {"model": {"factory": "own_networks:staged"}}
    source = {"model": {"factory": "own_networks:staged", "options": {"layers": 3}}}
    return STUDY | own | {"source": source} | changes


@pytest.fixture(scope="module")
def designed(tmp_path_factory):
    grid = {
        "methods": [
            {"name": "taylor", "round_to": 1},
            {"name": "magnitude", "layers": "conv", "targets": {"sparsity": [0.75]}},
        ],
        "targets": {"macs": [0.5]},
        "seeds": 1,
        "arms": ["scratch_e", *SHAPES],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "dataset", build_tiny_data)
        patch.setitem(sys.modules, "own_networks", sys.modules[__name__])
        folder = tmp_path_factory.mktemp("designed")
        yield study(parse_study(tables(study=grid)), folder, workers=1)


def rows(studied):
    return {(row["method"], row["arm"]): row for row in studied.document["rows"]}


def test_all_of_a_size_cost_the_same(designed):
    found = rows(designed)
    assert not any(row["failed"] for row in found.values())
    for arm in SHAPES:
        filters, weights = found["taylor", arm], found["magnitude", arm]
        assert filters["macs"] == pytest.approx(found["taylor", "scratch_e"]["macs"], rel=0.03)
        assert filters["params"] < designed.document["dense"]["params"]
        # Single weights are as many, wherever they are.
        assert weights["params"] == pytest.approx(found["magnitude", "scratch_e"]["params"], abs=1)


def test_a_stage_has_one_width_where_a_pattern_designs_it(designed):
    columns = {
        (one["method"], one["arm"]): [layer["after"] / layer["before"] for layer in one["layers"]]
        for one in designed.document["layers"]
    }
    assert {arm for _, arm in columns} == {"", *SHAPES}
    for arm in ("guided", "transferred"):
        first, second, third, fourth = columns["taylor", arm]
        assert first == pytest.approx(second, abs=1 / 8)
        assert third == pytest.approx(fourth, abs=1 / 16)
    assert columns["magnitude", "uniform"][:4] == pytest.approx([0.25] * 4, abs=0.01)
    own, guided = columns["magnitude", ""], columns["magnitude", "guided"]
    # All shares are scaled alike: what one stage keeps, as a share of the other's, is the method's.
    first = (72 * guided[0] + 576 * guided[1]) / 648
    second = (1152 * guided[2] + 2304 * guided[3]) / 3456
    assert first / second == pytest.approx((own[0] + own[1]) / (own[2] + own[3]), rel=0.2)
    assert guided[4] == own[4] == 1  # the linear layer is not the method's


def test_their_training_is_counted_with_what_the_widths_are_read_off(designed):
    found, network = rows(designed), staged(layers=3)
    source = trace(network, zoo.example("lenet300")[:1]).macs.dense
    dense = designed.document["dense"]["macs"]
    step = 50 * 3  # samples of a batch, passes of a sample

    def spent(method, arm):
        row = found[method, arm]
        return row["total"]["epochs"] * 8, row["total"]["macs"] / step, row["macs"]

    for method in ("taylor", "magnitude"):
        for arm, before in (("uniform", 0), ("guided", dense), ("transferred", source)):
            batches, macs, own = spent(method, arm)
            assert batches == (16 if before else 8)
            assert macs == pytest.approx(8 * before + 8 * own)


def test_uniform_pruning_is_what_each_shape_is_compared_with(designed):
    shapes = [one for one in designed.document["comparisons"] if one["family"] == "shape"]
    assert [(one["method"], one["arm"], one["other"]) for one in shapes] == [
        (method, arm, "uniform")
        for method in ("taylor", "magnitude")
        for arm in ("scratch_e", "guided", "transferred")
    ]
    said = " ".join(one["text"] for one in designed.document["verdicts"]["each"])
    assert "At 0.5 of the MACs, transferred taylor " in said
    page = (designed.directory / "report.html").read_text(encoding="utf-8")
    assert "taylor, guided<small>MACs 0.5" in page


def test_a_source_and_the_arm_go_together(monkeypatch):
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    grid = STUDY["study"]
    with pytest.raises(RecipeError, match="is for the arm transferred"):
        parse_study(tables())
    with pytest.raises(RecipeError, match=r"takes its pattern from the network of a \[source\]"):
        parse_study(tables(study=grid | {"arms": ["transferred"]}, source=None))
    with pytest.raises(RecipeError, match="the arm guided draws single weights or channels"):
        parse_study(tables(study=grid | {"methods": ["sss"], "arms": ["guided"]}, source=None))
