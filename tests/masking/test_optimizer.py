"""The optimizer goes on with the small network: groups kept, state sliced."""

import pytest
import torch
from torch import nn

from prunus import Target, prune

OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, 0.1, momentum=0.9),
    "adam": lambda groups: torch.optim.Adam(groups, 0.01),
}


def trained(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    foreign = nn.Parameter(torch.ones(3))
    groups = [
        {"params": [model[0].weight, model[2].weight, foreign], "weight_decay": 0.1},
        {"params": [model[0].bias, model[2].bias], "weight_decay": 0.0, "lr": 0.03},
    ]
    optimizer = OPTIMIZERS[name](groups)
    for _ in range(3):
        step(model, optimizer, foreign)
    return model, optimizer, foreign


def step(model, optimizer, foreign):
    optimizer.zero_grad()
    (model(torch.randn(8, 4)).square().mean() + foreign.sum()).backward()
    optimizer.step()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_groups_are_kept_and_state_is_sliced_to_what_stayed(name):
    model, optimizer, foreign = trained(name)
    old = {n: dict(optimizer.state[p]) for n, p in model.named_parameters()}
    outside = dict(optimizer.state[foreign])

    result = prune(model, torch.randn(1, 4), target=Target(macs=0.5), optimizer=optimizer)

    small, rows = result.model, result.mask["0.bias"]
    assert 0 < rows.sum() < 16
    weights, biases = optimizer.param_groups
    assert [id(p) for p in weights["params"]] == [
        *(id(small[0].weight), id(small[2].weight), id(foreign))
    ]
    assert [id(p) for p in biases["params"]] == [id(small[0].bias), id(small[2].bias)]
    assert (weights["weight_decay"], biases["weight_decay"], biases["lr"]) == (0.1, 0.0, 0.03)
    for key, value in optimizer.state[small[0].weight].items():
        was = old["0.weight"][key]
        assert torch.equal(value, was[rows] if was.ndim else was)
    for key, value in optimizer.state[small[2].weight].items():
        was = old["2.weight"][key]
        assert torch.equal(value, was[:, rows] if was.ndim else was)
    assert all(torch.equal(optimizer.state[foreign][k], v) for k, v in outside.items())
    assert len(optimizer.state) == 5


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_training_goes_on_and_moves_only_the_small_network(name):
    model, optimizer, foreign = trained(name)
    small = prune(model, torch.randn(1, 4), target=Target(macs=0.5), optimizer=optimizer).model
    dense = [p.detach().clone() for p in model.parameters()]
    before = [p.detach().clone() for p in small.parameters()]
    step(small, optimizer, foreign)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), dense, strict=True))
    assert all((p != was).any() for p, was in zip(small.parameters(), before, strict=True))
    optimizer.load_state_dict(optimizer.state_dict())
    step(small, optimizer, foreign)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_single_weights_lose_their_state_where_they_were_removed(name):
    model, optimizer, _ = trained(name)
    x = torch.randn(1, 4)
    result = prune(model, x, method="magnitude", target=Target(sparsity=0.5), optimizer=optimizer)
    kept = result.mask["0.weight"]
    state = optimizer.state[result.model[0].weight]
    values = [v for v in state.values() if v is not None and v.shape == kept.shape]
    assert values and not kept.all()
    assert all(bool((v[~kept] == 0).all()) and bool((v[kept] != 0).any()) for v in values)


def test_factored_moments_are_sliced_along_the_dimensions_they_have():
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adafactor(model.parameters())
    step(model, optimizer, torch.zeros(()))
    old = {n: dict(optimizer.state[p]) for n, p in model.named_parameters()}

    result = prune(model, torch.randn(1, 4), target=Target(macs=0.5), optimizer=optimizer)

    small, rows = result.model, result.mask["0.bias"]
    first, last = (optimizer.state[small[k].weight] for k in (0, 2))
    assert torch.equal(first["row_var"], old["0.weight"]["row_var"][rows])
    assert torch.equal(first["col_var"], old["0.weight"]["col_var"])
    assert torch.equal(last["row_var"], old["2.weight"]["row_var"])
    assert torch.equal(last["col_var"], old["2.weight"]["col_var"][:, rows])
    step(small, optimizer, torch.zeros(()))


def test_a_failure_leaves_the_optimizer_with_the_network_it_had(monkeypatch):
    model, optimizer, foreign = trained("adam")
    parameters = [id(p) for group in optimizer.param_groups for p in group["params"]]

    def fail(*_):
        raise RuntimeError("injected")

    monkeypatch.setattr("prunus.pruning.account.Report", fail)
    with pytest.raises((RuntimeError, TypeError)):
        prune(model, torch.randn(1, 4), target=Target(macs=0.5), optimizer=optimizer)
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == parameters
    step(model, optimizer, foreign)
