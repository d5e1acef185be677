"""Layers pruned alone: what is measured, that nothing of it stays, and thresholds read from it."""

import pytest
import torch
from torch import nn

from prunus import Pruner
from prunus.methods import han, l1_filter
from prunus.pruning import Sensitivity, sensitivity
from prunus.pruning.scan import LayerScan

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def zeros(model):
    return -sum(int((model[k].weight == 0).sum()) for k in (0, 3)) / 100


def test_each_layer_is_pruned_alone_and_put_back_to_the_bit():
    model = network().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []

    def measure(net):
        seen.append([int((net[k].weight == 0).sum()) for k in (0, 3)])
        return zeros(net)

    found = sensitivity(model, X, measure, sparsities=(0.5, 0.25))
    assert found.sparsities == (0.25, 0.5) and found.dense == 0
    assert seen == [[10, 0], [20, 0], [0, 8], [0, 16], [0, 0]]
    assert [layer.values for layer in found.layers] == [(-0.1, -0.2), (-0.08, -0.16)]
    assert [(layer.name, layer.units) for layer in found.layers] == [
        ("0.weight", 40),
        ("3.weight", 32),
    ]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_smallest_go_first():
    model, weights = network(), []
    sensitivity(
        model, X, lambda net: weights.append(net[0].weight.clone()) or 0.0, sparsities=(0.5,)
    )
    gone = weights[0] == 0
    assert model[0].weight.abs()[gone].max() <= model[0].weight.abs()[~gone].min()


def test_what_fails_in_between_leaves_the_network_whole():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fail(net):
        if (net[3].weight == 0).any():
            raise RuntimeError("no memory")
        return 1.0

    with pytest.raises(RuntimeError, match="no memory"):
        sensitivity(model, X, fail)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_channels_are_scanned_with_all_that_goes_with_them():
    model, seen = network().eval(), []
    found = sensitivity(
        model,
        X,
        lambda net: seen.append(net.state_dict()["1.running_var"].clone()) or 0.0,
        method=l1_filter(coupled=True),
        sparsities=(0.25,),
    )
    assert [(layer.name, layer.units) for layer in found.layers] == [("0", 8)]
    assert int((seen[0] == 0).sum()) == 2 and (model[1].running_var == 1).all()
    with pytest.raises(ValueError, match="thresholds are for single weights"):
        found.q(0.1)


def test_the_largest_sparsity_is_that_up_to_which_the_drop_stays_in_the_tolerance():
    found = Sensitivity(
        0.9,
        (0.2, 0.5, 0.8),
        (
            LayerScan("a", 10, (0.9, 0.895, 0.4), (0.3, 0.7, 1.4)),
            LayerScan("b", 10, (0.7, 0.91, 0.9), (0.2, 0.6, 1.2)),
            LayerScan("c", 10, (0.95, 0.89, 0.89), (0.1, 0.5, 1.1)),
        ),
    )
    assert found.largest(0.01 + 1e-9) == {"a": 0.5, "b": 0.0, "c": 0.8}
    assert found.q(0.01 + 1e-9) == {"a": 0.7, "b": 0.0, "c": 1.1}


def test_its_thresholds_prune_as_it_was_measured():
    model = network().eval()
    found = sensitivity(model, X, zeros, sparsities=(0.25, 0.5, 0.75))
    chosen = found.largest(0.18)
    assert chosen == {"0.weight": 0.25, "3.weight": 0.5}
    pruner = Pruner(model, X, han(q=found.q(0.18), sweep=False, end="9it"))
    for name, share in chosen.items():
        assert float((~pruner.mask[name]).float().mean()) == share


@pytest.mark.parametrize("sparsities", [(), (0.5, 1.0), (0.0,), (50,)])
def test_sparsities_out_of_range_are_refused(sparsities):
    with pytest.raises(ValueError, match=r"sparsities must be in \(0, 1\)"):
        sensitivity(network(), X, zeros, sparsities=sparsities)


@pytest.mark.parametrize("method", ["try_and_learn", "gate"])
def test_a_method_without_a_criterion_is_refused_and_those_with_one_are_named(method):
    with pytest.raises(
        ValueError, match=r"no criterion to rank units by .* one of l1_filter, "
    ) as e:
        sensitivity(network(), X, zeros, method=method)
    assert method not in str(e.value).partition("take one of")[2]
