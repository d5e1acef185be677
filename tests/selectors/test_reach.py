"""Costs land on their targets, on widths that runtimes like, or the error says how far it got."""

import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from networks import networks
from prunus import Target
from prunus.criteria import L1, Evidence
from prunus.errors import TargetError
from prunus.selectors import TopK
from prunus.selectors.reach import nearest_width, step
from prunus.space import Structured, trace
from prunus.zoo import network

SHAPES = {
    "lenet5": (1, 1, 28, 28),
    "resnet20": (1, 3, 32, 32),
    "vgg16": (1, 3, 32, 32),
    "torchvision:resnet18": (1, 3, 64, 64),
    "torchvision:mobilenet_v2": (1, 3, 64, 64),
    "torchvision:densenet121": (1, 3, 64, 64),
}


@cache
def traced(name):
    torch.manual_seed(0)
    model = network(name).eval()
    return model, trace(model, torch.randn(SHAPES[name]))


def scored(model, groups):
    weights = {name: p.detach() for name, p in model.named_parameters()}
    return L1(reduce="mean").score(groups, Evidence(weights, torch.Generator()))


def select(model, space, target, *, coupled=True, **fields):
    groups = Structured(coupled=coupled).groups(space)
    return TopK(**fields).select(space, groups, scored(model, groups), target).keep


def cost(space, metric, keep):
    return float(space.cost(metric).at(space.widths(keep))) / space.cost(metric).dense


def one_step(space, metric, keep, step):
    """The largest change of the cost by one step of one group."""
    widths = space.widths(keep)
    prices = []
    for k in range(len(widths)):
        moved = widths.clone()
        moved[k] -= min(step, float(widths[k]))
        prices.append(float(space.cost(metric).at(widths) - space.cost(metric).at(moved)))
    return max(prices) / space.cost(metric).dense


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if "densenet" in name else ())
        for name in sorted(SHAPES)
    ],
)
@pytest.mark.parametrize("metric", ["macs", "params"])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("value", "round_to"), [(0.5, 8), (0.7, 1)])
def test_known_networks_land_within_one_percent_or_one_unit(name, metric, scope, value, round_to):
    model, space = traced(name)
    target = Target(**{metric: value})
    keep = select(model, space, target, scope=scope, round_to=round_to)
    got = cost(space, metric, keep)
    assert abs(got - value) <= max(0.01 * value, one_step(space, metric, keep, round_to))
    for group in space.groups:
        width = int(keep[group.name].sum())
        assert width % round_to == 0 or width == group.size


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    networks(),
    st.sampled_from(["macs", "params", "bytes"]),
    st.floats(0.3, 1.0),
    st.sampled_from(["layer", "stage", "global"]),
)
def test_random_networks_land_within_one_percent_or_one_unit(model, metric, value, scope):
    space = trace(model, torch.randn(1, 3, 8, 8))
    try:
        target = Target(**{metric: value})
        keep = select(model, space, target, scope=scope, round_to=1)
    except TargetError as error:
        (floor,) = re.findall(r"still has (\d\.\d+) of the dense", str(error))
        narrow = {g.name: torch.arange(g.size) < 1 for g in space.groups}
        assert float(floor) == pytest.approx(cost(space, metric, narrow), abs=1e-3)
        assert float(floor) > value
        return
    got = cost(space, metric, keep)
    assert abs(got - value) <= max(0.01 * value, one_step(space, metric, keep, 1))
    assert all(kept.any() for kept in keep.values())


def test_each_layer_keeps_its_best_units():
    model, space = traced("lenet5")
    keep = select(model, space, Target(macs=0.4), scope="layer", round_to=1)
    scores = scored(model, Structured().groups(space))
    for name, kept in keep.items():
        assert scores[name][kept].min() >= scores[name][~kept].max()


def test_layers_of_one_stage_share_the_cut_and_layers_alone_give_the_same_share():
    model, space = traced("resnet20")
    keep = select(model, space, Target(macs=0.5), coupled=False, scope="layer", round_to=1)
    shares = [
        1 - float(keep[g.name].float().mean()) for g in Structured(coupled=False).groups(space)
    ]
    assert max(shares) - min(shares) < 0.1


def test_a_target_out_of_reach_says_how_far_it_got_and_why():
    model, space = traced("resnet20")
    message = (
        r"macs 0\.01 cannot be reached: with every layer at its narrowest the network still has "
        r"0\.\d{3} of the dense macs\. \d+ groups were left out by the method"
    )
    with pytest.raises(TargetError, match=message):
        select(model, space, Target(macs=0.01), coupled=False)


def test_ratios_that_cost_more_than_asked_and_less_than_asked_are_told():
    layers = [nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)]
    model = nn.Sequential(*layers)
    space = trace(model, torch.randn(1, 8))
    with pytest.raises(TargetError, match=r"ratios alone leave 0\.\d+ of the dense macs"):
        select(model, space, Target(macs=0.9), ratios={"2": 0.7})
    with pytest.raises(
        TargetError, match=r"still has 0\.\d+ of the dense macs.*1 groups were left"
    ):
        select(model, space, Target(macs=0.05), ratios={"2": 0.0})
    keep = select(model, space, Target(macs=0.5), ratios={"2": 0.25})
    assert keep["2"].sum() == 24
    assert cost(space, "macs", keep) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("width", "size", "step", "least", "expected"),
    [
        *[(21, 64, 8, 1, 24), (19, 64, 8, 1, 16), (0, 64, 8, 1, 8), (63, 64, 8, 1, 64)],
        *[(30, 100, 8, 40, 40), (98, 100, 8, 1, 96), (99, 100, 8, 1, 100), (3, 6, 8, 1, 6)],
        *[(0, 1, 1, 0, 1), (0, 5, 1, 0, 1), (3, 5, 1, 9, 5)],
    ],
)
def test_nearest_width_by_hand(width, size, step, least, expected):
    group = SimpleNamespace(size=size, may_vanish=False)
    assert nearest_width(group, width, step, least) == expected


def test_what_may_vanish_has_no_least_width():
    branch = SimpleNamespace(size=1, may_vanish=True, channels=1)
    assert [nearest_width(branch, width, 1, 1) for width in (0, 1, 2)] == [0, 1, 1]
    assert step(branch, 8) == 1
