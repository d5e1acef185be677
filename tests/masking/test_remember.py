"""Weights that return with the value they had."""

import torch
from torch import nn

from prunus import Pruner, Target
from prunus.masking import Remember
from prunus.methods import drop


def test_what_returns_has_the_value_it_went_with_and_fresh_momentum():
    model = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0, 5.0]]))
    held = Remember(model)
    held.set({"weight": torch.tensor([[True, False, False]])}, optimizer)
    assert model.weight.tolist() == [[3.0, 0.0, 0.0]]
    with torch.no_grad():
        model.weight.add_(1.0)
    held.apply()
    held.set({"weight": torch.tensor([[False, True, False]])}, optimizer)
    assert model.weight.tolist() == [[0.0, 4.0, 0.0]]
    assert optimizer.state[model.weight]["momentum_buffer"].tolist() == [[0.0, 0.0, 0.0]]
    held.set({}, optimizer)
    assert model.weight.tolist() == [[4.0, 4.0, 5.0]]


def test_the_values_are_in_the_state():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
    mask = {"weight": torch.tensor([[True, False]])}
    held = Remember(model)
    held.set(mask)
    other = nn.Linear(2, 1, bias=False)
    other.load_state_dict(model.state_dict())
    again = Remember(other)
    again.load(mask)
    again.load_state({name: value.clone() for name, value in held.state().items()})
    again.set({})
    assert other.weight.tolist() == [[3.0, 4.0]]


def test_a_run_goes_on_from_a_saved_state():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))

    def begin():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 6))
        method = drop(value="last", end="8it", every="1it")
        pruner = Pruner(model, x, method, target=Target(sparsity=0.5))
        return model, pruner, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def train(model, pruner, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x) - x).square().mean().backward()
            optimizer.step()
            pruner.step(optimizer)

    whole = begin()
    train(*whole, 10)
    model, pruner, optimizer = begin()
    train(model, pruner, optimizer, 4)
    saved = model.state_dict(), pruner.state(), optimizer.state_dict()
    model, pruner, optimizer = begin()
    model.load_state_dict(saved[0])
    pruner.load_state(saved[1])
    optimizer.load_state_dict(saved[2])
    train(model, pruner, optimizer, 6)
    pairs = zip(model.state_dict().values(), whole[0].state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
