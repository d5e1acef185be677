"""PruneFL's solver: gain per second, against every subset and by hand."""

import itertools

import pytest
import torch
from torch import nn

from prunus import Pruner, Target, zoo
from prunus.criteria import Evidence, RiskReduction
from prunus.methods.prunefl import prunefl
from prunus.selectors import TIME_MODELS, RatioGreedy, TimeModel, fit_time_model
from prunus.selectors.ratio_greedy import ratio_greedy
from prunus.space import Unstructured, trace

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
EQUAL = TimeModel(constant=1.0, compute={"*": 0.5}, communication=0.5)  # 1 s per weight


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))


def decide(weights, sums, keep, target=None, progress=0.0, **settings):
    """Let the solver decide on the two layers of `network`, given as flat lists or tensors."""
    model = network()
    with torch.no_grad():
        for name, values in weights.items():
            dict(model.named_parameters())[name].copy_(values)
    space = trace(model, X)
    groups = Unstructured().groups(space)
    evidence = Evidence(
        weights={n: p.detach() for n, p in model.named_parameters()},
        generator=torch.Generator(),
        keep=keep,
        gathered=sums,
        progress=progress,
    )
    scores = RiskReduction().score(groups, evidence)
    selector = RatioGreedy(**{"time": EQUAL} | settings)
    return selector.select(space, groups, scores, target, evidence).keep


@pytest.mark.parametrize("seed", range(60))
def test_no_subset_has_a_better_ratio(seed):
    random = torch.Generator().manual_seed(seed)
    count = 1 + seed % 9
    gains = torch.rand(count, generator=random, dtype=torch.float64) ** 3
    prices = 0.05 + torch.rand(count, generator=random, dtype=torch.float64)
    gain, seconds = float(torch.rand((), generator=random)) * (seed % 3), 0.3 + seed % 4
    chosen = ratio_greedy(gain, seconds, gains, prices)

    def ratio(subset):
        picked = torch.tensor(subset, dtype=torch.bool)
        return float((gain + gains[picked].sum()) / (seconds + prices[picked].sum()))

    best = max(ratio(subset) for subset in itertools.product([False, True], repeat=count))
    assert ratio(chosen.tolist()) == pytest.approx(best, rel=1e-12)


