"""Agents against worked numbers and exact expectations, and what they learn by trial."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from prunus import Calibration, Target, prune
from prunus.criteria import Evidence
from prunus.criteria.calibration import share_right
from prunus.methods import try_and_learn
from prunus.selectors import PolicyGradient
from prunus.selectors.agent import Agent, normalised, reward, surrogate
from prunus.selectors.trials import Trials
from prunus.space import trace


@pytest.mark.parametrize(
    ("tolerance", "drop", "filters", "kept", "expected"),
    [(1.0, 0.5, 64, 8, 1.04), (2.0, 2.5, 64, 4, -0.69), (2.0, 2.0, 64, 1, 0.0)],
)
def test_the_reward_is_positive_within_the_tolerance_and_negative_beyond(
    tolerance, drop, filters, kept, expected
):
    found = reward(filters, kept, 90.0, 90.0 - drop, tolerance)
    assert found == pytest.approx(expected, abs=5e-3)


def test_keeping_everything_is_worth_nothing_and_helping_is_worth_more():
    assert reward(64, 64, 90.0, 90.0, 1.0) == 0
    assert reward(64, 32, 90.0, 91.0, 1.0) == pytest.approx(2 * math.log(2))


def test_the_score_function_gradient_is_that_of_the_expected_reward():
    logits = torch.tensor([0.3, -0.8, 1.2], dtype=torch.float64, requires_grad=True)
    actions = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    worth = torch.tensor([0.5, -1.0, 2.0, 0.1, 3.0, -2.0, 0.7, 1.5], dtype=torch.float64)
    kept = logits.sigmoid()
    chance = (actions * kept + (1 - actions) * (1 - kept)).prod(dim=1)
    (exact,) = torch.autograd.grad((chance * worth).sum(), logits, retain_graph=True)
    (found,) = torch.autograd.grad(surrogate(logits, actions, chance.detach() * worth), logits)
    assert torch.allclose(-found, exact, atol=1e-12)


def test_rewards_are_normalised_and_equal_ones_say_nothing():
    found = normalised(torch.tensor([1.0, 3.0]))
    assert torch.allclose(found, torch.tensor([-1.0, 1.0]))
    assert not normalised(torch.full((5,), 0.3)).any()


@pytest.mark.parametrize(("inputs", "convolutions"), [(3, 0), (16, 0), (17, 4)])
def test_wide_layers_are_read_by_convolutions(inputs, convolutions):
    agent = Agent(
        torch.randn(6, inputs * 9), inputs, start=0.8, generator=torch.Generator().manual_seed(0)
    )
    assert sum(isinstance(module, nn.Conv2d) for module in agent.modules()) == convolutions
    assert agent().sigmoid().detach().numpy() == pytest.approx(0.8, abs=0.05)


class Useful(nn.Module):
    """Of its six hidden units, only the first two reach the output."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2, 6)
        self.out = nn.Linear(6, 2)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.eye(2).repeat(3, 1))
            self.hidden.bias.zero_()
            self.out.weight.copy_(torch.cat([10 * torch.eye(2), torch.zeros(2, 4)], dim=1))
            self.out.bias.zero_()

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x)))


def samples(count=64):
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(1))
    return [(x, x.argmax(dim=1))]


def test_an_agent_learns_which_filters_are_needed():
    method = try_and_learn(tolerance=5.0, updates=150, trial_steps=0, settle_steps=0)
    model, x = Useful(), torch.rand(1, 2)
    result = prune(model, x, method=method, calibration=Calibration(samples()))
    assert result.model.hidden.out_features < 6
    kept = result.mask["hidden.weight"].any(dim=1)
    assert kept[:2].all()
    assert (result.model(samples()[0][0]).argmax(dim=1) == samples()[0][1]).all()


def test_a_larger_tolerance_gives_a_smaller_network():
    widths = []
    for tolerance in (1.0, 120.0):
        method = try_and_learn(tolerance=tolerance, updates=150, trial_steps=0, settle_steps=0)
        result = prune(
            Useful(), torch.rand(1, 2), method=method, calibration=Calibration(samples())
        )
        widths.append(result.model.hidden.out_features)
    assert widths[1] < widths[0]


