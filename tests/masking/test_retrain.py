"""Retraining: dropout rates worked by hand, and layers that are held fixed."""

from math import sqrt

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.masking import Retrain, Site
from prunus.methods import han
from prunus.space import Unstructured, trace

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Dropout(0.1), nn.Linear(6, 10), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(10, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)),
    )


def masking(model, example=X, **settings):
    space = trace(model, example)
    groups = Unstructured().groups(space)
    return Retrain(**settings).on(Site(model, space, groups, example=example))


def mask(model, **kept):
    found = {}
    for name, count in kept.items():
        weight = model.get_parameter(f"{name[1:]}.weight")
        found[f"{name[1:]}.weight"] = (torch.arange(weight.numel()) < count).view(weight.shape)
    return found


def rates(model):
    return [module.p for module in model.modules() if isinstance(module, nn.Dropout)]


def test_dropout_falls_with_the_root_of_the_connections_left():
    model = network()
    held = masking(model)
    held.set(mask(model, _1=15, _4=40))
    # a quarter of 60 and half of 80 are left; the input's dropout belongs to no layer
    assert rates(model) == [0.1, 0.25, pytest.approx(0.4 * sqrt(0.5))]
    held.set(mask(model, _1=60, _4=20))
    assert rates(model) == [0.1, 0.5, pytest.approx(0.2)]


def test_one_module_used_twice_counts_the_connections_of_both_layers():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.first, self.second = nn.Linear(6, 10), nn.Linear(10, 10)

        def forward(self, x):
            return self.drop(self.second(self.drop(self.first(x))))

    model = Shared()
    held = masking(model)
    held.set({"second.weight": torch.zeros(10, 10).bool()})
    assert model.drop.p == pytest.approx(0.5 * sqrt(60 / 160))


def test_layers_that_are_not_pruned_are_whole():
    model = network()
    space = trace(model, X)
    groups = Unstructured(skip=("4.*",)).groups(space)
    held = Retrain().on(Site(model, space, groups, example=X))
    held.set(mask(model, _1=15))
    assert rates(model) == [0.1, 0.25, 0.4]


def test_the_original_rates_are_in_the_state():
    model = network()
    held = masking(model)
    held.set(mask(model, _1=15))
    other = network()
    other[3].p = 0.25  # as it was saved
    again = masking(other)
    again.load(mask(model, _1=15))
    again.load_state(held.state())
    assert rates(other) == [0.1, 0.25, 0.4]
    again.set(mask(model, _1=60))
    assert rates(other) == [0.1, 0.5, 0.4]


def test_recurrent_layers_stay_fixed_with_their_biases():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    model, x = Tagger(), torch.randn(2, 5, 3)
    held = masking(model, x, local=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    held.set({"out.weight": torch.eye(2, 4).bool()}, optimizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(x).square().sum().backward()
    optimizer.step()
    held.apply()
    moved = [n for n, v in model.state_dict().items() if not torch.equal(v, before[n])]
    assert moved == ["out.weight", "out.bias"]


def test_layers_whose_mask_did_not_change_stay_fixed_until_the_next_update():
    model = network()
    held = masking(model, local=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    held.set(mask(model, _1=15), optimizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def train():
        model(X).square().sum().backward()
        optimizer.step()
        held.apply()

    train()
    moved = [n for n, v in model.state_dict().items() if not torch.equal(v, before[n])]
    assert moved == ["1.weight", "1.bias"]
    assert optimizer.state[model[4].weight]["momentum_buffer"].any()

    held.set(mask(model, _1=15, _4=40), optimizer)
    assert not optimizer.state[model[4].weight]["momentum_buffer"].any()
    assert optimizer.state[model[1].weight]["momentum_buffer"].any()
    held.settle()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train()
    assert all(not torch.equal(v, before[n]) for n, v in model.state_dict().items())


def train(model, pruner, optimizer, steps, x=X):
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        pruner.step(optimizer)


def test_turns_of_han_go_on_from_a_saved_state():
    x = torch.randn(4, 1, 6, generator=torch.Generator().manual_seed(0))

    def begin():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = nn.Sequential(
                *(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(16, 3))
            )
        method = han(cycles=1, begin="2it", end="10it", every="4it")
        pruner = Pruner(model, x, method, target=Target(sparsity=0.5))
        return model, pruner, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    ended = []
    for stop in (False, True):
        torch.manual_seed(2)
        model, pruner, optimizer = begin()
        train(model, pruner, optimizer, 7, x)
        if stop:
            saved = model.state_dict(), pruner.state(), optimizer.state_dict()
            model, pruner, optimizer = begin()
            model.load_state_dict(saved[0])
            pruner.load_state(saved[1])
            optimizer.load_state_dict(saved[2])
        first = model[0].weight.clone()
        train(model, pruner, optimizer, 2, x)
        assert torch.equal(model[0].weight, first)  # it waits for its turn
        train(model, pruner, optimizer, 3, x)
        assert not torch.equal(model[0].weight, first)
        ended.append([*model.state_dict().values(), *pruner.mask.values()])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))


def test_the_result_has_the_adjusted_rates():
    model = network()
    pruner = Pruner(model, X, han(end="4it", every="2it"), target=Target(sparsity=0.5))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, pruner, optimizer, 4)
    result = pruner.finish()
    kept = result.mask["1.weight"].float().mean()
    assert result.model[3].p == pytest.approx(0.5 * sqrt(kept)) and result.model[3].p < 0.5
