"""The same scores as Torch-Pruning's importances, on the outputs of one convolution."""

import pytest
import torch
from torch import nn

from prunus import Calibration
from prunus.criteria import L1, L2, BatchNormScale, Evidence, MedianDistance, Taylor
from prunus.space import Structured, trace

tp = pytest.importorskip("torch_pruning")

X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.fixture(params=range(3))
def model(request):
    torch.manual_seed(request.param)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(432, 5),
    )
    with torch.no_grad():
        net[1].weight.uniform_(-1, 1)
    return net.eval()


def theirs(model, importance):
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=X)
    group = graph.get_pruning_group(
        model[0], tp.prune_conv_out_channels, idxs=list(range(model[0].out_channels))
    )
    return importance(group)


def ours(model, criterion):
    evidence = Evidence(
        weights={name: p.detach() for name, p in model.named_parameters()},
        generator=torch.Generator(),
        model=model,
        example=X,
        calibration=Calibration([(X, Y)]),
    )
    groups = Structured().groups(trace(model, X))
    return criterion.score(groups, evidence)["0"]


@pytest.mark.parametrize(("p", "criterion"), [(1, L1()), (2, L2())])
def test_norms(model, p, criterion):
    found = theirs(
        model,
        tp.importance.GroupMagnitudeImportance(p=p, normalizer=None, target_types=[nn.Conv2d]),
    )
    assert torch.allclose(ours(model, criterion) ** p, found, rtol=1e-5)


def test_distance_from_the_geometric_median(model):
    with torch.no_grad():
        model[0].weight.abs_()  # theirs takes the absolute values, against the paper
    importance = tp.importance.FPGMImportance(p=1, normalizer=None)
    importance.target_types = [nn.Conv2d]
    assert torch.allclose(ours(model, MedianDistance()), theirs(model, importance), rtol=1e-4)


def test_batch_norm_scales(model):
    found = theirs(model, tp.importance.BNScaleImportance(group_reduction="mean", normalizer=None))
    assert torch.allclose(ours(model, BatchNormScale()), found, rtol=1e-5)


def test_first_order_taylor(model):
    nn.functional.cross_entropy(model(X), Y).backward()
    found = theirs(
        model,
        tp.importance.GroupTaylorImportance(
            normalizer=None, multivariable=True, target_types=[nn.Conv2d]
        ),
    )
    model.zero_grad()
    assert torch.allclose(ours(model, Taylor()), found**2, rtol=1e-3)