def trials(model, **options):
    evidence = Evidence(
        weights={},
        generator=torch.Generator(),
        model=model,
        calibration=Calibration(samples(), **options),
    )
    return Trials(trace(model, torch.rand(1, 2)), evidence, steps=3, rate=0.1)


def test_a_trial_leaves_no_trace_and_is_made_once():
    model = Useful()
    ran = trials(model)
    before = ran.weights()
    kept = torch.tensor([True, False, True, True, True, True])
    first = ran.of("hidden", kept)
    assert first < ran.measure()
    after = ran.weights()
    assert all(torch.equal(before[name], after[name]) for name in before)
    ran._train = []  # another training would fail: this one is remembered
    assert ran.of("hidden", kept) == first


def test_a_settled_layer_stays_pruned_in_later_trials():
    ran = trials(Useful())
    kept = torch.tensor([True, False, True, True, True, True])
    ran.settle("hidden", kept, steps=2)
    assert not ran.weights()["hidden.weight"][1].any()
    ran.of("hidden", kept)
    assert not ran.weights()["hidden.weight"][1].any()


def test_trials_are_judged_on_samples_of_their_own_where_there_are_any():
    x = torch.rand(8, 2, generator=torch.Generator().manual_seed(2))
    wrong = 1 - x.argmax(dim=1)
    assert trials(Useful()).measure() == 100
    assert trials(Useful(), validation=[(x, wrong)]).measure() == 0


def test_segmentation_is_judged_by_its_pixels():
    outputs = torch.tensor([[[[2.0, 0.0]], [[1.0, 3.0]]]])  # one image of 1 x 2 pixels, two classes
    calibration = Calibration([])
    assert float(calibration.metric(outputs, torch.tensor([[[0, 0]]]))) == 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tolerance": 0.0}, "tolerance must be above 0, got 0.0"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"start": 1.0}, r"start must be in \(0, 1\), got 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PolicyGradient(**fields)


def test_samples_without_targets_are_refused():
    with pytest.raises(ValueError, match="must yield pairs"):
        prune(Useful(), torch.rand(1, 2), method="try_and_learn",
              calibration=Calibration([torch.rand(4, 2)]))  # fmt: skip


def test_a_shuffling_loader_gives_the_same_for_the_same_seed():
    (pair,) = samples()

    def patch(seed):
        torch.manual_seed(seed)
        shuffled = (DataLoader(TensorDataset(*pair), batch_size=4, shuffle=True) for _ in range(2))
        calibration = Calibration(next(shuffled), validation=next(shuffled))
        method = try_and_learn(updates=2, trial_steps=1, settle_steps=3)
        model, before = Useful(), torch.get_rng_state()
        result = prune(model, torch.rand(1, 2, generator=torch.Generator()), method=method,
                       target=Target(sparsity=0.5), calibration=calibration)  # fmt: skip
        assert torch.equal(before, torch.get_rng_state())
        return result.patch

    one, other = patch(1), patch(2)
    assert one and all(torch.equal(value, other[name]) for name, value in one.items())


def test_each_layer_that_is_done_is_logged(caplog):
    method = try_and_learn(updates=2, trial_steps=0, settle_steps=0)
    with caplog.at_level("INFO", logger="prunus"):
        prune(
            *(Useful(), torch.rand(1, 2)),
            method=method,
            target=Target(sparsity=0.5),
            calibration=Calibration(samples()),
        )
    (line,) = caplog.messages
    assert (
        line.startswith("layer 1 of 1: hidden keeps 3 of 6 filters") and "(100.00 % before)" in line
    )


@pytest.mark.parametrize(
    ("outputs", "got"), [(torch.zeros(2, 6, 4), r"\(2, 6, 4\) and \(2, 6\)"), ({}, "dict and")]
)
def test_classes_that_are_elsewhere_need_a_metric(outputs, got):
    with pytest.raises(ValueError, match=rf"got {got}.* pass Calibration\(\.\.\., metric="):
        share_right(outputs, torch.zeros(2, 6))
