"""Scores against sums worked by hand, and what every criterion must leave alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from prunus.criteria import (
    L1,
    L2,
    ActiveShare,
    BatchNormScale,
    Calibration,
    Connection,
    Curvature,
    Deviations,
    DropGrow,
    Evidence,
    GatheredConnection,
    GradientFlow,
    InputNorm,
    Learned,
    MedianDistance,
    Random,
    Rank,
    RiskReduction,
    SynapticFlow,
    Taylor,
)
from prunus.space import Structured, Unstructured, trace

CRITERIA = [
    *(L1, L2, Deviations, Random, Taylor, Connection, GradientFlow, SynapticFlow, Curvature),
    *(MedianDistance, ActiveShare, Rank, InputNorm, BatchNormScale, DropGrow, Learned),
    *(RiskReduction, GatheredConnection),
]
X = torch.tensor([[1.0, -1.0], [0.5, 2.0]])


def evidence(model, seed=0):
    weights = {name: p.detach() for name, p in model.named_parameters()}
    x = X.to(next(model.parameters()).dtype)
    data = Calibration([(x, torch.zeros(2, 1).to(x))], loss=nn.functional.mse_loss)
    return Evidence(weights, torch.Generator().manual_seed(seed), model, x, data)


@pytest.fixture
def net():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, -4.0], [1.0, 0.0], [-2.0, -2.0]]))
    return model


@pytest.fixture
def groups(net):
    return Structured().groups(trace(net, torch.randn(1, 2)))


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (L1(), [7, 1, 4]),
        (L1(reduce="mean"), [3.5, 0.5, 2]),
        (L2(), [5, 1, 8**0.5]),
        (L2(reduce="mean"), [5 / 2**0.5, 0.5**0.5, 2]),
    ],
)
def test_norms_of_filters_by_hand(net, groups, criterion, expected):
    (scores,) = criterion.score(groups, evidence(net)).values()
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("criterion", [L1(), L2(), L1(reduce="mean")])
def test_a_single_weight_scores_its_magnitude(net, criterion):
    groups = Unstructured().groups(trace(net, torch.randn(1, 2)))
    scores = criterion.score(groups, evidence(net))
    assert scores["0.weight"].tolist() == [3, 4, 1, 0, 2, 2]


def test_coupled_filters_are_scored_together():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 1)

        def forward(self, x):
            return self.out(self.a(x) + self.b(x))

    model = Sum()
    (group,) = Structured().groups(trace(model, torch.randn(1, 2)))
    (scores,) = L1().score([group], evidence(model)).values()
    expected = (model.a.weight.abs() + model.b.weight.abs()).sum(1).detach()
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_scores_are_float32_one_per_unit_and_change_nothing(net, groups, criterion, dtype):
    if criterion is BatchNormScale:
        net.insert(1, nn.BatchNorm1d(3))
        groups = Structured().groups(trace(net, X))
    net.to(dtype)
    given = evidence(net)
    if criterion is InputNorm:
        groups = Unstructured().groups(trace(net, X.to(dtype)))
    if criterion is Learned:
        given = replace(given, learned={group.name: torch.rand(group.size) for group in groups})
    if hasattr(criterion, "gathers"):
        given = replace(given, gathered={n: torch.ones_like(w) for n, w in given.weights.items()})
    before = {key: value.clone() for key, value in given.weights.items()}
    state = torch.get_rng_state()
    scores = criterion().score(groups, given)
    assert {key: (s.shape, s.dtype) for key, s in scores.items()} == {
        group.name: ((group.size,), torch.float32) for group in groups
    }
    assert all(torch.equal(given.weights[key], value) for key, value in before.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("criterion", [L1(), L2()])
def test_scores_follow_a_permutation_of_the_channels(net, groups, criterion):
    before = criterion.score(groups, evidence(net))["0"]
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight[order])
    assert torch.equal(criterion.score(groups, evidence(net))["0"], before[order])


def test_random_scores_depend_on_the_seed_alone(net, groups):
    draws = [Random().score(groups, evidence(net, seed))["0"].tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("criterion", [L1, L2])
def test_an_unknown_reduction_is_refused(criterion):
    with pytest.raises(ValueError, match="reduce must be 'sum' or 'mean', got 'max'"):
        criterion(reduce="max")


def test_what_was_learned_is_there_or_it_says_so(net, groups):
    scores = {groups[0].name: torch.tensor([0.5, -1.0, 0.0])}
    given = replace(evidence(net), learned=scores)
    assert Learned().score(groups, given) == scores
    with pytest.raises(ValueError, match="nothing was learned of the units of '0'"):
        Learned().score(groups, evidence(net))
