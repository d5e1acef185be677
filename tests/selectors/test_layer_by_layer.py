"""One layer after the other, each on what the pruned ones before it make."""

import pytest
import torch
from torch import nn

from prunus import Calibration, Target, prune
from prunus.criteria import Evidence, InputNorm
from prunus.methods import wanda
from prunus.selectors import Rows
from prunus.space import Unstructured, trace


def test_each_layer_is_scored_on_what_is_left_of_the_ones_before():
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12))
    x = torch.randn(40, 6)
    data, target = Calibration([x[:20], x[20:]]), Target(sparsity=0.7)
    result = prune(model, x[:1], method=wanda(layer_by_layer=True), target=target, calibration=data)
    at_once = prune(model, x[:1], method=wanda(), target=target, calibration=data)
    assert torch.equal(result.mask["0.weight"], at_once.mask["0.weight"])
    assert not torch.equal(result.mask["2.weight"], at_once.mask["2.weight"])
    assert not result.patch

    with torch.no_grad():
        model[0].weight *= result.mask["0.weight"]
    weights = {name: p.detach() for name, p in model.named_parameters()}
    groups = Unstructured().groups(trace(model, x))[1:]
    scores = InputNorm().score(groups, Evidence(weights, torch.Generator(), model, x, data))
    keep = Rows().select(None, groups, scores, target).keep["2.weight"]
    assert torch.equal(keep.view(12, 16), result.mask["2.weight"])


def test_it_needs_samples_all_the_same():
    with pytest.raises(ValueError, match=r"pass calibration=prunus\.Calibration"):
        prune(nn.Linear(4, 2), torch.ones(1, 4), method=wanda(layer_by_layer=True))
