"""The number of weights follows the sign of what a round costs for what it gains, by hand."""

import pytest
import torch
from torch import nn

from prunus import Target
from prunus.criteria import Evidence, RiskReduction
from prunus.selectors import OnlineSize, TimeModel
from prunus.space import Unstructured, trace

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
EQUAL = TimeModel(constant=1.0, compute={"*": 0.5}, communication=0.5)  # 1 s per weight
WEIGHTS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def decide(sums, keep=None, target=None, progress=0.0, **settings):
    """Let it decide on one layer of eight weights; return the places of those that stay."""
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(WEIGHTS).view(2, 4))
    space = trace(model, X)
    groups = Unstructured().groups(space)
    (group,) = groups
    evidence = Evidence(
        weights={"0.weight": model[0].weight.detach()},
        generator=torch.Generator(),
        keep={} if keep is None else {group.name: torch.tensor(keep)},
        gathered={"0.weight": torch.tensor(sums).view(2, 4)},
        progress=progress,
    )
    scores = RiskReduction().score(groups, evidence)
    selector = OnlineSize(**{"time": EQUAL, "decisions": 2, "least": 0.25} | settings)
    kept = selector.select(space, groups, scores, target, evidence).keep[group.name]
    return kept.nonzero().ravel().tolist()


def test_fewer_weights_are_kept_where_they_gain_more_per_second():
    # step (8 - 2) / sqrt(2) = 4.24; the 6 largest gain 12 in 7 s, all 8 gain 12.2 in 9 s
    assert decide([0.1, 0.1, 2, 2, 2, 2, 2, 2]) == [4, 5, 6, 7]
    # in the second decision the step is 3
    assert decide([0.1, 0.1, 2, 2, 2, 2, 2, 2], progress=1.0) == [3, 4, 5, 6, 7]


def test_more_weights_return_where_fewer_would_gain_less_those_with_most_to_gain_first():
    keep = [False, False, False, False, False, True, True, True]
    # of 3 weights the largest 2 gain 1 in 3 s, all three 9 in 4 s; so 3 + 3 are to stay
    sums = [0.1, 3, 0.2, 2, 0.3, 8, 0.5, 0.5]
    assert decide(sums, keep=keep, progress=1.0) == [1, 3, 4, 5, 6, 7]


def test_a_target_bounds_from_above_and_least_from_below():
    more = [8.0, 8, 8, 8, 1, 1, 1, 1]
    assert len(decide(more, target=Target(density=0.5))) == 4
    keep = [False] * 3 + [True] * 5
    assert len(decide([0.0] * 7 + [9], keep=keep, least=0.5)) == 4
    assert len(decide([0.0] * 8)) == 8  # nothing is gained by fewer, nor by more


@pytest.mark.parametrize("settings", [{"decisions": 0}, {"least": 0.0}, {"least": 1.0}])
def test_fields_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        OnlineSize(**settings)
