"""Drop-out and drop-in: by hand, by simulation, and against plain iterative pruning."""

import pytest
import torch
from torch import nn

from prunus.criteria import L1, Evidence
from prunus.errors import TargetError
from prunus.selectors import DropOutIn, TopK
from prunus.space import Unstructured, trace
from prunus.types import Target


def layer(inputs, outputs):
    """Return random weights of a linear layer, and its group."""
    groups = Unstructured().groups(
        trace(nn.Sequential(nn.Linear(inputs, outputs)), torch.ones(1, inputs))
    )
    weight = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(9)) + 0.1
    return {"0.weight": weight}, groups


def rounds(selector, target, count, size=20_000, seed=0, last=False):
    """Return the sparsity after each decision, on weights that do not change."""
    weights, groups = layer(size // 100, 100)
    generator, keep, found = torch.Generator().manual_seed(seed), {}, []
    for k in range(count):
        progress = k / (count - 1) if last else 0.0
        given = Evidence(weights, generator, keep=keep, progress=progress)
        keep = selector.select(None, groups, L1().score(groups, given), target, given).keep
        found.append(int((~keep["0.weight"]).sum()) / size)
    return found


@pytest.mark.parametrize(
    ("q", "p_out", "p_in", "settled"),
    [(0.1, 0.5, 0.004, 0.9259), (0.3, 0.3, 0.01, 0.9), (0.2, 0.5, 0.01, 0.9091)],
)
def test_the_sparsity_settles_where_flows_balance(q, p_out, p_in, settled):
    found = rounds(DropOutIn(q=q, p_out=p_out, p_in=p_in), Target(sparsity=0.5), 150)
    assert sum(found[100:]) / 50 == pytest.approx(settled, abs=0.004)
    assert settled == pytest.approx(q * p_out / (q * p_out + p_in), abs=1e-4)
    for k in (1, 5, 20):  # the distance shrinks by the same factor each time
        expected = settled * (1 - (1 - q * p_out - p_in) ** (k + 1))
        assert found[k] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("sparsity", [0.6, 0.93])
def test_the_probability_of_return_follows_from_the_target(sparsity):
    found = rounds(DropOutIn(), Target(sparsity=sparsity), 130)
    assert sum(found[90:]) / 40 == pytest.approx(sparsity, abs=0.008)


@pytest.mark.parametrize("sparsity", [0.5, 0.93])
@pytest.mark.parametrize("count", [8, 60])
def test_the_last_decisions_only_delete_and_end_at_exactly_the_target(sparsity, count):
    found = rounds(DropOutIn(), Target(density=1 - sparsity), count, last=True, seed=4)
    tail = found[-(count // 5) :]
    assert sorted(tail) == tail
    assert tail[-1] == sparsity


def test_certain_drop_out_without_drop_in_is_iterative_magnitude_pruning():
    weights, groups = layer(8, 10)
    selector, keep, kept = DropOutIn(q=0.25, p_out=1.0, p_in=0.0), {}, 80
    for _ in range(4):
        given = Evidence(weights, torch.Generator(), keep=keep)
        scores = L1().score(groups, given)
        keep = selector.select(None, groups, scores, Target(sparsity=0.9), given).keep
        kept -= round(0.25 * kept)
        plain = TopK().select(None, groups, scores, Target(density=kept / 80)).keep
        assert torch.equal(keep["0.weight"], plain["0.weight"])
        weights["0.weight"] *= keep["0.weight"].view(10, 8)


def test_a_layer_with_a_lower_q_settles_at_a_lower_sparsity():
    model = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 100), nn.Linear(100, 100))
    groups = Unstructured().groups(trace(model, torch.ones(1, 100)))
    scores = {group.name: torch.rand(group.size) for group in groups}
    # with p_in = 0.01 the sparsities are 0.1 / 0.11 = 0.909 and 0.025 / 0.035 = 0.714
    target, q = Target(sparsity=(0.1 / 0.11 + 0.025 / 0.035) / 3), {"1.*": 0.2, "0.*": 0.05}
    selector = DropOutIn(q=q, p_out=0.5, settle=0.9)
    generator, keep, found = torch.Generator().manual_seed(1), {}, []
    for k in range(200):
        given = Evidence({}, generator, keep=keep, progress=k / 199)
        keep = selector.select(None, groups, scores, target, given).keep
        found.append([1 - float(keep[group.name].float().mean()) for group in groups])
    settled = torch.tensor(found[130:180]).mean(0)
    assert settled.tolist() == pytest.approx([0.714, 0.909, 0], abs=0.01)
    assert found[-1] == pytest.approx([0.7143, 0.9091, 0], abs=1e-6)
    with pytest.raises(TargetError, match=r"layers with a q hold only 0.667 of the units"):
        selector.select(None, groups, scores, Target(sparsity=0.7), given)
    with pytest.raises(ValueError, match=r"q names '3\.\*', which fits none of the 3"):
        DropOutIn(q={"3.*": 0.1}).select(None, groups, scores, target, given)


def test_without_a_share_of_candidates_nothing_can_go():
    weights, groups = layer(10, 10)
    given = Evidence(weights, torch.Generator())
    scores = L1().score(groups, given)
    with pytest.raises(TargetError, match=r"hold only 0\.000 of the units"):
        DropOutIn(q={}).select(None, groups, scores, Target(sparsity=0.5), given)


def test_only_candidates_go_and_only_what_is_gone_returns():
    weights = {"0.weight": torch.arange(1.0, 101).view(10, 10)}
    _, groups = layer(10, 10)
    present = torch.arange(100) >= 40
    given = Evidence(weights, torch.Generator().manual_seed(0), keep={"0.weight": present})
    selector = DropOutIn(q=0.5, p_out=0.5, p_in=0.25)
    keep = selector.select(None, groups, L1().score(groups, given), Target(sparsity=0.5), given)
    kept = keep.keep["0.weight"]
    assert kept[70:].all()  # the candidates are 40 to 69
    assert 8 <= int((~kept[40:70]).sum()) <= 22 and 4 <= int(kept[:40].sum()) <= 16


def test_chance_that_went_too_far_is_put_right_with_the_latest_first():
    weights = {"0.weight": torch.arange(1.0, 11).view(2, 5)}
    _, groups = layer(5, 2)
    given = Evidence(
        weights,
        torch.Generator().manual_seed(0),
        keep={"0.weight": torch.arange(10) >= 4},
        progress=0.9,
    )
    selector = DropOutIn(q=0.5, p_out=1.0)
    kept = selector.select(None, groups, L1().score(groups, given), Target(sparsity=0.5), given)
    assert kept.keep["0.weight"].tolist() == [False] * 5 + [True] * 5  # 4, 5, 6 went; 6, 5 are back


def test_a_share_that_rounds_to_nothing_leaves_the_layer_alone():
    weights, groups = layer(2, 1)
    given = Evidence(weights, torch.Generator())
    scores = L1().score(groups, given)
    kept = DropOutIn(q=0.2, p_out=1.0).select(None, groups, scores, Target(sparsity=0.4), given)
    assert kept.keep["0.weight"].all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"q": 0.0}, r"q must be in \(0, 1\), got 0"),
        ({"q": {"fc*": 2.0}}, r"q\['fc\*'\] must be in \(0, 1\), got 2"),
        ({"q": {"fc*": 0.2}, "scope": "global"}, "layers ranked together have one q"),
        ({"p_out": 1.5}, r"p_out must be in \(0, 1\], got 1.5"),
        ({"p_in": -0.1}, r"p_in must be in \[0, 1\], got -0.1"),
        ({"scope": "stage"}, "scope must be 'layer' or 'global', got 'stage'"),
        ({"settle": 2.0}, r"settle must be in \[0, 1\], got 2"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DropOutIn(**settings)


@pytest.mark.parametrize("target", [None, Target(macs=0.5)])
def test_other_targets_are_refused(target):
    _, groups = layer(5, 2)
    with pytest.raises(TargetError, match="around a sparsity or density; ask for one"):
        DropOutIn().select(None, groups, {}, target, Evidence({}, torch.Generator()))