def test_by_hand_weights_are_taken_while_they_raise_the_ratio():
    # 2 / 2 = 1; 6 per second: (2+6)/(2+1) = 2.67; 3 per second: (8+6)/(3+2) = 2.8; 2.8 is not more
    gains = torch.tensor([2.8, 6.0, 6.0, 0.0], dtype=torch.float64)
    prices = torch.tensor([1.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    assert ratio_greedy(2.0, 2.0, gains, prices).tolist() == [False, True, True, False]
    assert ratio_greedy(2.0, 2.0, gains, prices, most=1).tolist() == [False, False, True, False]


def test_what_takes_no_time_is_kept_if_it_gains_anything():
    gains = torch.tensor([0.0, 1e-9], dtype=torch.float64)
    none = torch.zeros(2, dtype=torch.float64)
    assert ratio_greedy(5.0, 1.0, gains, none).tolist() == [False, True]
    with pytest.raises(ValueError, match="seconds must be above 0"):
        ratio_greedy(5.0, 0.0, gains, none)


def test_only_the_smallest_present_weights_may_go_and_absent_ones_may_return():
    weights = {"0.weight": torch.arange(1.0, 25.0).view(4, 6)}
    keep = {"0.weight": torch.arange(24) >= 4, "2.weight": torch.ones(12, dtype=torch.bool)}
    sums = {n: torch.zeros_like(p) for n, p in network().named_parameters()}
    sums["0.weight"].view(-1)[[1, 3, 9]] = 100.0  # two of the absent, one of the tail
    kept = decide(weights, sums, keep)["0.weight"]
    # int(0.3 * 20) = 6 present ones may go, places 4 to 9: only 9 gains anything
    assert kept.nonzero().ravel().tolist() == [1, 3, 9, *range(10, 24)]


def test_the_share_that_may_go_halves_over_the_schedule():
    sums = {n: torch.zeros_like(p) for n, p in network().named_parameters()}
    for progress, left in ((0.0, 24 - 7), (1.0, 24 - 3)):
        assert int(decide({}, sums, {}, progress=progress)["0.weight"].sum()) == left
    assert int(decide({}, sums, {}, progress=1.0, halvings=0.0)["0.weight"].sum()) == 24 - 7


def test_gains_of_biases_count_although_nothing_of_them_goes():
    sums = {n: torch.zeros_like(p) for n, p in network().named_parameters()}
    sums["0.weight"] += 0.2
    few = decide({}, sums, {})["0.weight"].sum()
    sums["0.bias"] += 1e6  # whatever is dropped makes the large gain come faster
    assert few == 24 and decide({}, sums, {})["0.weight"].sum() == 24 - 7


def test_a_target_bounds_the_density():
    sums = {n: torch.full_like(p, p.ndim - 1.0) for n, p in network().named_parameters()}
    assert sum(int(k.sum()) for k in decide({}, sums, {}).values()) == 36
    keep = decide({}, sums, {}, Target(density=0.9))
    assert sum(int(k.sum()) for k in keep.values()) == 32  # round(0.9 * 36)
    keep = decide({}, sums, {}, Target(density=0.1))  # but what is certain stays
    assert sum(int(k.sum()) for k in keep.values()) == 36 - 7 - 3


@pytest.mark.parametrize("shape", [(1,), (3, 1)])
def test_a_layer_is_never_emptied(shape):
    net = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
    space = trace(net, torch.randn(1, 1))
    groups = Unstructured().groups(space)
    keep = {g.name: torch.arange(g.size) == 0 for g in groups}
    evidence = Evidence(
        weights={n: p.detach() for n, p in net.named_parameters()},
        generator=torch.Generator(),
        keep=keep,
        gathered={n: torch.zeros_like(p) for n, p in net.named_parameters()},
    )
    scores = RiskReduction().score(groups, evidence)
    found = RatioGreedy(share=0.99).select(space, groups, scores, None, evidence).keep
    assert all(k.sum() == 1 for k in found.values())


def test_it_prunes_in_any_loop_and_goes_on_from_a_saved_state():
    def steps(model, pruner, first, last):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(first, last):
            random = torch.Generator().manual_seed(step)
            x, y = torch.randn(8, 6, generator=random), torch.randint(3, (8,), generator=random)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            pruner.step(optimizer)

    def begin():
        model = network()
        method = prunefl(begin="3it", end="12it", every="3it", grown="resume", time=EQUAL)
        return model, Pruner(model, X, method)

    whole, pruner = begin()
    steps(whole, pruner, 0, 12)
    result = pruner.finish()
    assert 0 < result.report.nonzero < sum(p.numel() for p in whole.parameters())
    assert result.report.verification.passed

    for stop in (2, 4, 11):
        model, pruner = begin()
        steps(model, pruner, 0, stop)
        again, other = begin()
        again.load_state_dict(model.state_dict())
        other.load_state(pruner.state())
        steps(again, other, stop, 12)
        same = zip(again.parameters(), whole.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in same)


def test_nothing_gathered_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="begin after the first step"):
        Pruner(network(), X, prunefl(begin="0it", end="9it"))


def test_times_are_fitted_and_never_negative():
    random = torch.Generator().manual_seed(0)
    densities = torch.rand(12, 3, generator=random, dtype=torch.float64)
    seconds = 1.25 + densities @ torch.tensor([2.0, 0.0, 0.5], dtype=torch.float64)
    constant, layers = fit_time_model(densities.tolist(), seconds.tolist())
    assert constant == pytest.approx(1.25) and layers == pytest.approx([2.0, 0.0, 0.5], abs=1e-9)
    # a layer that makes rounds faster when it is denser is noise
    _, layers = fit_time_model(densities.tolist(), (3.0 - densities[:, 1]).tolist())
    assert min(layers) >= 0
    with pytest.raises(ValueError, match="4 measurements"):
        fit_time_model(densities[:3].tolist(), seconds[:3].tolist())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constant": 0.0}, "constant must be above 0"),
        ({"communication": -1.0}, "at least 0"),
        ({"macs_per_second": 0.0}, "above 0"),
    ],
)
def test_a_time_model_refuses_what_is_no_time(settings, message):
    with pytest.raises(ValueError, match=message):
        TimeModel(**settings)


def test_the_published_coefficients_give_the_seconds_of_their_device():
    model = TIME_MODELS["raspberry_pi_conv2"]
    space = trace(zoo.network("prunefl_conv2"), torch.randn(1, 1, 28, 28))
    groups = Unstructured().groups(space)
    dense = model.training_seconds(groups, [group.size for group in groups])
    by_hand = 1.249 + 7.10e-6 * 51_200 + 1.93e-7 * 6_422_528 + 1.78e-7 * 126_976
    assert dense == pytest.approx(by_hand)
