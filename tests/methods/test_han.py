"""Rounds of pruning and retraining."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.methods import han

X = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 3)
    )


def train(model, method, target=None, steps=12):
    pruner = Pruner(model, X, method, target=target)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    densities = []
    for _ in range(steps):
        optimizer.zero_grad()
        (model(X) - X[:, :3]).square().mean().backward()
        optimizer.step()
        pruner.step(optimizer)
        masks = [m for n, m in pruner.mask.items() if n.endswith("weight")]
        densities.append(sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks))
    return pruner.finish(), densities


def test_the_first_round_removes_what_is_below_q_deviations():
    model = network()
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.ndim == 2}
    pruner = Pruner(model, X, han(q={"2.*": 1.2, "*": 0.5}, sweep=False, end="9it"))
    for name, q in (("0.weight", 0.5), ("2.weight", 1.2), ("4.weight", 0.5)):
        weight = before[name]
        assert torch.equal(pruner.mask[name], weight.abs() >= q * weight.std(correction=0))


def test_an_unchanged_q_prunes_on_from_round_to_round():
    result, densities = train(network(), han(q=0.6, end="9it", every="3it"))
    assert sorted(densities, reverse=True) == densities
    assert len(set(densities)) >= 3
    assert result.report.asked is None and result.report.nonzero < 0.6 * (10 * 30 + 30 * 20 + 60)


def test_with_the_original_deviations_it_removes_what_retraining_has_made_small():
    model = network()
    deviations = {n: p.detach().std(correction=0) for n, p in model.named_parameters()}
    settings = {"q": 0.6, "std": "original", "sweep": False, "end": "9it", "every": "3it"}
    pruner = Pruner(model, X, han(**settings))
    first = pruner.mask
    for _ in range(2):
        pruner.step()
    with torch.no_grad():
        model[0].weight[0] = 0.5 * deviations["0.weight"]  # one neuron falls below the threshold
    again = Pruner(network(), X, han(**settings))
    again.model.load_state_dict(model.state_dict())
    again.load_state(pruner.state())  # a run goes on with the deviations that it began with
    for one in (pruner, again):
        one.step()
        assert first["0.weight"][0].any() and not one.mask["0.weight"][0].any()
        assert torch.equal(one.mask["0.weight"][1:], first["0.weight"][1:])
        assert all(torch.equal(one.mask[name], first[name]) for name in ("2.weight", "4.weight"))
    with pytest.raises(ValueError, match="of must be 'remaining' or 'original', got 'dense'"):
        han(std="dense")


def test_a_target_falls_geometrically_and_counts_the_dead():
    result, densities = train(
        network(), han(end="9it", every="3it"), target=Target(density=0.064), steps=10
    )
    assert densities[2] == pytest.approx(0.4, abs=0.002)
    assert densities[5] == pytest.approx(0.16, abs=0.002)
    assert densities[8] == densities[9] == pytest.approx(0.064, abs=0.001)
    first, second, last = (result.mask[f"{k}.weight"] for k in (0, 2, 4))
    assert torch.equal(first.any(1), second.any(0)) and torch.equal(second.any(1), last.any(0))


def test_a_decision_with_its_biases_leaves_the_outputs_as_they_were_without_the_sweep():
    outputs = []
    for sweep in (False, True):
        model = network()
        with torch.no_grad():
            model[0].weight[:9] *= 0.01  # nine neurons lose all inputs
        pruner = Pruner(model, X, han(q=0.5, end="9it", sweep=sweep))
        outputs.append(model(X).detach())
        assert bool(pruner.mask["2.weight"][:, :9].any()) != sweep
    assert torch.allclose(*outputs, rtol=1e-5, atol=1e-6)
