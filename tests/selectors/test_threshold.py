"""Thresholds in standard deviations, worked by hand."""

import pytest
import torch
from torch import nn

from prunus.criteria import Deviations, Evidence
from prunus.errors import TargetError
from prunus.selectors import Threshold
from prunus.space import Unstructured, trace
from prunus.types import Target


def network():
    model = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -1.0, 3.0, -3.0], [2.0, -2.0, 2.0, -2.0]]))
        model[1].weight.copy_(torch.tensor([[0.1, -0.1], [0.3, -0.3]]))
    space = trace(model, torch.ones(1, 4))
    return model, space, Unstructured().groups(space)


def decide(target=None, keep=None, anchor=None, **settings):
    model, space, groups = network()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    given = Evidence(weights, torch.Generator(), keep=keep or {}, anchor=anchor or {})
    scores = Deviations().score(groups, given)
    kept = Threshold(**settings).select(space, groups, scores, target, given).keep
    return {name: one.int().tolist() for name, one in kept.items()}


def test_what_is_smaller_than_q_deviations_goes():
    # deviations: sqrt((2 + 18 + 16) / 8) = 2.12 and sqrt((0.02 + 0.18) / 4) = 0.224
    kept = decide(q=0.9)  # thresholds 1.91 and 0.201
    assert kept == {"0.weight": [0, 0, 1, 1, 1, 1, 1, 1], "1.weight": [0, 0, 1, 1]}
    assert decide(q=1.0)["0.weight"] == [0, 0, 1, 1, 0, 0, 0, 0]  # 2.12


def test_the_deviation_is_that_of_what_is_left_and_nothing_returns():
    present = {"0.weight": torch.tensor([True, True, False, False] + [True] * 4)}
    # of 1 -1 2 -2 2 -2 it is 1.73, of all eight 2.12: with q = 0.9 the ones go, and the rest stays
    assert decide(q=0.9, keep=present)["0.weight"] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert decide(q=0.0, keep=present)["0.weight"] == [1, 1, 0, 0, 1, 1, 1, 1]


def test_the_original_deviation_holds_whatever_is_left():
    model, _, groups = network()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    anchor = Deviations(of="original").anchor(groups, Evidence(weights, torch.Generator()))
    assert [round(float(anchor[f"{k}.weight"]), 3) for k in (0, 1)] == [2.121, 0.224]
    present = {"0.weight": torch.tensor([True, True, False, False] + [True] * 4)}
    # of the six that are left it is 1.73, which the twos reach; 2.12 they do not, and one is kept
    assert decide(q=1.0, keep=present)["0.weight"] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert decide(q=1.0, keep=present, anchor=anchor)["0.weight"] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert decide(q=0.9, keep=present, anchor=anchor)["0.weight"] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_each_layer_has_the_threshold_of_the_first_pattern_that_fits():
    kept = decide(q={"1.*": 0.9, "*": 1.2})
    assert kept == {"0.weight": [0, 0, 1, 1, 0, 0, 0, 0], "1.weight": [0, 0, 1, 1]}
    assert decide(q={"1.*": 0.9})["0.weight"] == [1] * 8


def test_a_target_is_met_exactly_by_moving_all_thresholds_alike():
    # in deviations: 0.47 1.41 and 0.94 in the first layer, 0.45 1.34 in the second
    assert decide(target=Target(sparsity=0.5)) == {
        "0.weight": [0, 0, 1, 1, 1, 1, 0, 0],
        "1.weight": [0, 0, 1, 1],
    }
    # with twice the threshold the second layer comes to 0.22 and 0.67, before the 0.94
    kept = decide(target=Target(sparsity=0.5), q={"1.*": 2.0, "*": 1.0})
    assert kept == {"0.weight": [0, 0, 1, 1, 1, 1, 1, 0], "1.weight": [0, 0, 1, 0]}


def test_layers_with_the_threshold_zero_stay_whole():
    kept = decide(target=Target(sparsity=0.25), q={"1.*": 1.0})
    assert kept == {"0.weight": [1] * 8, "1.weight": [0, 0, 1, 0]}
    with pytest.raises(TargetError, match=r"make at most a sparsity of 0\.250, with min_keep=1"):
        decide(target=Target(sparsity=0.5), q={"1.*": 1.0})


def test_a_layer_keeps_its_largest_weight_below_any_threshold():
    assert decide(q=9.0) == {"0.weight": [0, 0, 1, 0, 0, 0, 0, 0], "1.weight": [0, 0, 1, 0]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"q": -1.0}, r"q\['\*'\] must be at least 0, got -1"),
        ({"q": {"0.*": float("nan")}}, "must be at least 0, got nan"),
        ({"min_keep": -1}, "min_keep must be at least 0, got -1"),
        ({"q": {"layer9.*": 1.0}}, "q names 'layer9.*', which fits none of the 3 there are"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        decide(**settings)


def test_costs_of_channels_are_refused():
    with pytest.raises(TargetError, match="ask for sparsity"):
        decide(target=Target(macs=0.5))
