"""Samplers against enumeration, the published shares of pruned weights, and masks in training."""

import itertools

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.errors import TargetError
from prunus.masking import Gibbs
from prunus.masking.ising import chromatic, coupled, independent, quantile
from prunus.methods import gibbs

DRAWS = 40_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0, 0.37])
def test_the_quantile_is_interpolated(share):
    values = torch.randn(11, 7, generator=generator())
    assert quantile(values, share) == pytest.approx(float(torch.quantile(values, share)), abs=1e-6)


def states(sites):
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=sites)))


def shares(drawn):
    """How often each state was drawn, in the order of `states`."""
    number = (drawn.long() * 2 ** torch.arange(drawn.shape[1] - 1, -1, -1)).sum(dim=1)
    return torch.bincount(number, minlength=2 ** drawn.shape[1]) / len(drawn)


@pytest.mark.parametrize(("beta", "coupling"), [(1.0, 0.0), (0.7, 0.3), (2.0, 0.1), (0.5, -0.2)])
def test_kernels_are_drawn_from_the_enumerated_distribution(beta, coupling):
    field = torch.tensor([0.4, -0.9, 0.1, 0.6])
    x = states(4)
    pairs = x.sum(dim=1).square() - 4  # each pair counted twice
    exact = torch.softmax(-beta * (x @ field - coupling * pairs), dim=0)
    drawn = coupled(field.expand(DRAWS, 4), beta, coupling, generator())
    assert (shares(drawn) - exact).abs().max() < 0.01


def test_kernels_are_drawn_at_any_temperature():
    field = torch.tensor([[0.4, -0.9, 0.1] * 3])
    drawn = coupled(field, 1e6, 0.0, generator())
    assert drawn.tolist() == (field < 0).tolist()


def test_filters_are_drawn_from_the_stationary_distribution_of_the_published_conditionals():
    beta, coupling = 0.6, 0.5
    first, second = torch.tensor([0.3, -0.5]), torch.tensor([-0.2, 0.7])
    x = states(4)
    # the conditionals without the factor two belong to half of the energy
    energy = x @ torch.cat([first, second]) - coupling * x[:, :2].sum(1) * x[:, 2:].sum(1)
    exact = torch.softmax(-beta * energy / 2, dim=0)
    halves = first.expand(DRAWS, 2), second.expand(DRAWS, 2)
    drawn = torch.cat(chromatic(halves, torch.ones(DRAWS), beta, coupling, 30, generator()), dim=1)
    assert (shares(drawn) - exact).abs().max() < 0.01


def test_single_weights_follow_the_sigmoid():
    field = torch.tensor([-1.0, 0.0, 2.0])
    drawn = independent(field.expand(DRAWS, 3), 1.5, generator()).float().mean(dim=0)
    assert torch.allclose(drawn, torch.sigmoid(-1.5 * field), atol=0.01)


class OneLayer(nn.Sequential):
    """A convolution of 16 x 16 x 3 x 3, He-initialised."""

    def __init__(self):
        super().__init__(nn.Conv2d(16, 16, 3, bias=False), nn.Flatten(), nn.Linear(16, 2))
        with torch.no_grad():
            scale = (2 / 144) ** 0.5
            self[0].weight.copy_(torch.randn(16, 16, 3, 3, generator=generator()) * scale)


def pruned_share(hamiltonian, beta, draws=20):
    """The share of weights that a mask drops at this inverse temperature, p = 0.9."""
    model, x = OneLayer(), torch.randn(1, 16, 3, 3)
    low = torch.log10(torch.tensor(beta)).item()
    skip = () if hamiltonian == "filter" else ("2.*",)
    method = gibbs(hamiltonian=hamiltonian, end="10it", beta=(low, low), skip=skip)
    pruner = Pruner(model, x, method, target=Target(sparsity=0.9))
    sampled = pruner._masking
    weights = {one.name: one.rows(model[0].weight.detach()) for one in sampled._units}
    found = [sampled._sample(weights)["0.weight"] for _ in range(draws)]
    return 1 - float(torch.stack([x.float().mean() for x in found]).mean()), found[-1]


@pytest.mark.parametrize(
    ("hamiltonian", "beta", "expected"),
    [
        *(("weight", 1.0, 0.506), ("weight", 10.0, 0.557), ("weight", 100.0, 0.845)),
        *(("weight", 1e3, 0.899), ("weight", 1e4, 0.900)),
        *(("kernel", 1.0, 0.505), ("kernel", 1e3, 0.899), ("filter", 0.01, 0.49)),
    ],
)
def test_pruned_shares_are_those_computed_for_the_paper(hamiltonian, beta, expected):
    assert pruned_share(hamiltonian, beta)[0] == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("beta", [1.0, 10.0, 100.0])
