"""Scales of batch norms against what they are."""

import pytest
import torch
from torch import nn

from prunus.criteria import BatchNormScale, Evidence
from prunus.space import Structured, trace


def scores(model, x):
    weights = {name: p.detach() for name, p in model.named_parameters()}
    groups = Structured().groups(trace(model, x))
    return BatchNormScale().score(groups, Evidence(weights, torch.Generator(), model, x))


def test_a_channel_scores_the_size_of_its_scale_and_without_one_it_stays():
    model = nn.Sequential(
        *(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.ReLU()),
        *(nn.Conv1d(3, 2, 1), nn.ReLU(), nn.Conv1d(2, 1, 1)),
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -2.0, 0.0]))
    found = scores(model, torch.ones(1, 2, 4))
    assert found["0"].tolist() == [0.5, 2.0, 0.0]
    assert found["3"].isinf().all()


def test_coupled_channels_score_the_mean_of_their_scales():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = (nn.Conv1d(2, 2, 1) for _ in range(3))
            self.na, self.nb = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

        def forward(self, x):
            return self.out(self.na(self.a(x)) + self.nb(self.b(x)))

    model = Sum()
    with torch.no_grad():
        model.na.weight.copy_(torch.tensor([1.0, 3.0]))
        model.nb.weight.copy_(torch.tensor([-2.0, 1.0]))
    (found,) = scores(model, torch.ones(1, 2, 4)).values()
    assert found.tolist() == [1.5, 2.0]


def test_without_any_scale_it_says_so():
    with pytest.raises(ValueError, match="no channel has a batch norm with weights"):
        scores(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), torch.ones(1, 2))
