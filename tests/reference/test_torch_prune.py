"""The same masks as PyTorch's own pruning, where both can do the same."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as reference

from prunus import Target, prune
from prunus.methods import l1_filter, magnitude

X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LAYERS = ("0", "2", "5")


@pytest.fixture(params=range(3))
def model(request):
    torch.manual_seed(request.param)
    net = nn.Sequential(
        *(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 12, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(192, 5)),
    )
    for name in LAYERS:  # one scale, or PyTorch empties a layer, where ours keeps one weight
        nn.init.normal_(net.get_submodule(name).weight)
    return net


def ours(model, method, share):
    mask = prune(model, X, method=method, target=Target(sparsity=share)).mask
    return {name: mask[f"{name}.weight"] for name in LAYERS}


def theirs(model, apply):
    pruned = copy.deepcopy(model)
    apply({name: pruned.get_submodule(name) for name in LAYERS})
    return {name: dict(pruned.named_buffers())[f"{name}.weight_mask"].bool() for name in LAYERS}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.987])
def test_magnitude_over_the_network_is_global_unstructured(model, share):
    def apply(modules):
        reference.global_unstructured(
            [(module, "weight") for module in modules.values()],
            pruning_method=reference.L1Unstructured,
            amount=share,
        )

    assert same(ours(model, magnitude(), share), theirs(model, apply))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_magnitude_per_layer_is_l1_unstructured(model, share):
    def apply(modules):
        for module in modules.values():
            reference.l1_unstructured(module, "weight", amount=share)

    assert same(ours(model, magnitude(scope="layer"), share), theirs(model, apply))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_l1_filters_are_ln_structured(model, share):
    mask = prune(*(model, X), method=l1_filter(round_to=1), target=Target(sparsity=share)).mask
    for name in ("0", "2"):
        module = copy.deepcopy(model.get_submodule(name))
        reference.ln_structured(module, "weight", amount=share, n=1, dim=0)
        filters = module.weight_mask.bool()[:, 0, 0, 0]
        assert torch.equal(mask[f"{name}.bias"], filters)
