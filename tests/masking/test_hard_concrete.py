"""The hard concrete distribution against draws from it, and the gates of a network."""

import math

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.masking import HardConcrete, Site
from prunus.masking.hard_concrete import open_chance, sample, without_noise
from prunus.methods import l0
from prunus.space import Structured, trace

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def begun(model, target=None, **settings):
    space = trace(model, X)
    groups = Structured(gated=True).groups(space)
    return HardConcrete(**settings).on(Site(model, space, groups, target))


@pytest.mark.parametrize("log_alpha", [-3.0, -1.0, 0.0, 0.7, 2.5])
def test_the_chance_of_being_open_and_its_derivative_are_those_of_draws(log_alpha):
    noise = torch.rand(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    point = torch.tensor(log_alpha, dtype=torch.float64, requires_grad=True)
    drawn = sample(point, noise).detach()
    assert drawn.min() >= 0 and drawn.max() <= 1
    chance = open_chance(point)
    assert float((drawn != 0).double().mean()) == pytest.approx(float(chance.detach()), abs=3e-3)
    chance.backward()
    step = 0.2
    near = [(sample(point.detach() + d, noise) != 0).double().mean() for d in (step, -step)]
    slope = float(near[0] - near[1]) / (2 * step)
    assert float(point.grad) == pytest.approx(slope, abs=5e-3)


def test_the_derivative_of_a_draw_is_that_of_the_stretched_sigmoid():
    log_alpha = torch.tensor([0.3, -9.0, 9.0], requires_grad=True)
    gates = sample(log_alpha, torch.tensor([0.4, 0.5, 0.5]))
    gates.sum().backward()
    s = 1 / (1 + math.exp(-(math.log(0.4) - math.log(0.6) + 0.3) * 1.5))
    assert gates.tolist() == pytest.approx([1.2 * s - 0.1, 0.0, 1.0])
    assert log_alpha.grad.tolist() == pytest.approx([1.2 * s * (1 - s) * 1.5, 0.0, 0.0])


def test_the_trained_gate_is_zero_where_its_score_is_not_above_zero():
    gates = begun(build())
    edge = -math.log(11)
    with torch.no_grad():
        gates.values.copy_(torch.linspace(edge - 0.5, edge + 0.5, 11))
        gates.values[5] = edge - 1e-5
    scores = torch.cat([*gates.scores().values()])
    assert torch.equal(without_noise(gates.values.detach()) > 0, scores > 0)
    assert (scores > 0).sum() == 5


def test_the_penalty_is_the_expected_cost():
    gates = begun(build(), Target(macs=0.5), strength=3.0)
    first, second = (float(part.sum()) for part in open_chance(gates.values.detach()).split([6, 5]))
    expected = (4 * first + first * second + 3 * second) / (4 * 6 + 6 * 5 + 5 * 3)
    assert float(gates.penalty().detach()) == pytest.approx(3 * expected)
    params = begun(build())
    expected = (5 * first + (first + 1) * second + 3 * (second + 1)) / (5 * 6 + 7 * 5 + 6 * 3)
    assert float(params.penalty().detach()) == pytest.approx(expected, rel=1e-2)


def test_gates_are_drawn_anew_in_training_only():
    model = build()
    begun(model)
    assert not torch.equal(model(X), model(X))
    model.eval()
    assert torch.equal(model(X), model(X))


def test_folded_gates_leave_the_network_computing_the_same():
    model = build().eval()
    gates = begun(model)
    with torch.no_grad():
        gates.values.normal_()
    expected = model(X)
    gates.settle()
    torch.testing.assert_close(model(X), expected)
    model.train()
    torch.testing.assert_close(model(X), expected)


def test_channels_that_are_of_no_use_are_shut_and_go():
    """The target depends on two of the inputs: a few hidden units are enough."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 1))
    pruner = Pruner(model, X, l0(begin="300it", strength=0.05, speed=10.0))
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    wanted = (X[:, :1] - X[:, 1:2]).relu()
    for _ in range(300):
        optimizer.zero_grad()
        ((model(X) - wanted).square().mean() + pruner.penalty()).backward()
        optimizer.step()
        pruner.step(optimizer)
    result = pruner.finish(optimizer)
    assert result.report.asked is None and result.report.verification.passed
    assert 1 <= result.model[0].out_features <= 6
    assert (result.model(X) - wanted).square().mean() < 0.1 * wanted.var()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HardConcrete(dropped=1), r"dropped must be in \(0, 1\), got 1"),
        (lambda: HardConcrete(strength=-1), "must not be below 0"),
        (lambda: HardConcrete().on(Site(build())), "need a space"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
