"""Scores from data against values worked out by hand or by brute force."""

from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunus import prune
from prunus.criteria import (
    ActiveShare,
    Calibration,
    Connection,
    Curvature,
    Evidence,
    GradientFlow,
    InputNorm,
    MedianDistance,
    Rank,
    SynapticFlow,
    Taylor,
)
from prunus.space import Structured, Unstructured, trace


def evidence(model, batches, loss=F.mse_loss, example=None, limit=10):
    weights = {name: p.detach() for name, p in model.named_parameters()}
    if example is None:
        example = batches[0][0] if isinstance(batches[0], tuple) else batches[0]
    return Evidence(weights, torch.Generator(), model, example, Calibration(batches, loss, limit))


def linear(*rows):
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
    return layer


def weights_of(model, x):
    return Unstructured().groups(trace(model, x))


def test_on_a_quadratic_the_saliency_is_what_the_loss_gains():
    """OBD's promise: at the minimum of a quadratic with a diagonal Hessian, exactly."""
    x = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    model = linear([2.0, -1.0])
    data = [(x, x @ torch.tensor([[2.0], [-1.0]]))]
    (scores,) = (
        Curvature(hessian="exact").score(weights_of(model, x), evidence(model, data)).values()
    )

    for k in range(2):
        without = model.weight.detach().clone()
        without[0, k] = 0
        gained = F.mse_loss(x @ without.T, data[0][1])
        torch.testing.assert_close(scores[k], gained)


def test_the_exact_hessian_is_that_of_autograd():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, y = torch.randn(5, 3), torch.randn(5, 2)
    scores = Curvature(hessian="exact").score(weights_of(model, x), evidence(model, [(x, y)]))

    def loss(weight):
        return F.mse_loss(
            torch.func.functional_call(model, {"0.weight": weight.view(4, 3)}, (x,)), y
        )

    w = model[0].weight.detach().reshape(-1)
    h = torch.autograd.functional.hessian(loss, w).diagonal()
    torch.testing.assert_close(scores["0.weight"], h.clamp(min=0) * w.square() / 2)


def test_a_negative_second_derivative_counts_as_none():
    x, y = torch.ones(1, 2), torch.ones(1, 1)
    model = linear([1.0, 2.0])
    given = evidence(model, [(x, y)], lambda out, t: -F.mse_loss(out, t))
    assert Curvature(hessian="exact").score(weights_of(model, x), given)["weight"].tolist() == [
        0,
        0,
    ]


def test_targets_may_be_dicts():
    model, x, y = linear([1.0, 2.0]), torch.randn(4, 2), torch.randn(4, 1)
    plain = evidence(model, [(x, y)])
    given = evidence(model, [(x, {"y": y})], lambda out, t: F.mse_loss(out, t["y"]))
    one, two = (Curvature().score(weights_of(model, x), e)["weight"] for e in (plain, given))
    torch.testing.assert_close(one, two)
    with pytest.raises(ValueError, match="no tensor with a batch dimension, but str"):
        Curvature().score(weights_of(model, x), evidence(model, [(x, "y")]))


def test_labels_in_a_batch_are_targets():
    x, y = torch.ones(2, 3), torch.ones(2)
    ((inputs, targets),) = Calibration([{"x": x, "labels": y}])
    assert list(inputs) == ["x"] and targets is y
    ((inputs, targets),) = Calibration([{"x": x}])
    assert list(inputs) == ["x"] and targets is None
    with pytest.raises(ValueError, match=r"got 3 parts; give several inputs as \(\(a, b\)"):
        list(Calibration([(x, y, y)]))


def test_fisher_is_the_mean_square_over_samples_not_batches():
    model = linear([1.0, 2.0])
    x, y = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.zeros(2, 1)
    expected = torch.zeros(2)
    for k in range(2):
        g = 2 * (x[k] @ model.weight[0].detach()) * x[k]
        expected += g.square() / 2
    expected *= model.weight[0].detach().square() / 2

    for batches in ([(x, y)], [(x[:1], y[:1]), (x[1:], y[1:])]):
        (scores,) = Curvature().score(weights_of(model, x), evidence(model, batches)).values()
        torch.testing.assert_close(scores, expected)


def test_taylor_is_the_squared_sum_over_a_filter():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    batches = [(torch.randn(5, 3), torch.randn(5, 2)) for _ in range(2)]
    groups = Structured().groups(trace(model, batches[0][0]))

    expected = torch.zeros(4)
    for x, y in batches:
        (g,) = torch.autograd.grad(F.mse_loss(model(x), y), model[0].weight)
        expected += (g * model[0].weight.detach()).sum(1).square() / 2

    (scores,) = Taylor().score(groups, evidence(model, batches)).values()
    torch.testing.assert_close(scores, expected)


