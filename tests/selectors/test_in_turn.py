"""Layers pruned in turn: whose turn it is, and how far each has come."""

import pytest
import torch
from torch import nn

from prunus.criteria import L1, Evidence
from prunus.errors import TargetError
from prunus.selectors import InTurn, Threshold, TopK
from prunus.space import Structured, Unstructured, trace
from prunus.types import Target


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Conv2d(4, 4, 5), nn.Flatten()),
        *(nn.Linear(16, 25), nn.ReLU(), nn.Linear(25, 4)),
    )


def sparsities(selector, progress, target=None, keep=None):
    model = network()
    space = trace(model, torch.ones(1, 1, 10, 10))
    groups = Unstructured().groups(space)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    given = Evidence(weights, torch.Generator(), progress=progress, keep=keep or {})
    kept = selector.select(space, groups, L1().score(groups, given), target, given).keep
    return {name: float((~one).float().mean()) for name, one in kept.items()}


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, [0, 0, 0, 0]),
        (0.125, [0.7, 0, 0, 0]),  # half of its time: 0.8 (1 - 0.5^3)
        (0.25, [0.8, 0, 0, 0]),  # a turn ends with an update that belongs to it
        (0.375, [0.8, 0.7, 0, 0]),
        (0.75, [0.8, 0.8, 0.8, 0]),
        (1.0, [0.8, 0.8, 0.8, 0.8]),
    ],
)
def test_each_layer_is_pruned_in_its_own_part_of_the_time(progress, expected):
    selector = InTurn(of=TopK(scope="layer"))
    found = sparsities(selector, progress, Target(sparsity=0.8))
    assert list(found.values()) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(
    ("progress", "linear", "convolutional"),
    [(0.25, 0.5, 0), (0.5, 0.5, 0.5), (0.75, 0.75, 0.5), (0.875, 0.75, 0.6464), (1.0, 0.75, 0.75)],
)
def test_kinds_alternate_and_each_cycle_takes_the_same_share_of_what_is_left(
    progress, linear, convolutional
):
    selector = InTurn(of=TopK(), by="kind", cycles=2, curve="geometric")
    found = sparsities(selector, progress, Target(density=0.25))
    sizes = {"0.weight": 100, "2.weight": 400, "4.weight": 400, "6.weight": 100}
    gone = {name: found[name] * size for name, size in sizes.items()}
    assert gone["4.weight"] + gone["6.weight"] == pytest.approx(500 * linear, abs=1)
    assert gone["0.weight"] + gone["2.weight"] == pytest.approx(500 * convolutional, abs=1)


def test_without_a_target_the_others_keep_what_they_have():
    present = {"0.weight": torch.arange(100) < 60}
    selector = InTurn(of=Threshold(q=0.1), by="kind")
    found = sparsities(selector, 0.5, keep=present)
    assert found["0.weight"] == pytest.approx(0.4) and found["2.weight"] == 0
    assert found["4.weight"] > 0 and found["6.weight"] > 0
    found = sparsities(selector, 1.0, keep=present)
    assert found == sparsities(Threshold(q=0.1), 1.0)


def test_a_schedule_that_skips_turns_still_ends_on_target():
    model = network()
    space = trace(model, torch.ones(1, 1, 10, 10))
    assert len(Unstructured().groups(space)) == 4
    found = sparsities(InTurn(of=TopK(scope="layer")), 0.7, Target(sparsity=0.5))
    assert list(found.values()) == pytest.approx([0.5, 0.5, 0.4961, 0], abs=0.006)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "stage"}, "by must be 'layer' or 'kind', got 'stage'"),
        ({"cycles": 0}, "cycles must be at least 1, got 0"),
        ({"curve": "quartic"}, "curve must be one of"),
        ({"initial": 1.0}, r"initial must be in \[0, 1\), got 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        InTurn(of=TopK(), **settings)


def test_costs_and_channels_are_refused():
    with pytest.raises(TargetError, match="macs cannot be met layer by layer"):
        sparsities(InTurn(of=TopK()), 0.5, Target(macs=0.5))
    space = trace(network(), torch.ones(1, 1, 10, 10))
    groups = Structured().groups(space)
    scores = {group.name: torch.rand(group.size) for group in groups}
    given = Evidence({}, torch.Generator(), progress=0.5)
    with pytest.raises(ValueError, match="but '0' has channels"):
        InTurn(of=TopK(), by="kind").select(space, groups, scores, None, given)
