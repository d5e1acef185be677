"""Masks that let weights grow again."""

import torch
from torch import nn

from prunus.masking import Soft


def test_weights_are_zeroed_once_and_held_when_settled():
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.fill_(3.0)
    soft = Soft(model)
    soft.set({"weight": torch.tensor([[True, False], [True, True]])})
    assert model.weight.tolist() == [[3.0, 0.0], [3.0, 3.0]]

    with torch.no_grad():
        model.weight.add_(1.0)
    soft.apply()
    assert model.weight.tolist() == [[4.0, 1.0], [4.0, 4.0]]

    soft.settle()
    assert model.weight.tolist() == [[4.0, 0.0], [4.0, 4.0]]
    with torch.no_grad():
        model.weight.add_(1.0)
    soft.apply()
    assert model.weight.tolist() == [[5.0, 0.0], [5.0, 5.0]]


def test_what_has_grown_since_is_taken_up_as_it_is():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(3.0)
    Soft(model).load({"weight": torch.tensor([[True, False]])})
    assert model.weight.tolist() == [[3.0, 3.0]]


def test_the_optimizer_keeps_its_momentum():
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    Soft(model).set({"weight": torch.tensor([[True, False]])}, optimizer)
    assert optimizer.state[model.weight]["momentum_buffer"].tolist() == [[1.0, 1.0]]