def test_frozen_parameters_are_scored_and_stay_frozen():
    model = linear([1.0, 2.0])
    model.weight.requires_grad_(False)
    x = torch.tensor([[1.0, 2.0]])
    given = evidence(model, [(x, torch.zeros(1, 1))])
    scores = Connection().score(weights_of(model, x), given)["weight"]
    assert scores.tolist() == [10.0, 40.0]
    assert not model.weight.requires_grad


@pytest.mark.parametrize("criterion", [Connection(), GradientFlow(), Taylor()])
def test_neither_dropout_nor_a_shuffle_looks_at_the_global_random_state(criterion):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2))
    data = TensorDataset(torch.randn(32, 4), torch.randn(32, 2))
    loader, x = DataLoader(data, batch_size=8, shuffle=True), torch.randn(2, 4)
    found = []
    for seed, own in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(seed)
        given = evidence(model, loader, example=x, limit=2)
        given.generator.manual_seed(own)
        before = torch.get_rng_state()
        found.append(criterion.score(weights_of(model, x), given)["0.weight"])
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_a_connection_adds_up_the_gradient_before_the_magnitude():
    model = linear([3.0])
    x = torch.tensor([[1.0]])
    batches = [(x, torch.tensor([[2.0]])), (x, torch.tensor([[4.0]]))]  # gradients 2 and -2
    (scores,) = Connection().score(weights_of(model, x), evidence(model, batches)).values()
    assert scores.tolist() == [0.0]


def test_gradient_flow_tells_how_the_gradient_would_change():
    """Removing a weight changes |g|^2 by -2 w (H g) to first order: exact for a small weight."""
    x = torch.tensor([[1.0, 0.5], [0.2, 2.0]])
    y = torch.tensor([[1.0], [3.0]])
    model = linear([1e-3, 0.7])
    (scores,) = GradientFlow().score(weights_of(model, x), evidence(model, [(x, y)])).values()

    def flow(weight):
        weight = weight.requires_grad_()
        (g,) = torch.autograd.grad(F.mse_loss(x @ weight.T, y), weight)
        return g.square().sum()

    whole = flow(model.weight.detach().clone())
    without = flow(torch.tensor([[0.0, 0.7]]))
    torch.testing.assert_close(without - whole, -2 * scores[0], rtol=1e-2, atol=1e-6)


def test_gradient_flow_over_two_batches_is_that_over_both_in_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    x, y = torch.randn(8, 4).double(), torch.randn(8, 2).double()
    groups = weights_of(model, x)
    one = GradientFlow().score(groups, evidence(model, [(x, y)]))
    two = GradientFlow().score(groups, evidence(model, [(x[:4], y[:4]), (x[4:], y[4:])]))
    for name in one:
        torch.testing.assert_close(one[name], two[name])


def test_no_bias_enters_the_gradient_flow():
    """The loss is b^2 + (w - 3)^2 / 2 + w b: of w alone, H g is w - 3 + b."""
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(5.0)

    def loss(out, _):
        w, b = model.weight.sum(), model.bias.sum()
        return b.square() + (w - 3).square() / 2 + w * b + 0 * out.sum()

    x = torch.ones(1, 1)
    model_groups = weights_of(model, x)
    (scores,) = GradientFlow().score(model_groups, evidence(model, [(x, x)], loss)).values()
    assert scores.tolist() == [3.0]  # with the bias it would be 14


