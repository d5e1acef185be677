"""Shadows: masked weights take no part, keep their values, and may return."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.masking import Shadow, Site
from prunus.methods import gradual

X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1),
}


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def step(model, optimizer):
    optimizer.zero_grad()
    model(X).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_masked_weights_are_frozen_and_the_others_learn_as_if_they_were_zero(name):
    model, zeroed = build(), build()
    mask = {"0.weight": torch.rand(6, 4, generator=torch.Generator().manual_seed(0)) > 0.5}
    dropped = ~mask["0.weight"]
    before = model[0].weight.detach().clone()
    optimizer, other = (OPTIMIZERS[name](m.parameters()) for m in (model, zeroed))
    shadow = Shadow(Site(model))
    shadow.set(mask, optimizer)
    for _ in range(4):
        with torch.no_grad():
            zeroed[0].weight[dropped] = 0
        torch.testing.assert_close(model(X), zeroed(X))
        step(model, optimizer)
        shadow.apply()
        step(zeroed, other)
    assert torch.equal(model[0].weight[dropped], before[dropped])
    torch.testing.assert_close(model[0].weight[~dropped], zeroed[0].weight[~dropped])
    assert (model[0].weight != before)[~dropped].all()

    shadow.settle()
    assert not model._forward_hooks and not model[0].weight[dropped].any()
    step(model, optimizer)
    shadow.apply()
    assert not model[0].weight[dropped].any()


def test_a_weight_returns_with_its_value_and_without_momentum():
    model = build()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    step(model, optimizer)
    shadow = Shadow(Site(model))
    kept = torch.ones(6, 4, dtype=torch.bool)
    kept[0, 0] = False
    value = model[0].weight[0, 0].item()
    shadow.set({"0.weight": kept}, optimizer)
    for _ in range(3):
        step(model, optimizer)
        shadow.apply()
    shadow.set({}, optimizer)
    assert model[0].weight[0, 0].item() == value
    momentum = optimizer.state[model[0].weight]["momentum_buffer"]
    assert momentum[0, 0] == 0 and momentum.count_nonzero() > 4
    step(model, optimizer)
    shadow.apply()
    assert model[0].weight[0, 0].item() != value


def pruner_of(model, end="8it"):
    method = gradual(end=end, every="2it", shadow=True)
    return Pruner(model, X, method, target=Target(sparsity=0.5))


def test_weights_come_back_when_others_have_shrunk_below_them():
    model = build()
    pruner = pruner_of(model, end="4it")
    pruner.step()
    pruner.step()  # half way: 44 % of the weights are masked
    away = ~pruner.keep["0.weight"].view(6, 4)
    assert away.sum() == 10
    assert (model[0].weight[away] != 0).all()
    with torch.no_grad():
        model[0].weight[~away] *= 1e-3
    pruner.step()
    pruner.step()
    now = ~pruner.keep["0.weight"].view(6, 4)
    assert now.sum() == 12 and not (now & away).any()
    assert torch.equal(model[0].weight == 0, now)


@pytest.mark.parametrize("stop", [3, 9])
def test_going_on_from_a_saved_state_ends_identical(stop):
    def run(model, optimizer, pruner, first, last):
        for _ in range(first, last):
            step(model, optimizer)
            pruner.step(optimizer)

    whole = build()
    run(whole, OPTIMIZERS["sgd"](whole.parameters()), pruner_of(whole), 0, 11)

    model = build()
    optimizer, pruner = OPTIMIZERS["sgd"](model.parameters()), pruner_of(model)
    run(model, optimizer, pruner, 0, stop)
    again = build()
    more, goes_on = OPTIMIZERS["sgd"](again.parameters()), pruner_of(again)
    again.load_state_dict(model.state_dict())
    more.load_state_dict(optimizer.state_dict())
    goes_on.load_state(pruner.state())
    run(again, more, goes_on, stop, 11)
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
    result = goes_on.finish()
    assert result.report.reached == 0.5 and result.report.verification.passed
