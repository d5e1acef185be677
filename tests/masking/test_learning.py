"""What is learned beside the weights under gradients that are scaled, or not finite."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.methods import METHODS

SETTINGS = {
    "gate": {"begin": "9it"},
    "l0": {"begin": "9it"},
    "sss": {"begin": "9it", "unit": "channel"},
    "movement": {"end": "9it"},
}


def learned(name, scale, *, steps=3, broken=()):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )
    target = Target(sparsity=0.5) if name == "movement" else Target(macs=0.5)
    x = torch.randn(8, 3, 8, 8)
    pruner = Pruner(model, x, METHODS[name](**SETTINGS[name]), target=target)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(x * (float("inf") if step in broken else 1)).square().mean()
        scaler.scale(loss + pruner.penalty()).backward()
        scaler.step(optimizer)
        pruner.step(optimizer, scale=scaler.get_scale())
        scaler.update()
    assert all(p.isfinite().all() for p in model.parameters())
    return pruner._masking.values.detach()


@pytest.mark.parametrize("name", SETTINGS)
def test_it_learns_the_same_whatever_the_scale_of_the_loss(name):
    torch.testing.assert_close(learned(name, 65536.0), learned(name, 1.0))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_that_overflows_is_left_out(name):
    found = learned(name, 65536.0, steps=3, broken=[2])
    assert torch.equal(found, learned(name, 65536.0, steps=2)) and len(found.unique()) > 1