def test_pruned_kernels_are_those_of_the_enumeration(beta):
    squares = OneLayer()[0].weight.detach().square().reshape(256, 9)
    field = torch.quantile(squares.mean(dim=1), 0.9) - squares
    x = states(9)
    energy = field @ x.T - 0.01 * (x.sum(dim=1).square() - 9)
    exact = (torch.softmax(-beta * energy, dim=1) @ ((1 - x) / 2)).mean()
    assert pruned_share("kernel", beta)[0] == pytest.approx(float(exact), abs=0.01)


@pytest.mark.parametrize(("beta", "coherent"), [(0.01, False), (1.0, True)])
def test_the_weights_of_a_filter_agree_beyond_the_transition(beta, coherent):
    mask = pruned_share("filter", beta)[1]
    agree = (mask == mask[:, :1]).all(dim=1)
    assert bool(agree.all()) is coherent
    assert bool(agree.any()) is coherent


@pytest.mark.parametrize("hamiltonian", ["weight", "kernel", "filter"])
def test_training_samples_and_evaluation_does_not(hamiltonian):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    before = [p.detach().clone() for p in model.parameters()]
    x = torch.randn(2, 3, 8, 8)
    skip = () if hamiltonian == "filter" else ("3.*",)
    method = gibbs(hamiltonian=hamiltonian, end="5it", skip=skip)
    pruner = Pruner(model, x, method, target=Target(sparsity=0.5))
    model.train()
    assert not torch.equal(model(x), model(x))
    model.eval()
    evaluated = model(x)
    assert torch.equal(evaluated, model(x))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    for _ in range(5):
        pruner.step()
    result = pruner.finish()
    assert torch.allclose(result.model(x), evaluated, atol=1e-6)  # evaluated as it ends
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_weights_under_a_mask_keep_their_values_and_decay():
    model = nn.Linear(40, 4, bias=False)
    pruner = Pruner(model, torch.ones(1, 40), gibbs(end="5it"), target=Target(sparsity=0.5))
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.5)
    model(torch.zeros(1, 40)).sum().backward()  # no gradient from the loss
    optimizer.step()
    pruner.step(optimizer)
    assert torch.allclose(model.weight, 0.95 * before)


def test_beta_rises_along_a_logarithm_and_then_stays():
    choice = Gibbs(ramp=0.5)
    assert choice.at(0.0) == 1
    assert choice.at(0.25) == pytest.approx(100)
    assert choice.at(0.5) == choice.at(1.0) == pytest.approx(1e4)
    assert Gibbs(hamiltonian="filter").at(0.0) == pytest.approx(10**-2.5)


def test_filters_of_one_channel_have_no_second_half():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    pruner = Pruner(
        model,
        torch.randn(1, 1, 4, 4),
        gibbs(hamiltonian="filter", end="2it"),
        target=Target(sparsity=0.5),
    )
    model(torch.randn(1, 1, 4, 4))
    pruner.step()
    pruner.step()
    assert pruner.finish().model[0].out_channels == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hamiltonian": "layer"}, "hamiltonian must be one of weight, kernel, filter"),
        ({"ramp": 0.0}, r"ramp must be in \(0, 1\], got 0.0"),
        ({"sweeps": 0}, "sweeps must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Gibbs(**fields)


def test_a_cost_is_no_target():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    with pytest.raises(TargetError, match="ask for a sparsity"):
        Pruner(
            model,
            torch.randn(1, 3, 8, 8),
            gibbs(hamiltonian="filter", end="5it"),
            target=Target(macs=0.5),
        )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("hamiltonian", ["weight", "kernel", "filter"])
def test_evaluation_masks_the_weights_as_they_are(hamiltonian, layer, layout):
    model = nn.Sequential(layer(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3))
    model.to(memory_format=layout)
    x = torch.randn(2, 8, 8, 8, generator=generator())
    method = gibbs(hamiltonian=hamiltonian, end="100it")
    Pruner(model, x, method, target=Target(sparsity=0.5))
    model.eval()
    other = nn.Sequential(layer(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()
    other.to(memory_format=layout)
    with torch.no_grad():
        model(x)
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator()))
        other.load_state_dict(model.state_dict())
        Pruner(other, x, method, target=Target(sparsity=0.5))
        assert torch.equal(model(x), other(x))


class Tagger(nn.Module):
    """A recurrent layer between two linear ones."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(6, 2)
        self.lstm = nn.LSTM(8, 6, batch_first=True)

    def forward(self, x):
        return self.last(self.lstm(self.first(x).relu())[0])


def test_units_that_are_no_filters_of_one_layer_stay_whole():
    method = gibbs(hamiltonian="filter", end="1it")
    pruner = Pruner(Tagger(), torch.randn(2, 3, 4), method, target=Target(sparsity=0.5))
    pruner.step()
    result = pruner.finish()
    assert (result.model.first.out_features, result.model.lstm.hidden_size) == (4, 6)
    reason = "is no filter of one layer, which masks are sampled for"
    assert {"name": "lstm", "channels": 6, "reason": reason} in result.report.frozen
