"""Penalties against what they do to weights by hand."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.methods import group_lasso, slimming
from prunus.recovery import GroupLasso, ScaleL1
from prunus.space import Structured, Unstructured, trace


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 3)),
    )


X = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def test_the_gradient_of_the_scales_is_their_sign():
    model = network()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -2.0, 0.0, 1.0]))
    groups = Structured().groups(trace(model, X))
    value = ScaleL1(0.01).value(groups, dict(model.named_parameters()))
    value.backward()

    assert value.item() == pytest.approx(0.01 * (3.5 + 6))
    assert model[1].weight.grad.tolist() == pytest.approx([0.01, -0.01, 0.0, 0.01])
    assert all(p.grad is None for name, p in model.named_parameters() if p.ndim > 1)


@pytest.mark.parametrize(("rate", "expected"), [(0.5, 0.8), (2.0, 0.2), (3.0, 0.0)])
def test_a_unit_is_zero_from_where_its_norm_is_reached(rate, expected):
    """|w| = 5, two entries: the factor is 1 - rate * strength * sqrt(2) / 5."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 4.0], [30.0, 40.0]]))
    groups = Structured().groups(trace(model, torch.ones(1, 2)))

    GroupLasso(2 / 2**0.5).shrink(groups, dict(model.named_parameters()), {"0": rate})

    norms = model[0].weight.norm(dim=1).tolist()
    assert norms == pytest.approx([5 * expected, 50 - 2 * rate])
    assert bool(model[0].weight[0].any()) == (expected > 0)


def test_single_weights_are_units_too():
    model = nn.Sequential(nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -0.3, 0.05]]))
    groups = Unstructured().groups(trace(model, torch.ones(1, 3)))
    GroupLasso(0.1).shrink(groups, dict(model.named_parameters()), {"0.weight": 1.0})
    assert model[0].weight[0].tolist() == pytest.approx([0.9, -0.2, 0.0])


def test_each_layer_shrinks_by_its_own_learning_rate():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    before = [model[k].weight.detach().norm(dim=1) for k in (0, 2)]
    rates = {3: 1.0, 0: 0.0, 2: 0.1}
    optimizer = torch.optim.SGD(
        [{"params": model[k].parameters(), "lr": rate} for k, rate in rates.items()]
    )
    method = group_lasso(begin="9it", strength=0.1)
    pruner = Pruner(model, torch.ones(1, 8), method, target=Target(params=0.5))
    pruner.step(optimizer)
    assert torch.equal(model[0].weight.detach().norm(dim=1), before[0])
    lost = before[1] - model[2].weight.detach().norm(dim=1)
    assert torch.allclose(lost, torch.tensor(0.1 * 0.1 * 8**0.5), atol=1e-6)


def test_without_the_learning_rate_nothing_is_guessed():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    method = group_lasso(begin="9it")
    pruner = Pruner(model, torch.ones(1, 8), method, target=Target(params=0.5))
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1)
    for optimizer in (None, other):
        with pytest.raises(ValueError, match=r"pass the optimizer .* pruner.step\(optimizer\)"):
            pruner.step(optimizer)


@pytest.mark.parametrize("penalty", [ScaleL1, GroupLasso])
def test_a_strength_is_above_zero(penalty):
    with pytest.raises(ValueError, match="strength must be above 0, got 0"):
        penalty(0)


@pytest.mark.parametrize(
    "method", [slimming(begin="20it", strength=0.2), group_lasso(begin="20it", strength=0.3)]
)
def test_units_get_small_before_they_go_and_not_after(method):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pruner = Pruner(model, X, method, target=Target(sparsity=0.3))

    def size():
        tensor = model[1].weight if method.name == "slimming" else model[0].weight
        return tensor.detach().abs().sum().item()

    before = size()
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(X).square().mean() * 0 + pruner.penalty()
        loss.backward()
        optimizer.step()
        pruner.step(optimizer)
    assert size() < 0.8 * before
    assert pruner.penalty() == 0.0
    after = size()
    pruner.step(optimizer)
    assert size() == after
    assert pruner.finish().report.reached == pytest.approx(0.3, abs=0.1)
