"""Scale factors: the proximal step on quadratics, and what becomes of factors in the end."""

import pytest
import torch
from torch import nn

from handmade import NETWORKS
from prunus import Pruner, Target
from prunus.masking import Scale, Site
from prunus.methods import sss
from prunus.space import Structured, trace

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def begun(model, **settings):
    space = trace(model, X)
    return Scale(**settings).on(Site(model, space, Structured(gated=True).groups(space)))


def test_two_steps_by_hand():
    scales = begun(build(), strength=0.1, momentum=0.5)
    scales.values.grad = torch.tensor([1.0, 0.0, -1.0, 4.0, 9.0, 12.0])
    scales.apply(0.1)
    # z = 0.9 - 0.01, v = -0.11, lambda = 0.89 - 0.055; and so on; below zero it is cut
    expected = torch.tensor([0.835, 0.985, 1.135, 0.385, 0.0, 0.0])
    torch.testing.assert_close(scales.values.detach(), expected)
    scales.values.grad = torch.zeros(6)
    scales.apply(0.1)
    # z = 0.835 - 0.01, v = 0.5 * -0.11 - 0.01 = -0.065, lambda = 0.825 - 0.0325
    assert float(scales.values[0].detach()) == pytest.approx(0.7925)


@pytest.mark.parametrize(
    ("centre", "end"), [(0.05, 0.0), (-0.5, 0.0), (0.099, 0.0), (0.2, 0.1), (0.6, 0.5)]
)
def test_on_a_quadratic_it_ends_at_zero_where_the_slope_there_is_below_the_strength(centre, end):
    scales = begun(build(), strength=0.1)
    seen = []
    for _ in range(400):
        scales.values.grad = scales.values.detach() - centre
        scales.apply(0.1)
        seen.append(float(scales.values[0].detach()))
    assert min(seen) >= 0
    assert (seen[-1] == 0.0) == (end == 0.0)
    assert seen[-1] == pytest.approx(end, abs=1e-4)


@pytest.mark.parametrize("name", ["lenet_constant_view", "resnet_basic", "gru"])
def test_folded_factors_leave_the_network_computing_the_same(name):
    torch.manual_seed(0)
    model, example = NETWORKS[name]()
    space = trace(model, example)
    scales = Scale().on(Site(model, space, Structured(gated=True).groups(space)))
    with torch.no_grad():
        scales.values.uniform_(0, 2)
    model.eval()
    keys = list(model.state_dict())
    expected = model(example)
    scales.settle()
    assert not model._forward_hooks and list(model.state_dict()) == keys
    torch.testing.assert_close(model(example), expected, rtol=1e-4, atol=1e-5)
    weights = [p.detach().clone() for p in model.parameters()]
    scales.detach()  # only once
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


class Residual(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(blocks)
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def trained(factors, target=None, steps=1):
    torch.manual_seed(0)
    model = Residual(len(factors))
    pruner = Pruner(model, X, sss(begin=f"{steps}it"), target=target)
    with torch.no_grad():
        pruner._masking.values.copy_(torch.tensor(factors))
    expected = model(X)
    for _ in range(steps):
        pruner.step()
    return pruner, expected


def test_branches_of_factor_zero_go_and_no_others():
    pruner, expected = trained([0.5, 0.0, 2.0, 0.0])
    result = pruner.finish()
    assert result.report.branches == ["blocks.1.2:branch", "blocks.3.2:branch"]
    assert result.report.asked is None and result.report.verification.passed
    torch.testing.assert_close(result.model(X), expected)


def test_a_target_says_how_many_branches_go():
    pruner, _ = trained([0.5, 0.0, 2.0, 0.1], Target(sparsity=0.75))
    result = pruner.finish()
    assert result.report.branches == [f"blocks.{k}.2:branch" for k in (0, 1, 3)]


def test_a_stage_without_branches_is_warned_of():
    with pytest.warns(UserWarning, match="all 3 branches of the stage of 'blocks.0.2:branch'"):
        pruner, expected = trained([0.0, 0.0, 0.0])
    torch.testing.assert_close(pruner.finish().model(X), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scale(strength=0), "strength must be above 0, got 0"),
        (lambda: Scale(momentum=1), r"momentum must be in \[0, 1\), got 1"),
        (lambda: sss(unit="kernel"), "unit must be 'branch', 'group' or 'channel', got 'kernel'"),
        (lambda: Scale().on(Site(build())), "need a space"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
