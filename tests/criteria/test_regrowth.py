"""Exchanges of weights: counts, who goes, who returns."""

import math

import pytest
import torch
from torch import nn

from prunus import Pruner, Target, methods
from prunus.criteria import DropGrow, Evidence
from prunus.errors import TargetError
from prunus.methods import rigl
from prunus.selectors import ErdosRenyi
from prunus.selectors.erdos_renyi import densities
from prunus.space import Structured, Unstructured, trace

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))


def test_the_largest_gradients_return_for_the_smallest_weights():
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    weight = torch.tensor([[4.0, -1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    gradient = torch.tensor([[9.0, 9.0, 9.0, 9.0], [0.1, -0.8, 0.5, 0.2]])
    present = torch.tensor([True] * 4 + [False] * 4)
    groups = Unstructured().groups(trace(model, torch.ones(1, 4)))
    given = Evidence(
        {"0.weight": weight},
        torch.Generator(),
        model,
        keep={"0.weight": present},
        gradients_now={"0.weight": gradient},
    )

    scores = DropGrow(fraction=0.5).score(groups, given)
    keep = ErdosRenyi().select(None, groups, scores, Target(density=0.5)).keep["0.weight"]

    # half of four go: -1 and 2; as many return: gradients -0.8 and 0.5
    assert keep.tolist() == [True, False, True, False, False, True, True, False]


def test_of_equal_weights_and_gradients_the_first_are_exchanged():
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    present = torch.tensor([True] * 4 + [False] * 4)
    groups = Unstructured().groups(trace(model, torch.ones(1, 4)))
    ones = {"0.weight": torch.ones(2, 4)}
    given = Evidence(ones, torch.Generator(), model, keep={"0.weight": present}, gradients_now=ones)
    scores = DropGrow(fraction=0.5).score(groups, given)["0.weight"]
    assert scores.tolist() == [0.5, 0.5, 2.5, 2.5, 1.0, 1.0, 0.5, 0.5]


def test_without_gradients_nothing_is_exchanged_by_them():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pruner = Pruner(model, X, rigl(end="20it", every="2it"))
    with pytest.raises(ValueError, match=r"has no gradient.*before optimizer\.zero_grad"):
        for _ in range(2):
            nn.functional.mse_loss(model(X), X[:, :3]).backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step(optimizer)


@pytest.mark.parametrize("make", [methods.set, rigl])
def test_the_number_of_weights_stays_while_they_change(make):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    method = make(end="20it", every="5it", fraction=0.4)
    pruner = Pruner(model, X, method, target=Target(density=0.3))
    masks = []
    for step in range(22):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X), X[:, :3]).backward()
        optimizer.step()
        before = {name: keep.clone() for name, keep in pruner.keep.items()}
        pruner.step(optimizer)
        masks.append(pruner.keep)
        if (step + 1) % 5 == 0 and step < 19:
            for name, keep in pruner.keep.items():
                share = 0.2 * (1 + math.cos(math.pi * (step + 1) / 20))
                assert int((before[name] & ~keep).sum()) == int(share * int(keep.sum()))
                grown = keep & ~before[name]
                weight = dict(model.named_parameters())[name].detach().ravel()
                assert not weight[grown].any()
                state = optimizer.state[dict(model.named_parameters())[name]]["momentum_buffer"]
                assert not state.ravel()[grown].any()
    for name in masks[0]:
        assert {int(mask[name].sum()) for mask in masks} == {int(masks[0][name].sum())}
        assert any(not torch.equal(masks[0][name], mask[name]) for mask in masks)
    total = sum(int(keep.sum()) for keep in pruner.keep.values())
    assert total == pytest.approx(0.3 * (60 + 30), abs=1)


def test_small_layers_are_denser_and_the_whole_is_what_was_asked():
    groups = Unstructured().groups(trace(network(), X))
    shares = densities(groups, 0.3)
    assert shares[0] / shares[1] == pytest.approx((16 / 60) / (13 / 30))
    assert shares[0] * 60 + shares[1] * 30 == pytest.approx(27)

    full = densities(groups, 0.95)
    assert full[1] == 1.0
    assert full[0] * 60 + 30 == pytest.approx(0.95 * 90)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DropGrow(grow="loss"), "grow must be 'random' or 'gradient', got 'loss'"),
        (lambda: DropGrow(fraction=1.0), r"fraction must be in \(0, 1\), got 1"),
        (lambda: rigl(fraction=0), r"fraction must be in \(0, 1\), got 0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_density_is_needed_and_weights():
    groups = Unstructured().groups(trace(network(), X))
    with pytest.raises(TargetError, match="ask for one"):
        ErdosRenyi().select(None, groups, {}, Target(macs=0.5))
    channels = Structured().groups(trace(network(), X))
    with pytest.raises(ValueError, match="these densities are of weights"):
        ErdosRenyi().select(None, channels, {}, Target(density=0.5))
