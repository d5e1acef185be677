"""Masks that let weights grow again."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from prunus import Pruner, Target
from prunus.masking import Site, Soft
from prunus.methods import soft_filter
from prunus.space import Unstructured, trace


def soft_on(model):
    groups = Unstructured().groups(trace(model, torch.ones(1, 2)))
    return Soft(Site(model, groups=groups))


def test_weights_are_zeroed_once_and_held_when_settled():
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.fill_(3.0)
    soft = soft_on(model)
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
    soft_on(model).load({"weight": torch.tensor([[True, False]])})
    assert model.weight.tolist() == [[3.0, 3.0]]


def test_the_optimizer_keeps_its_momentum():
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    soft_on(model).set({"weight": torch.tensor([[True, False]])}, optimizer)
    assert optimizer.state[model.weight]["momentum_buffer"].tolist() == [[1.0, 1.0]]


def trained():
    """A network whose batch norms have offsets, and what it is trained on."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)),
    )
    with torch.no_grad():
        for norm in (model[1], model[4]):
            norm.bias.normal_(0.1, 0.1)
    return model


def descend(model, optimizer, generator):
    x = torch.randn(16, 3, 8, 8, generator=generator)
    y = (x.mean((1, 2, 3)) > 0).long() + 2 * (x[:, 0].std((1, 2)) > 1).long()
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def test_filters_grow_again_without_momentum_and_return():
    model, generator = trained(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    method = soft_filter(end="200it", every="20it")
    pruner = Pruner(model, torch.zeros(2, 3, 8, 8), method, target=Target(sparsity=0.5))
    masks = []
    for step in range(200):
        descend(model, optimizer, generator)
        if step == 18:
            gone = ~pruner.mask["0.weight"].flatten(1).any(1)
            assert model[0].weight.detach()[gone].flatten(1).norm(dim=1).gt(0.01).any()
            assert model[1].weight.detach()[gone].all() and model[1].bias.detach()[gone].all()
        pruner.step(optimizer)
        masks.append(pruner.mask)
    returned = [
        bool((~before[name] & after[name]).any())
        for before, after in itertools.pairwise(masks)
        for name in ("0.weight", "3.weight")
    ]
    assert any(returned)
    dropped = {name: ~kept for name, kept in pruner.mask.items()}
    assert not any(p[dropped[name]].any() for name, p in model.named_parameters())
    assert pruner.finish(optimizer).report.verification.passed
