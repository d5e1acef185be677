"""The sweep over columns against brute force: explicit inverses, one weight at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from prunus import Calibration, Target, prune
from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.methods import magnitude, sparsegpt
from prunus.selectors import ColumnSweep
from prunus.selectors.reconstruction.column_sweep import sweep
from prunus.space import Structured, trace


def layer(rows, columns, samples=40, groups=1, seed=0):
    """Return weights and a Hessian of inputs that depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, columns, columns, generator=generator).double()
    x = torch.randn(groups, samples, columns, generator=generator).double() @ mix
    weight = torch.randn(groups, rows, columns, generator=generator).double()
    return weight, x.transpose(1, 2) @ x / samples + 0.01 * torch.eye(columns).double()


def evidence(model, x):
    return Evidence({}, torch.Generator(), model, x, Calibration([x]))


def surgery(weight, hessian, choose):
    """Optimal brain surgery over the columns to come, with their Hessian inverted anew each time.

    `choose` is given the column and, for it and all to its right, what removing them would cost.
    """
    w, h = weight.numpy().copy(), hessian.numpy()
    keep = np.ones(w.shape, dtype=bool)
    for q in range(w.shape[1]):
        costs = [w[:, k] ** 2 / np.linalg.inv(h[k:, k:])[0, 0] for k in range(q, w.shape[1])]
        choose(q, np.stack(costs, axis=1), keep)
        inverse = np.linalg.inv(h[q:, q:])
        for row in range(len(w)):
            if not keep[row, q]:
                w[row, q:] -= w[row, q] / inverse[0, 0] * inverse[0]
                w[row, q] = 0
    return torch.from_numpy(w), torch.from_numpy(keep)


@pytest.mark.parametrize("block", [2, 3, 8, 128])
def test_a_share_of_each_block_goes_as_brute_force_says(block):
    weight, hessian = layer(5, 8)

    def choose(q, costs, keep):
        if q % block == 0:
            width = min(block, 8 - q)
            due = round(0.4 * 5 * (q + width)) - int((~keep).sum())
            least = np.argsort(costs[:, :width], axis=None)[:due]
            for row, k in zip(*np.unravel_index(least, (5, width)), strict=True):
                keep[row, q + k] = False

    expected, kept = surgery(weight[0], hessian[0], choose)
    found, keep = sweep(weight, hessian, 0.4, None, block)
    assert torch.equal(keep[0], kept) and int((~keep).sum()) == 16
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("block", [1, 4, 6, 128])
def test_n_of_m_go_as_brute_force_says_whatever_the_block(block):
    weight, hessian = layer(5, 12)

    def choose(q, costs, keep):
        if q % 4 == 0:
            for row in range(5):
                keep[row, q + np.argsort(costs[row, :4])[:2]] = False

    expected, kept = surgery(weight[0], hessian[0], choose)
    found, keep = sweep(weight, hessian, 0.5, "2:4", block)
    assert torch.equal(keep[0], kept)
    torch.testing.assert_close(found[0], expected)
    assert (keep.view(5, 3, 4).sum(2) == 2).all() and (found != 0).equal(keep)


def test_what_is_left_of_the_first_columns_is_the_optimum():
    """Where only the first columns go, the others are the least squares fit without them."""
    weight, hessian = layer(1, 6)
    weight[..., :2] = 1e-3  # cheap
    found, keep = sweep(weight, hessian, 2 / 6, None, 128)
    assert keep.tolist() == [[[False, False, True, True, True, True]]]
    h, w = hessian[0], weight[0, 0]
    expected = w[2:] + torch.linalg.solve(h[2:, 2:], h[2:, :2] @ w[:2])
    torch.testing.assert_close(found[0, 0, 2:], expected)


def test_groups_of_a_convolution_are_layers_of_their_own():
    weight, hessian = layer(3, 8, groups=2)
    found, keep = sweep(weight, hessian, 0.5, "1:2", 4)
    for g in range(2):
        alone, kept = sweep(weight[g : g + 1], hessian[g : g + 1], 0.5, "1:2", 4)
        torch.testing.assert_close(found[g : g + 1], alone)
        assert torch.equal(keep[g : g + 1], kept)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.77, 0.999])
