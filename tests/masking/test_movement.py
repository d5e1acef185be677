"""Movement scores: gradients by hand, and masks that weights return from."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.masking import Movement, Site
from prunus.methods import movement
from prunus.space import Unstructured, trace

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def begun(model, **settings):
    space = trace(model, X)
    groups = Unstructured().groups(space)
    return Movement(**settings).on(Site(model, space, groups, Target(sparsity=0.5)))


def random_mask(model):
    generator = torch.Generator().manual_seed(1)
    return {n: torch.rand(p.shape, generator=generator) > 0.5 for n, p in model.named_parameters()}


def test_scores_get_the_gradient_of_the_masked_weight_times_the_weight():
    model = build()
    moves, mask = begun(model), random_mask(model)
    moves.set(mask)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    model(X).square().sum().backward()

    by_hand = build()
    with torch.no_grad():
        for layer, name in ((by_hand[0], "0.weight"), (by_hand[2], "2.weight")):
            layer.weight.mul_(mask[name])
    by_hand(X).square().sum().backward()
    parts = moves.values.grad.split([12, 8])
    for name, part in zip(("0.weight", "2.weight"), parts, strict=True):
        gradient = by_hand.get_parameter(name).grad
        torch.testing.assert_close(part.view_as(gradient), gradient * weights[name])
        torch.testing.assert_close(model.get_parameter(name).grad, gradient * mask[name])
        assert torch.equal(model.get_parameter(name), weights[name])
    assert (parts[0].view(4, 3)[~mask["0.weight"]] != 0).any()  # masked ones may return
    torch.testing.assert_close(model[0].bias.grad, by_hand[0].bias.grad)


def test_scores_rise_for_weights_that_move_away_from_zero():
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1.0]]))
    space = trace(model, X[:, :2])
    moves = Movement().on(Site(model, space, Unstructured().groups(space)))
    # descent makes the first larger, and the second, which is negative, larger too: nearer to zero
    (-model(torch.ones(1, 2))).sum().backward()
    moves.apply(0.1)
    assert moves.values.tolist() == pytest.approx([0.1, -0.1])


def test_steps_are_those_of_adam():
    model = build()
    moves = begun(model, speed=2.0)
    other = nn.Parameter(torch.zeros(20))
    adam = torch.optim.Adam([other], 0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        gradient = torch.randn(20, generator=generator)
        moves.values.grad, other.grad = gradient.clone(), gradient
        moves.apply(0.05)
        adam.step()
    torch.testing.assert_close(moves.values.detach(), other.detach())


def test_the_soft_variant_masks_below_its_threshold_and_pulls_scores_down():
    model = build()
    moves = begun(model, threshold=0.2, strength=5.0)
    assert float(moves.penalty().detach()) == 2.5
    with torch.no_grad():
        moves.values[:12] = -2.0  # sigmoid is 0.12
    assert torch.equal(model(X), model[2](torch.tanh(model[0].bias)).expand(5, 2))
    scores = moves.scores()
    assert (scores["0.weight"] < 0).all() and (scores["2.weight"] > 0).all()
    moves.penalty().backward()
    moves.apply(0.1)
    assert (moves.values[:12] < -2).all()


def test_what_the_threshold_leaves_is_what_stays_without_a_target():
    model = build()
    pruner = Pruner(model, X, movement(threshold=0.2, end="1it"))
    with torch.no_grad():
        pruner._masking.values.copy_(torch.linspace(-3, 1, 20))
    above = pruner._masking.values.detach().sigmoid() > 0.2
    expected = model(X)
    pruner.step()
    assert torch.equal(model[0].weight != 0, above[:12].view(4, 3))
    assert torch.equal(model[2].weight != 0, above[12:].view(2, 4))
    torch.testing.assert_close(model(X), expected)
    assert pruner.finish().report.asked is None


def test_masked_weights_keep_their_values_until_the_end():
    model = build()
    pruner = Pruner(model, X, movement(end="4it", every="1it"), target=Target(sparsity=0.5))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(1, 7):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
        pruner.step(optimizer)
        assert (model[0].weight == 0).sum() == (0 if step < 4 else 6)
    assert not model._forward_hooks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.5}, r"threshold must be in \(0, 0.5\), got 0.5"),
        ({"speed": -1}, "must not be below 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Movement(**settings)


def test_a_threshold_leaves_no_updates_to_plan():
    with pytest.raises(ValueError, match="leave out begin and every, got '2it' and '10it'"):
        movement(threshold=0.1, begin="2it")
    with pytest.raises(ValueError, match="leave out begin and every"):
        movement(threshold=0.1, every="5it")
