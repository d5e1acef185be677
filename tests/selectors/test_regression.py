"""LASSO by its optimality conditions, and layers fitted anew against least squares by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunus import Calibration, prune
from prunus.methods import l1_filter, regression
from prunus.selectors import Regression
from prunus.selectors.reconstruction.lasso import chosen, lasso
from prunus.selectors.reconstruction.watch import Watch, missing


def moments(z, t):
    return z.T @ z / len(z), z.T @ t / len(z)


def test_on_an_orthonormal_design_a_lasso_is_a_soft_threshold():
    gram, moment = np.eye(4), np.array([3.0, -0.5, -2.0, 1.0])
    found = lasso(gram, moment, 1.0, np.zeros(4))
    assert found.tolist() == [2.0, 0.0, -1.0, 0.0]


@given(st.integers(1, 8), st.integers(1, 12), st.floats(0.05, 1), st.integers(0, 2**16))
def test_what_is_found_meets_the_conditions_of_the_optimum(channels, rows, share, seed):
    """For every beta: the slope is the penalty with its sign, or within it where beta is zero."""
    generator = np.random.default_rng(seed)
    z, t = generator.normal(size=(rows, channels)), generator.normal(size=rows)
    z[:, 0] = z[:, -1]  # some are alike
    gram, moment = moments(z, t)
    top = np.abs(moment).max()
    penalty = share * top
    beta = lasso(gram, moment, penalty, generator.normal(size=channels))
    slope = moment - gram @ beta
    assert (np.abs(slope) <= penalty + 1e-5 * top).all()
    live = beta != 0
    np.testing.assert_allclose(slope[live], penalty * np.sign(beta[live]), atol=1e-5 * top)


@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 2**16))
def test_exactly_so_many_are_chosen(channels, rows, seed):
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(rows, channels)) * generator.integers(0, 2, channels)
    gram, moment = (torch.from_numpy(x) for x in moments(z, z.sum(1)))
    for count in {1, channels // 2, channels} - {0}:
        assert int(chosen(gram, moment, count).sum()) == count


def test_of_up_to_a_tenth_more_the_largest_stay():
    """Orthonormal: a threshold leaves the largest moments, whatever the penalty was."""
    moment = torch.from_numpy(np.random.default_rng(0).permutation(40) + 1.0)
    kept = chosen(torch.eye(40).double(), moment, 20)
    assert kept.tolist() == (moment > 20).tolist()


def test_the_penalty_leaves_between_as_many_and_a_tenth_more(monkeypatch):
    tried = []

    def spied(*given):
        tried.append(lasso(*given))
        return tried[-1]

    monkeypatch.setattr("prunus.selectors.reconstruction.lasso.lasso", spied)
    z = (torch.randn(400, 60).double().relu() * torch.rand(60)).numpy()
    gram, moment = (torch.from_numpy(x) for x in moments(z, z.sum(1)))
    kept = chosen(gram, moment, 30).numpy()
    (left,) = [np.abs(beta) for beta in tried if 30 <= np.count_nonzero(beta) <= 33]
    assert kept.sum() == 30 and left[kept].min() > left[~kept].max()


def test_a_channel_that_another_can_stand_for_goes():
    z = torch.randn(200, 3).double()
    z = torch.cat([z, 0.9 * z[:, :1]], dim=1)
    gram, moment = z.T @ z / 200, z.T @ z.sum(1) / 200
    assert chosen(gram, moment, 3).tolist() == [True, True, True, False]


def chain():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)).double()


def test_weight_and_bias_are_those_of_least_squares():
    model, x = chain(), torch.randn(60, 3).double()
    method = regression(ratios={"0": 0.5}, round_to=1)
    result = prune(model, x[:1], method=method, calibration=Calibration([x[:30], x[30:]]))
    keep = result.mask["0.bias"]
    assert int(keep.sum()) == 4 and result.patch.keys() == {"2.weight", "2.bias"}
    hidden = model[1](model[0](x)).detach()[:, keep]
    design = torch.cat([hidden, torch.ones(60, 1).double()], dim=1)
    expected = torch.linalg.lstsq(design, model(x).detach()).solution.T
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(result.model[2].weight.detach(), expected[:, :4], **close)
    torch.testing.assert_close(result.model[2].bias.detach(), expected[:, 4], **close)


@pytest.mark.parametrize("groups", [1, 2])
def test_channels_that_are_there_twice_go_without_a_trace(groups):
    model = nn.Sequential(
        *(nn.Conv2d(4, 8, 3, padding=1, groups=groups), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 16, 3)),
    ).eval()
    with torch.no_grad():  # alike in what they compute, and nearly in what is made of it
        for made in (model[0].weight, model[0].bias, model[3].weight):
            halves = made.unflatten(0, (groups, 2, -1))
            halves[:, 1] = halves[:, 0]
        halves = model[3].weight.unflatten(1, (2, -1))
        halves[:, 1] = halves[:, 0] / 2
        halves = model[6].weight.unflatten(1, (groups, 2, -1))
        halves[:, :, 1] = halves[:, :, 0] / 2
    x = torch.randn(60, 4, 4, 4)
    data = Calibration([x[:30], x[30:]])
    method = regression(ratios={"*": 0.5}, round_to=1, samples=20)
    result = prune(model, x[:1], method=method, calibration=data)
    assert result.model[0].out_channels == 4 and result.model[3].out_channels == 4
    assert result.patch.keys() == {"3.weight", "6.weight", "6.bias"}
    torch.testing.assert_close(result.model(x), model(x), rtol=1e-3, atol=1e-3)


class Residual(nn.Module):
    """Two residual blocks; the sum is written into the branch's output, or made anew."""

    def __init__(self, norm, inplace):
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 4)
        self.three, self.four = nn.Linear(4, 8), nn.Linear(8, 4)
        self.norm = nn.BatchNorm1d(4) if norm else nn.Identity()
        if norm:
            nn.init.uniform_(self.norm.weight)
            nn.init.uniform_(self.norm.running_var)
        self.inplace = inplace

    def forward(self, x):
        x = x + self.two(self.one(x).relu())
        out = self.norm(self.four(self.three(x).relu()))
        if self.inplace:
            out += x
            return out
        return x + out


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_the_last_layer_of_a_branch_makes_up_for_the_shortcut(norm, inplace):
    model = Residual(norm, inplace).double().eval()
    x = torch.randn(60, 4).double()
    method = regression(ratios={"one": 0.75, "three": 0.5}, round_to=1)
    result = prune(model, x[:1], method=method, calibration=Calibration([x]))
    small = result.model
    with torch.no_grad():
        stream = x + small.two(small.one(x).relu())
        design = torch.cat([small.three(stream).relu(), torch.ones(60, 1).double()], dim=1)
        wanted = model(x) - stream  # Y1 - Y1' + Y2
        if norm:
            scale = (model.norm.running_var + model.norm.eps).rsqrt() * model.norm.weight
            wanted = (wanted - model.norm.bias) / scale + model.norm.running_mean
        expected = torch.linalg.lstsq(design, wanted).solution.T
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(small.four.weight.detach(), expected[:, :-1], **close)
    torch.testing.assert_close(small.four.bias.detach(), expected[:, -1], **close)


