import pytest
import torch

from prunus import zoo
from prunus.cli import main
from prunus.errors import RecipeError
from prunus.study.advise import advice, advise
from prunus.types import Target
from tiny import build_tiny_data

TARGET = {"metric": "macs", "value": 0.5}


def document(*comparisons):
    cells = [
        {
            "method": method,
            "target": TARGET,
            "arm": "fine_tuned",
            "seed": 0,
            "test": 0.8,
            "val": val,
        }
        for method, val in (("l1_filter", 0.7), ("fpgm", 0.8))
    ]
    found = [
        {"family": "control", "method": "fpgm", "other": other, "mean": mean, "p_holm": p}
        for other, mean, p in comparisons
    ]
    return {"cells": cells, "metric": "accuracy", "seeds": 2, "comparisons": found}


@pytest.mark.parametrize(
    ("comparisons", "said"),
    [
        ([("scratch-E", 0.1, 0.01), ("random units", 0.1, 0.01)],
         "At 0.5 of the MACs, take fpgm, the best on the validation split of l1_filter, fpgm."),
        ([("scratch-E", 0.1, 0.2)],
         "cannot be told apart from scratch-E, so a longer study may decide otherwise."),
        ([("scratch-E", -0.1, 0.01), ("random units", -0.1, 0.01)],
         "do not fine-tune: scratch-E is better than fpgm"),
        ([("scratch-E", 0.1, 0.01), ("random units", -0.1, 0.01)],
         "choose what goes at random: random units, fine-tuned too, are better than fpgm"),
    ],
)  # fmt: skip
def test_what_follows(comparisons, said):
    assert said in advice(document(*comparisons))


def test_no_method_came_to_its_end():
    assert "there is no advice" in advice(document() | {"cells": []})


def test_the_time_decides_the_length_and_too_little_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "dataset", build_tiny_data)
    network, data = {"name": "lenet300"}, {"name": "mnist", "batch_size": 50}
    with pytest.raises(ValueError, match=r"minutes must be at least .* got 1e-05; allow more"):
        advise(network, data, Target(macs=0.5), 1e-5, tmp_path, workers=1)
    with pytest.raises(RecipeError, match="'lenet301' is unknown"):
        advise({"name": "lenet301"}, data, Target(macs=0.5), 1, tmp_path)


def test_a_step_is_timed_with_the_threads_of_a_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "dataset", build_tiny_data)
    monkeypatch.setattr("prunus.study.workers.cores", lambda: 6)
    seen, before = [], torch.get_num_threads()

    def fit(*given):
        seen.append(torch.get_num_threads())

    monkeypatch.setattr("prunus.study.advise.fit", fit)
    with pytest.raises(ValueError, match="on 2 workers"):
        network, data = {"name": "lenet300"}, {"name": "mnist", "batch_size": 50}
        advise(network, data, Target(macs=0.5), 1e-9, tmp_path, workers=2)
    assert set(seen) == {3}
    assert torch.get_num_threads() == before


def test_the_shell_changes_model_and_data_alone(tmp_path, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(
        "prunus.study.advise.advise", lambda **tables: given.append(tables) or 1 / 0
    )
    asked = ["advise", "nets:small", "folder:photos", "--dir", str(tmp_path), "--set"]
    main([*asked, "data.image_size=12", "--set", "model.options.classes=4"])
    assert given[0]["data"] == {"name": "folder:photos", "batch_size": 128, "image_size": 12}
    assert given[0]["model"]["options"] == {"classes": 4}
    assert main([*asked, "train.lr=0.1"]) == 2
    assert "--set changes keys of model and data, got 'train'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_short_study(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "dataset", build_tiny_data)
    network, data = {"name": "lenet300"}, {"name": "mnist", "batch_size": 50}
    done = advise(network, data, Target(sparsity=0.5), 1, tmp_path, workers=1)
    assert {row["method"] for row in done.document["rows"]} == {
        "", "magnitude", "wanda", "sparsegpt",
    }  # fmt: skip
    assert "At a sparsity of 0.5" in done.document["advice"]
    again = advise(network, data, Target(sparsity=0.5), 1, tmp_path, workers=1)
    assert again.document["rows"] == done.document["rows"]


def test_there_is_a_worker(tmp_path):
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        advise({"name": "lenet5"}, {"name": "mnist"}, Target(macs=0.5), 3, tmp_path, workers=0)