def test_a_layer_loses_exactly_its_share_but_never_all(share):
    weight, hessian = layer(3, 10)
    found, keep = sweep(weight, hessian, share, None, 4)
    assert int((~keep).sum()) == min(round(share * 30), 29)
    assert share or torch.equal(found, weight)


def convolutional():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 16, 4)),
    )


@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_outputs_stay_nearer_than_by_magnitude(pattern):
    model, x = convolutional(), torch.randn(500, 3, 6, 6)
    x = x + torch.nn.functional.avg_pool2d(x, 3, 1, 1) * 3  # neighbours depend on each other
    data = Calibration([x[:200], x[200:400]])
    fresh, target = x[400:], Target(sparsity=0.5)

    def error(method):
        result = prune(model, x[:1], method=method, target=target, calibration=data)
        return float((result.model(fresh) - model(fresh)).detach().square().mean())

    assert error(sparsegpt(pattern=pattern)) < 0.7 * error(magnitude(scope="layer"))


def test_a_pattern_is_of_adjacent_inputs_at_each_place_of_a_kernel():
    model, x = convolutional(), torch.randn(20, 3, 6, 6)
    mask = prune(model, x[:1], method=sparsegpt(pattern="2:4"), calibration=Calibration([x])).mask
    assert mask["0.weight"].all()  # of three inputs
    assert (mask["2.weight"].sum(1) == 2).all()  # of four


def test_each_layer_is_given_what_the_pruned_ones_before_make():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), torch.randn(50, 4)
    result = prune(
        model, x[:1], method=sparsegpt(), target=Target(sparsity=0.5), calibration=Calibration([x])
    )
    with torch.no_grad():
        hidden = torch.relu(result.model[0](x)).double()
    h = hidden.T @ hidden
    h = h + 0.01 * h.diagonal().mean() * torch.eye(6)
    found, keep = sweep(model[2].weight.detach().double()[None], h[None], 0.5, None, 128)
    torch.testing.assert_close(
        result.model[2].weight.detach().double(), found[0], rtol=1e-5, atol=0
    )
    assert torch.equal(result.mask["2.weight"], keep[0])
    assert result.patch.keys() == {"0.weight", "2.weight"}


def test_inputs_that_are_always_zero_cost_nothing():
    model = nn.Sequential(nn.Linear(4, 3))
    nn.init.constant_(model[0].weight, -0.5)
    x = torch.randn(20, 4) * torch.tensor([1.0, 0.0, 1.0, 0.0])
    method, target = sparsegpt(), Target(sparsity=0.5)
    kept = prune(model, x, method=method, target=target, calibration=Calibration([x])).mask
    assert kept["0.weight"].tolist() == [[True, False, True, False]] * 3
    nothing = Calibration([x * 0])
    assert prune(model, x, method=method, target=target, calibration=nothing).report.reached == 0.5


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"pattern": "4:2"}, "pattern must be 'N:M' with N below M"),
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"damping": 0.0}, "damping must be above 0, got 0"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        ColumnSweep(**setting)


def test_what_cannot_be_done_is_said():
    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 3))

        def forward(self, x):
            return nn.functional.linear(x, self.weight)

    x = torch.ones(1, 3)
    data = Calibration([x])
    hidden = nn.Sequential(Written())
    with pytest.raises(ValueError, match=r"0\.weight is not the weight of a linear layer"):
        prune(hidden, x, method="sparsegpt", calibration=data)
    with pytest.raises(TargetError, match=r"the pattern 2:4 removes 0\.5 of the weights"):
        prune(
            *(nn.Linear(4, 2), torch.ones(1, 4)),
            method=sparsegpt(pattern="2:4"),
            target=Target(sparsity=0.7),
            calibration=data,
        )
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    space = trace(model, x)
    with pytest.raises(ValueError, match="columns are of single weights, but '0' has others"):
        ColumnSweep().select(space, Structured().groups(space), {}, None, evidence(model, x))