def test_only_sums_of_the_output_as_it_is_are_followed():
    class Squared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return self.layer(x).square_() + x

    model, x = Squared(), torch.randn(3, 2)
    passage = Watch(model, ["layer"]).run(x)["layer"]
    assert passage.other is None
    torch.testing.assert_close(passage.made, model.layer(x).detach())
    lacking, factor = missing(model.layer, passage, passage)
    assert not lacking.any() and lacking.shape == (3, 2, 1) and factor.tolist() == [1.0, 1.0]
    assert not model.layer._forward_hooks


def test_a_run_ends_when_nothing_more_can_happen_to_an_output():
    ran = []

    class Further(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)
            self.relu, self.last = nn.ReLU(), nn.Linear(2, 2)
            self.last.register_forward_hook(lambda *_: ran.append(1))

        def forward(self, x, held=False):
            y = self.norm(self.layer(x))
            z = self.last(self.relu(y)) if held else None
            y = y + x
            return self.last(self.relu(y)) if z is None else z + y

    model, x = Further(), torch.randn(3, 2)
    once, held = (Watch(model, ["layer"]).run((x, held))["layer"] for held in (False, True))
    assert len(ran) == 1  # on the way to the sum, not behind it
    for passage in (once, held):
        torch.testing.assert_close(passage.other, x)
        assert passage.scale is not None


def test_errors_do_not_add_up():
    """The second layer is fitted to what the network was, on what the first has left."""
    model = nn.Sequential(
        *(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)),
    )
    x = torch.randn(300, 3)

    def error(method):
        result = prune(model, x[:1], method=method, calibration=Calibration([x]))
        return (result.model(x) - model(x)).square().mean()

    settings = {"ratios": {"*": 0.5}, "round_to": 1}
    assert error(regression(**settings)) < 0.2 * error(l1_filter(**settings))


def test_bad_settings_and_samples_are_refused():
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        Regression(samples=0)
    with pytest.raises(
        ValueError, match="what '2' reads or computes on the calibration is not finite"
    ):
        prune(
            *(chain(), torch.ones(1, 3).double()),
            method=regression(ratios={"0": 0.5}, round_to=1),
            calibration=Calibration([torch.full((2, 3), float("inf")).double()]),
        )
