"""Ticket curves: every level of the lottery, and of its controls, over seeds."""

import json
import re
from itertools import pairwise

import pytest

from prunus import zoo
from prunus.errors import RecipeError
from prunus.files import read_tensors
from prunus.run.levels import learned
from prunus.study import parse_study, study
from tiny import STUDY, build_tiny_data

GRID = {
    "methods": [{"name": "lottery", "training": "8it", "rounds": 3}],
    "targets": {},
    "seeds": 2,
    "arms": ["fine_tuned", "reinit", "random_mask"],
    "every_level": True,
}
TRAIN = STUDY["train"] | {"eval_every": "2it"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "dataset", build_tiny_data)
        tables = STUDY | {"train": TRAIN, "finetune": None, "study": GRID}
        yield study(parse_study(tables), tmp_path_factory.mktemp("drawn"), workers=1)


def test_controls_are_trained_at_every_level_and_means_have_intervals(drawn):
    assert not any(row["failed"] for row in drawn.document["rows"])
    lines = {one["name"]: one["levels"] for one in drawn.document["tickets"]}
    assert list(lines) == ["winning ticket", "re-initialised", "random mask"]
    shares = [1, 0.8, 0.641, 0.513]
    left = [level["density"] for level in lines["winning ticket"]]
    assert left == pytest.approx(shares, abs=0.01)
    for name in ("re-initialised", "random mask"):
        assert [level["density"] for level in lines[name]] == [
            level["density"] for level in lines["winning ticket"][1:]
        ]
    for levels in lines.values():
        for level in levels:
            stop = level["early_stop"]
            assert 2 <= stop["mean"] <= 8
            assert stop["low"] <= stop["mean"] <= stop["high"]


def test_a_level_is_what_its_own_stage_found(drawn):
    (line,) = [one for one in drawn.document["tickets"] if one["name"] == "random mask"]
    root = drawn.directory.parent
    results = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in root.glob("pruned-lottery-*/random_mask-level-2-*/result.json")
    ]
    assert len(results) == 2  # seeds
    found = [learned(result["curve"])["final_accuracy"] for result in results]
    assert line["levels"][1]["final_accuracy"]["mean"] == pytest.approx(sum(found) / 2)


def test_masks_of_levels_are_nested_and_random_ones_keep_as_many(drawn):
    root = drawn.directory.parent
    for folder in root.glob("pruned-lottery-*"):
        masks = [
            read_tensors(folder / "prune" / f"{name}.safetensors")[0]["fc1.weight"]
            for name in ("mask-1", "mask-2", "mask-3", "mask")
        ]
        assert all(not (late & ~early).any() for early, late in pairwise(masks))
        assert (masks[2] == masks[3]).all()
        (control,) = folder.glob("random_mask-level-1-*")
        weight = read_tensors(control / "weights.safetensors")[0]["fc1.weight"]
        assert int((weight != 0).sum()) == int(masks[0].sum())
        (control,) = folder.glob("reinit-level-2-*")
        weight = read_tensors(control / "weights.safetensors")[0]["fc1.weight"]
        assert ((weight != 0) == masks[1]).all()


def test_the_page_draws_them(drawn):
    page = (drawn.directory / "report.html").read_text(encoding="utf-8")
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])
    assert list(charts) == ["early_stop", "early_stop_accuracy", "final_accuracy"]
    ticket, *controls = charts["early_stop"]["data"]
    assert (len(ticket["x"]), [len(one["x"]) for one in controls]) == (4, [3, 3])
    assert charts["early_stop"]["layout"]["xaxis"]["type"] == "log"
    assert page.count("data-chart=") == 3


def test_what_has_no_levels_is_refused():
    def tables(**grid):
        return STUDY | {"study": STUDY["study"] | grid}

    for changes in (
        {"every_level": True, "arms": ["reinit"]},
        GRID | {"arms": ["fine_tuned"]},
    ):
        with pytest.raises(RecipeError, match="every_level is for the arms reinit and random_mask"):
            parse_study(tables(**changes))
