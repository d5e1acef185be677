"""On real images: what a method keeps must be worth more than what a lottery keeps.

Single weights only. With whole filters of so small a network, random ones do as well after a short
fine-tuning, which is what Liu et al. (ICLR 2019) found at scale.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunus import Calibration, Target, prune, zoo
from prunus.criteria import Random
from prunus.masking import Hard
from prunus.methods import METHODS

pytestmark = pytest.mark.slow

ARGUMENTS = {"synflow": {"rounds": 10}}
SPARSITY = {"wanda": 0.7}


@pytest.fixture(scope="module")
def data():
    return zoo.dataset("fashion-mnist-embedded", batch_size=64)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )


def train(model, data, steps, rate, mask=None):
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    masking = Hard(model)
    masking.set(mask or {})
    model.train()
    batches = [batch for epoch in range(4) for batch in data.train_batches(epoch)]
    for x, y in batches[:steps]:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        masking.apply()
    return model


@torch.no_grad()
def accuracy(model, data):
    model.eval()
    batches = list(data.eval_batches("test"))
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return right / sum(len(y) for _, y in batches)


@pytest.fixture(scope="module")
def dense(data):
    return [train(network(seed), data, 300, 0.05) for seed in range(3)]


@pytest.mark.parametrize("name", ["magnitude", "obd", "snip", "synflow", "wanda"])
def test_it_keeps_more_than_chance_does(name, data, dense):
    calibration = Calibration([next(data.train_batches(epoch)) for epoch in range(4)])
    method = METHODS[name](**ARGUMENTS.get(name, {}))
    target = Target(sparsity=SPARSITY.get(name, 0.85))
    gains = []
    for seed, model in enumerate(dense):
        found = []
        for tried in (method, replace(method, criterion=Random())):
            example = torch.zeros(1, 1, 28, 28)
            result = prune(
                model, example, method=tried, target=target, calibration=calibration, seed=seed
            )
            found.append(accuracy(train(result.model, data, 60, 0.02, result.mask), data))
        gains.append(found[0] - found[1])
    assert min(gains) > 0.05
