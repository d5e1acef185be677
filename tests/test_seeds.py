"""Whatever is seeded for a while leaves the random states of all other devices alone."""

import pytest
import torch
from PIL import Image
from torch import nn

from prunus.federated.recipe import parse as parse_federated
from prunus.federated.task import network_of
from prunus.recipe import parse
from prunus.recovery import reinitialise
from prunus.run.workshop import Workshop
from prunus.seeds import seeded
from prunus.training import ArrayData, FolderData, TrainSettings, fit

RECIPE = {
    "name": "small",
    "model": {"name": "lenet300"},
    "train": {"length": "2it", "lr": 0.1},
    "method": {"name": "prunefl", "begin": "2it", "end": "4it", "every": "2it"},
}
CLIENTS = {"data": "fashion-mnist-embedded", "count": 3, "batch_size": 16}


def draw(layer, folder):
    reinitialise(layer, seed=1)


def train(layer, folder):
    samples = torch.zeros(6, 3), torch.arange(6) % 2
    data = ArrayData("some", samples, samples, 2, (0,), (1,), batch_size=3)
    fit(layer, data, TrainSettings(length="1ep", lr=0.1))


def read_images(layer, folder):
    for name in ("train/cat", "test/cat"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(folder / name / "0.png")
    list(FolderData(folder, image_size=8, batch_size=1, val_size=0, workers=0).train_batches(0))


def draw_for_a_run(layer, folder):
    filters = {"method": {"name": "l1_filter"}, "target": {"macs": 0.5}}
    data = {"name": "fashion-mnist-embedded", "batch_size": 16}
    Workshop(parse(RECIPE | filters | {"data": data})).network()


def draw_for_a_federation(layer, folder):
    network_of(parse_federated(RECIPE | {"clients": CLIENTS, "rounds": {"total": 6}}))


SEEDING = [draw, train, read_images, draw_for_a_run, draw_for_a_federation]


@pytest.mark.parametrize("act", SEEDING, ids=lambda act: act.__name__)
def test_other_gpus_are_not_seeded(act, tmp_path, monkeypatch):
    layer, seeds = nn.Linear(3, 2), []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    before = torch.get_rng_state()
    act(layer, tmp_path)
    assert seeds == []
    assert torch.equal(torch.get_rng_state(), before)


def test_it_draws_what_torch_draws_from_the_seed():
    torch.manual_seed(5)
    expected = torch.randn(3)
    with seeded(5, [torch.device("cpu")]):
        assert torch.equal(torch.randn(3), expected)


@pytest.mark.gpu
def test_a_gpu_is_seeded_and_put_back():
    gpu = torch.device("cuda", torch.cuda.current_device())
    before = torch.cuda.get_rng_state(gpu)
    with seeded(5, [gpu, torch.device("cpu")]):
        drawn = torch.randn(3, device=gpu)
    assert torch.equal(torch.cuda.get_rng_state(gpu), before)
    with seeded(5, [gpu]):
        assert torch.equal(torch.randn(3, device=gpu), drawn)