def test_synaptic_flow_is_conserved():
    """What flows into a layer flows out of it: the sums over all weights of each layer agree."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 4, bias=False)),
        *(nn.ReLU(), nn.Linear(4, 2, bias=False)),
    )
    x = torch.randn(2, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    given = Evidence(
        {name: p.detach() for name, p in model.named_parameters()}, torch.Generator(), model, x
    )
    scores = SynapticFlow().score(weights_of(model, x), given)

    first, second, third = (float(score.sum()) for score in scores.values())
    assert first == pytest.approx(second) == pytest.approx(third)
    weight = [before[f"{k}.weight"].abs() for k in (0, 2, 4)]
    assert first == pytest.approx(float((weight[2] @ weight[1] @ weight[0]).sum()) * 2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_behind_a_softmax_no_flow_is_left(last):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4), last)
    with pytest.raises(ValueError, match=r"do not grow with the weights.*without it"):
        prune(model, torch.randn(2, 8), method="synflow")


def test_the_filter_in_the_middle_is_the_replaceable_one():
    model = nn.Sequential(linear([0.0, 0.0], [1.0, 0.0], [5.0, 0.0]), linear([1.0, 1.0, 1.0]))
    x = torch.ones(1, 2)
    (scores,) = (
        MedianDistance()
        .score(Structured().groups(trace(model, x)), evidence(model, [(x, x)]))
        .values()
    )
    assert scores.tolist() == [6.0, 5.0, 9.0]


def test_zeros_are_counted_where_the_next_layer_reads():
    model = nn.Sequential(linear([1.0], [-1.0]), nn.ReLU(), linear([1.0, 1.0]))
    x = torch.tensor([[1.0], [2.0], [3.0], [-1.0]])
    groups = Structured().groups(trace(model, x))
    (scores,) = ActiveShare().score(groups, evidence(model, [x])).values()
    assert scores.tolist() == [0.75, 0.25]


@pytest.mark.parametrize("limit", [1, 2])
def test_only_so_many_batches_are_read(limit):
    model = nn.Sequential(linear([1.0], [-1.0]), nn.ReLU(), linear([1.0, 1.0]))
    x = torch.tensor([[1.0]])
    data = Calibration([x, -x, -x], limit=limit)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    given = Evidence(weights, torch.Generator(), model, x, data)
    (scores,) = ActiveShare().score(Structured().groups(trace(model, x)), given).values()
    assert scores.tolist() == [1 / limit, 1 - 1 / limit]


def test_ranks_of_maps_and_through_a_flatten():
    class Maps(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(18, 1)

        def forward(self, x):
            return self.fc(self.conv(x).flatten(1))

    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False, groups=1), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2).view(2, 2, 1, 1))
    x = torch.stack([torch.eye(3), torch.ones(3, 3)])[None]
    (scores,) = Rank().score(Structured().groups(trace(model, x)), evidence(model, [x])).values()
    assert scores.tolist() == [3.0, 1.0]

    flat = Maps()
    x = torch.ones(2, 1, 3, 3)
    (share,) = (
        ActiveShare().score(Structured().groups(trace(flat, x)), evidence(flat, [x])).values()
    )
    assert share.tolist() == [1.0, 1.0]


class Flattened(nn.Module):
    """Maps of 2 x 3 pixels that a linear layer reads as rows, in one of several ways."""

    def __init__(self, flatten):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(1, 5, 3), nn.Linear(30, 4)
        self.flatten = flatten
        nn.init.constant_(self.conv.bias, -0.8)  # some maps are zero

    def maps(self, x):
        return F.max_pool2d(F.relu(self.conv(x)), 2)

    def forward(self, x):
        return self.fc(F.dropout(self.flatten(self.maps(x)), 0.5, self.training))


@pytest.mark.parametrize(
    "flatten",
    [
        lambda maps: maps.flatten(1),
        lambda maps: maps.view(len(maps), 5, 6).reshape(-1, 30).relu(),
        lambda maps: maps.permute(0, 2, 3, 1).flatten(1),
        lambda maps: maps.permute(0, 2, 3, 1).reshape(-1, 6, 5).flatten(1),
    ],
)
def test_flattened_maps_are_put_together_again(flatten):
    model = Flattened(flatten)
    batches = [torch.randn(4, 1, 6, 8), torch.randn(2, 1, 6, 8)]
    groups = Structured().groups(trace(model, batches[0]))
    maps = torch.cat([model.maps(x).detach() for x in batches])
    ranks = [[int(torch.linalg.matrix_rank(one)) for one in channels] for channels in maps]
    assert {rank for row in ranks for rank in row} == {0, 1, 2}
    (found,) = Rank().score(groups, evidence(model, batches)).values()
    torch.testing.assert_close(found, torch.tensor(ranks).float().mean(dim=0))
    (found,) = ActiveShare().score(groups, evidence(model, batches)).values()
    torch.testing.assert_close(found, (maps != 0).float().mean(dim=(0, 2, 3)))


def test_units_of_two_channels_are_flattened_as_two_maps():
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 2, groups=2, bias=False), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(24, 2)),
    )
    x = torch.randn(3, 1, 3, 4)
    group = next(g for g in Structured().groups(trace(model, x)) if g.name == "1")
    assert group.size == 2 and group.channels == 2
    ranks = torch.linalg.matrix_rank(model[:3](x)).float().mean(dim=0)
    found = Rank().score([group], evidence(model, [x]))["1"]
    torch.testing.assert_close(found, torch.stack([ranks[[0, 2]], ranks[[1, 3]]]).mean(dim=1))


def test_rows_of_tokens_are_no_maps():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 6, 3)
    groups = Structured().groups(trace(model, x))
    (found,) = Rank().score(groups, evidence(model, [x])).values()
    torch.testing.assert_close(found, (model[:2](x) > 0).float().mean(dim=(0, 1)))


def test_the_network_is_run_to_the_last_layer_that_is_looked_at():
    ran = []

    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = (nn.Linear(2, 2) for _ in range(3))
            self.third.register_forward_hook(lambda *_: ran.append(1))

        def forward(self, x, deep=True):
            with suppress(Exception):  # what ends the run is none of its business
                x = self.second(self.first(x)) if deep else self.first(x)
            return self.third(x)

    model = Stubborn()
    x = torch.ones(1, 2)
    given = evidence(model, [x, x])
    for found in given.inputs(["second", "first", "second"]):
        torch.testing.assert_close(found["second"], [model.first(x).detach()])
    assert len(ran) == 1  # for the example, to see how often layers are called
    shallow = evidence(model, [{"x": x, "deep": False}], example={"x": x, "deep": False})
    assert [list(found) for found in shallow.inputs(["first", "second"])] == [["first"]]
    assert len(ran) == 3


def test_wanda_weighs_by_the_norm_of_the_inputs():
    model = linear([1.0, -2.0], [3.0, 0.5])
    batches = [torch.tensor([[3.0, 1.0]]), torch.tensor([[4.0, 0.0]])]  # norms 5 and 1
    groups = weights_of(model, batches[0])
    model = nn.Sequential(model)
    groups = weights_of(model, batches[0])
    (scores,) = InputNorm().score(groups, evidence(model, batches)).values()
    assert scores.tolist() == [5.0, 2.0, 15.0, 0.5]


class Twice(nn.Module):
    """One weight that multiplies x and then 10 x, in one layer or in two that are tied."""

    def __init__(self, tied):
        super().__init__()
        self.first = linear([1.0, 1.0], [1.0, 1.0])
        self.second = nn.Linear(2, 2, bias=False) if tied else self.first
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.first(x) + self.second(10 * x.flip(1))


@pytest.mark.parametrize("tied", [False, True])
def test_wanda_sees_every_place_of_a_weight(tied):
    x = torch.tensor([[3.0, 0.0]])
    model = Twice(tied)
    (scores,) = InputNorm().score(weights_of(model, x), evidence(model, [x, x])).values()
    torch.testing.assert_close(scores, torch.tensor([3.0, 30.0, 3.0, 30.0]) * 2**0.5)


def test_shares_and_ranks_of_what_no_batch_reaches_are_refused():
    class Skipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 2)

        def forward(self, x, deep=True):
            return self.second(self.first(x)) if deep else x

    model, x = Skipping(), torch.ones(1, 2)
    groups = Structured().groups(trace(model, x))
    given = evidence(model, [{"x": x, "deep": False}], example=x)
    with pytest.raises(ValueError, match="no batch of the calibration reaches 'second'"):
        ActiveShare().score(groups, given)


def test_of_a_grouped_convolution_each_group_reads_its_own_channels():
    model = nn.Sequential(nn.Conv1d(2, 2, 1, groups=2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    x = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]])
    (scores,) = InputNorm().score(weights_of(model, x), evidence(model, [x])).values()
    assert scores.tolist() == [5.0, 1.0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Calibration([1], limit=0), ValueError, "limit must be at least 1, got 0"),
        (lambda: Calibration(iter([1])), TypeError, "can be read several times, got list_iterator"),
        (lambda: Curvature(hessian="full"), ValueError, "hessian must be 'fisher' or 'exact'"),
    ],
)
def test_bad_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_what_is_missing_is_said():
    model, x = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), torch.ones(1, 2)
    groups = Structured().groups(trace(model, x))
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def given(batches):
        data = None if batches is None else Calibration(batches)
        return Evidence(weights, torch.Generator(), model, x, data)

    with pytest.raises(ValueError, match=r"pass calibration=prunus\.Calibration"):
        Taylor().score(groups, given(None))
    with pytest.raises(ValueError, match="the calibration has no batches"):
        Taylor().score(groups, given([]))
    with pytest.raises(ValueError, match=r"must yield pairs \(inputs, targets\)"):
        Taylor().score(groups, given([x]))
    with pytest.raises(ValueError, match="score weights, not channels"):
        InputNorm().score(groups, given([x]))
