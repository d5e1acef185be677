"""Gates are exactly open or closed, and their derivative is what was chosen."""

import copy

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.masking import Gate, Site
from prunus.masking.factors import Factors
from prunus.methods import gate
from prunus.space import Structured, trace

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
U = torch.tensor([-1.0, -0.3, -1e-6, 0.0, 1e-6, 0.2, 1.0])
OPEN = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(6, 3),
    )


def begun(model, target=None, **settings):
    space = trace(model, X[:1])
    groups = Structured(gated=True).groups(space)
    return Gate(**settings).on(Site(model, space, groups, target or Target(macs=0.5)))


def derivative(**settings):
    u = U.clone().requires_grad_()
    values = Gate(**settings).values(u)
    values.sum().backward()
    return values.detach(), u.grad


def bump(u):
    return 1 - torch.tanh(4 * u) ** 2


@pytest.mark.parametrize(("shape", "g"), [("constant", torch.ones_like), ("bump", bump)])
def test_the_value_is_a_step_and_the_derivative_is_g(shape, g):
    values, slope = derivative(shape=shape)
    assert values.tolist() == OPEN
    torch.testing.assert_close(slope, g(U))


@pytest.mark.parametrize("teeth", [1e2, 1e5])
@pytest.mark.parametrize(("shape", "g"), [("constant", torch.ones_like), ("bump", bump)])
def test_the_sawtooth_is_within_one_tooth_of_it(shape, g, teeth):
    values, slope = derivative(shape=shape, sawtooth=teeth)
    above = values - torch.tensor(OPEN)
    assert (above >= 0).all() and (above <= 1.001 / teeth).all()
    if shape == "constant":
        assert torch.equal(slope, torch.ones_like(U))
    else:  # g + s g', and s is at most 1 / M
        torch.testing.assert_close(slope, g(U), rtol=0, atol=4 / teeth)


def test_the_gradient_of_the_cost_is_the_bilinear_one():
    model = build()
    space = trace(model, X[:1])
    factors = Factors(space, Structured(gated=True).groups(space))
    gates = torch.rand(14, requires_grad=True)
    factors.cost("macs", gates).backward()
    a, b = (float(part.sum()) for part in gates.detach().split([8, 6]))
    pixels, total = 64 * 9, 64 * 9 * (3 * 8 + 8 * 6) + 6 * 3
    first, second = pixels * (3 + b) / total, (pixels * a + 3) / total
    torch.testing.assert_close(gates.grad, torch.tensor([first] * 8 + [second] * 6))
    cost = factors.cost("macs", gates)
    assert float(cost.detach()) == pytest.approx((pixels * (3 * a + a * b) + 3 * b) / total)
    assert torch.equal(factors.cost("density", gates), gates.mean())


def test_the_loss_is_the_squared_distance_from_the_target_and_may_be_one_sided():
    assert begun(build(), Target(params=0.5), strength=8).penalty().detach() == 2.0
    both, above = (begun(build(), one_sided=x, strength=1) for x in (False, True))
    for gates in (both, above):
        with torch.no_grad():
            gates.values.fill_(-1.0)  # one channel of each layer stays open
    assert both.penalty().detach() > 0.1 and above.penalty().detach() == 0


def train(model, gates, steps, rate=0.05):
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(4, 3, 8, 8, generator=generator)
        optimizer.zero_grad()
        loss = model(x).square().mean()
        (loss if gates is None else loss + gates.penalty()).backward()
        optimizer.step()
        if gates is not None:
            gates.apply(rate)


@pytest.mark.parametrize("name", ["open gates", "no gates"])
def test_open_gates_change_nothing(name):
    model = build()
    gates = begun(model, strength=0.0, initial=1.0) if name == "open gates" else None
    train(model, gates, 5)
    if gates is not None:
        assert (gates.values > 0).all() and (gates.values < 1).any()
    other = build()
    train(other, None, 5)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_closed_gate_gives_the_network_without_the_channel_and_still_learns():
    model = build()
    with torch.no_grad():
        model[1].bias.fill_(1.0)  # a channel whose filter is zero would not be silent
    gates = begun(model)
    with torch.no_grad():
        gates.values[2], gates.values[9] = -0.1, -0.1
    without = copy.deepcopy(model)
    with torch.no_grad():
        without[3].weight[:, 2] = 0
        without[7].weight[:, 1] = 0
    found = model(X)
    assert torch.equal(found, without(X))
    found.square().sum().backward()
    assert gates.values.grad[2] != 0 and gates.values.grad[9] != 0


