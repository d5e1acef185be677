"""A network and images of one's own, as docs/how-to/federate.md says."""

import shutil

import pytest
import torch
from PIL import Image

from prunus.errors import DataError
from prunus.federated import federate, parse
from prunus.federated.exchange import InProcess
from prunus.federated.samples import sample_count
from prunus.federated.task import data_of, dataset_of

NETWORK = """
from torch import nn

def small(width):
    features = nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(4 * width, 2))
"""


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Give the tables of a recipe for a module and a folder in a directory of their own."""
    monkeypatch.undo()  # the data are the folder's
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "federated_own.py").write_text(NETWORK)
    for split, count in {"train": 12, "test": 3}.items():
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (12, 10), (label * 200, number * 10, 0))
                image.save(tmp_path / "images" / split / name / f"{number}.png")
    return {
        "name": "own",
        "model": {
            "factory": "federated_own:small",
            "options": {"width": 4},
            "input": [3, 8, 8],
        },
        "clients": {
            "data": f"folder:{tmp_path / 'images'}",
            "image_size": 8,
            "count": 3,
            "batch_size": 3,
            "per_round": 2,
            "held_out": 0.25,
        },
        "train": {"length": "2it", "lr": 0.1, "momentum": 0.0},
        "rounds": {"total": 3},
        "method": {"name": "prunefl", "begin": "1it", "end": "3it", "every": "1it"},
    }


def test_a_network_and_a_folder_of_ones_own_make_a_federation(tables, tmp_path):
    found = federate(parse(tables), tmp_path / "runs").document
    assert 0 < found["density"] < 1 and found["fairness"]["clients"] == 3
    assert all(record["averaged"] == 2 for record in found["rounds"][1:])


@pytest.mark.parametrize("by", ["iid", "dirichlet"])
def test_images_of_a_folder_are_dealt_out_once_and_some_are_held_out(tables, by):
    tables["clients"] |= {"by": by, "held_out": 0.0}
    found = data_of(parse(tables))
    counts = sum(torch.bincount(one.train_labels, minlength=2) for one in found.values())
    assert counts.tolist() == [12, 12]
    tables["clients"]["held_out"] = 0.25
    for name, own in data_of(parse(tables)).items():
        held = sum(len(labels) for _, labels in own.eval_batches("val"))
        assert held == len(found[name].train_labels) // 4
        assert held + len(own.train_labels) == len(found[name].train_labels)
        assert sample_count(own) == len(own.train_labels)


@pytest.mark.parametrize("lacking", ["empty", "gone"])
def test_a_client_may_lack_images_of_a_class_but_not_the_class(tables, tmp_path, lacking):
    told = parse(tables)
    shutil.copytree(tmp_path / "images", tmp_path / "own")
    for split in ("train", "test"):
        shutil.rmtree(tmp_path / "own" / split / "cat")
        if lacking == "empty":
            (tmp_path / "own" / split / "cat").mkdir()

    def exchange(task):
        own = dataset_of(told, f"folder:{tmp_path / 'own'}", 3)
        return InProcess(task, data_of(told) | {"node": own})

    if lacking == "gone":
        with pytest.warns(
            UserWarning, match="images of 'node' have other classes.*lacking are cat"
        ):
            found = federate(told, tmp_path / "runs", exchange=exchange).document
        assert found["left out"].keys() == {"node"} and found["rounds"][-1]["met"] == 3
    else:
        assert dataset_of(told, f"folder:{tmp_path / 'own'}", 3).train_labels.tolist() == [1] * 12
        found = federate(told, tmp_path / "runs", exchange=exchange).document
        assert not found["left out"] and found["rounds"][-1]["met"] == 4


def test_a_folder_that_is_not_there_is_named(tables, tmp_path):
    tables["clients"]["data"] = f"folder:{tmp_path / 'nowhere'}"
    with pytest.raises(DataError, match="nowhere"):
        federate(parse(tables), tmp_path / "runs")