def test_a_layer_of_closed_gates_keeps_the_one_of_largest_u():
    gates = begun(build())
    with torch.no_grad():
        gates.values.fill_(-1.0)
        gates.values[5] = -0.9
    assert gates.gates().nonzero().ravel().tolist() == [5, 8]


def test_u_moves_by_momentum_without_weight_decay_inside_its_bounds():
    model = build()
    gates = begun(model, Target(macs=0.01), initial=0.5, momentum=0.5, speed=2.0)
    for gradient, after in ((1.0, 0.3), (1.0, 0.0), (10.0, -1.0)):
        gates.values.grad = torch.full_like(gates.values, gradient)
        gates.apply(0.1)
        torch.testing.assert_close(gates.values.detach(), torch.full((14,), after))
        assert gates.values.grad is None
    gates.apply(0.1)  # without a gradient nothing moves
    assert (gates.values == -1).all()


def test_the_gates_reach_the_target_and_are_final_then():
    model = build()
    gates = begun(model, tolerance=0.05, speed=1.0)
    apart(gates)
    train(model, gates, 60)
    left = float(Factors.cost(gates._factors, "macs", gates.gates()))
    assert left == pytest.approx(0.5, abs=0.05)
    u = gates.values.detach().clone()
    assert gates.penalty() == 0
    weight = model[0].weight.detach().clone()
    train(model, gates, 3)
    assert torch.equal(gates.values, u) and not torch.equal(model[0].weight, weight)


def apart(gates):
    """Let gates begin apart from each other: those of so small a network learn much the same."""
    with torch.no_grad():
        gates.values.copy_(torch.linspace(0.02, 0.3, 14)[torch.randperm(14)])


def test_what_goes_at_the_end_are_the_closed_gates():
    model = build()
    method = gate(begin="80it", tolerance=0.05, speed=1.0)
    pruner = Pruner(model, X[:1], method, target=Target(macs=0.5))
    apart(pruner._masking)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(80):
        optimizer.zero_grad()
        (model(X).square().mean() + pruner.penalty()).backward()
        optimizer.step()
        before = pruner._masking.scores()
        pruner.step(optimizer)
    kept = torch.cat([pruner.keep[name] for name in before])
    assert (kept != (torch.cat([*before.values()]) > 0)).sum() <= 1
    result = pruner.finish(optimizer)
    assert result.report.verification.passed
    assert result.report.reached == pytest.approx(0.5, abs=0.05)


def test_every_rank_takes_the_mean_of_the_gradients(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x.add_(3.0))
    gates = begun(build(), initial=1.0, speed=1.0)
    gates.values.grad = torch.full((14,), 1.0)
    gates.apply(0.1)
    torch.testing.assert_close(gates.values.detach(), torch.full((14,), 0.8))
    gates.apply(0.1)  # this rank has seen nothing, the other has
    torch.testing.assert_close(gates.values.detach(), torch.full((14,), 0.47))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "round"}, "shape must be 'constant' or 'bump', got 'round'"),
        ({"initial": 0.0}, r"initial must be in \(0, 1\], got 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1"),
        ({"strength": -1.0}, "must not be below 0"),
        ({"sawtooth": 0.0}, r"sawtooth must be in \(0, 1e9\], got 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Gate(**settings)


def test_gates_need_a_target():
    with pytest.raises(ValueError, match="give one, such as"):
        Gate().on(Site(build()))


def test_u_learns_with_the_rate_of_the_pruned_weights_whatever_the_order_of_groups():
    found = []
    for order in ((0, 1, 3, 7), (7, 3, 1, 0)):
        model = build()
        pruner = Pruner(model, X, gate(begin="5it"), target=Target(macs=0.5))
        rates = {0: 0.1, 1: 0.1, 3: 0.1, 7: 1e-4}
        optimizer = torch.optim.SGD(
            [{"params": model[k].parameters(), "lr": rates[k]} for k in order]
        )
        (model(X).square().mean() + pruner.penalty()).backward()
        pruner.step(optimizer)
        found.append(pruner._masking.values.detach().clone())
    assert torch.equal(*found) and len(found[0].unique()) > 1


def test_u_does_not_learn_without_an_optimizer():
    model = build()
    pruner = Pruner(model, X, gate(begin="5it"), target=Target(macs=0.5))
    pruner.step()  # nothing to learn from yet
    (model(X).square().mean() + pruner.penalty()).backward()
    with pytest.raises(ValueError, match=r"pass the optimizer .* pruner.step\(optimizer\)"):
        pruner.step()
