"""Lottery tickets: the published levels, and trainings equal to those one would make by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.criteria import L1
from prunus.errors import TargetError
from prunus.integrations.attached import Attached
from prunus.masking import Hard
from prunus.methods import Method, lottery
from prunus.recovery import Rewind, snapshot
from prunus.schedules import Schedule
from prunus.selectors import TopK
from prunus.space import Structured
from prunus.training import ArrayData, TrainSettings, fit, trainings

X = torch.zeros(1, 1, 6, 6)
LENGTH, LATE = 10, 3
SETTINGS = TrainSettings(
    length="10it", lr=0.1, weight_decay=1e-3, schedule="cosine", warmup="2it", eval_every="4it",
    checkpoint_every="4it",
)  # fmt: skip


def data():
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 1, 6, 6), dtype=torch.uint8, generator=random)
    samples = (images, torch.randint(3, (60,), generator=random))
    return ArrayData("tiny", samples, samples, 3, (0.5,), (0.3,), batch_size=8, val_size=12)


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3)),
    )


def pruner_of(model, **options):
    return Pruner(model, X, lottery(**{"training": "10it", "rounds": 2} | options))


def test_trainings_are_counted_whatever_an_epoch_is():
    assert lottery(training="5000it", rewind="6ep", rounds=2).trainings == 3
    assert lottery(training="0.0125ep", rewind="0it", rounds=3).trainings == 4
    assert lottery(training="0.3333333ep", rounds=3).trainings == 4
    assert lottery(training="0.1666667ep", rounds=6).trainings == 7
    half = lottery(training="0.5ep", rounds=4)
    assert {len(half.timeline(steps).updates()) for steps in (1, 2, 3, 5, 7, 30)} == {4}


class Hold:
    """Keeps a mask as it is."""

    def __init__(self, model, mask):
        self.masking = Hard(model)
        self.masking.set(mask)

    def penalty(self):
        return 0

    def step(self, optimizer):
        self.masking.apply()

    def state(self):
        return {}

    def load_state(self, state):
        pass


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_levels_of_lenet_300_100_are_the_papers():
    model = nn.Sequential(
        nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    pruner = Pruner(model, torch.zeros(1, 784), lottery(training="1it", rounds=20))
    assert sum(group.size for group in pruner.plan.groups) == 266_200
    for _ in range(20):
        pruner.step()
    levels = [round(100 * density, 1) for density in pruner.rewinding.densities[1:]]
    assert levels == [
        80.0, 64.1, 51.3, 41.1, 32.9, 26.3, 21.1, 16.9, 13.5, 10.8,
        8.7, 7.0, 5.6, 4.5, 3.6, 2.9, 2.3, 1.9, 1.5, 1.2,
    ]  # fmt: skip
    kept = {name: int(keep.sum()) for name, keep in pruner.keep.items()}
    assert kept["0.weight"] == 235_200 - round(235_200 * (1 - 0.8**20))
    assert kept["4.weight"] == 1_000 - round(1_000 * (1 - 0.9**20))


@pytest.mark.parametrize("rewind", ["0it", "3it"])
def test_every_training_is_the_one_a_run_of_its_own_would_make(rewind):
    model = network()
    first = snapshot(model)
    pruner = pruner_of(model, rewind=rewind)
    history = fit(model, data(), SETTINGS, hook=pruner, seed=5)
    to = int(rewind[:-2])
    assert history.steps == 10 + 2 * (10 - to)
    own = trainings(history.records, pruner.rewinding.begins())

    # The dense network by hand, then each level: prune, put back what remains, train again.
    hand = network()
    alone = fit(hand, data(), SETTINGS.model_copy(update={"length": "10it"}), seed=5)
    assert [r["val_loss"] for r in own[0]] == [r["val_loss"] for r in alone.records]
    start = first
    if to:
        early = network()
        stopped = Pruner(early, X, lottery(training="10it", rewind=rewind))
        fit(early, data(), SETTINGS, hook=stopped, seed=5)
        start = stopped.rewinding.start
        assert not same(start, first)
    trained, mask = hand, {}
    for level, records in enumerate(own[1:], 1):
        mask = by_hand(trained, mask, level)
        trained = network()
        trained.load_state_dict(start)
        late = SETTINGS.model_copy(update={"start": rewind})
        again = fit(trained, data(), late, hook=Hold(trained, mask), seed=5)
        assert [r["val_loss"] for r in records] == [r["val_loss"] for r in again.records]
        assert [r["lr"] for r in records] == [r["lr"] for r in again.records]
    assert same(snapshot(model), snapshot(trained))
    assert all(torch.equal(pruner.mask[name], kept) for name, kept in mask.items())


def by_hand(model, mask, level):
    """Return the mask after another round of 20 %, 10 % in the output layer."""
    found = {}
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        rate = 0.1 if name == "8.weight" else 0.2
        gone = round(weight.numel() * (1 - (1 - rate) ** level))
        size = weight.detach().abs().flatten()
        if name in mask:
            size[~mask[name].flatten()] = -1
        kept = torch.ones(weight.numel(), dtype=torch.bool)
        kept[size.argsort()[:gone]] = False
        found[name] = kept.view_as(weight)
    return found


def test_one_round_is_the_one_shot_form():
    model = network()
    first = snapshot(model)
    pruner = pruner_of(model, rounds=1, rate=0.9)
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(1, 11):
        optimizer.zero_grad()
        model(torch.randn(4, 1, 6, 6)).square().mean().backward()
        optimizer.step()
        assert optimizer.state
        pruner.step(optimizer)
        assert pruner.rewound == (0 if step == 10 else None)
    assert not optimizer.state
    for name, value in model.state_dict().items():
        assert torch.equal(value, first[name] * pruner.mask.get(name, torch.tensor(True)))
    assert int(pruner.mask["6.weight"].sum()) == 512 - round(512 * 0.9)
    assert int(pruner.mask["8.weight"].sum()) == 48 - round(48 * 0.45)


def test_the_learning_rate_alone_may_go_back():
    model = network()
    pruner = pruner_of(model, rounds=1, weights="keep")
    before = {}

    class Look(Hold):
        def __init__(self):
            pass

        def step(self, optimizer):
            before.update(snapshot(model) if pruner.steps == 9 else {})
            pruner.step(optimizer)

    fit(model, data(), SETTINGS, hook=Look(), seed=5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] * pruner.mask.get(name, torch.tensor(True)))
    assert not pruner.rewinding.start

    model = network()
    pruner = pruner_of(model, rounds=1, weights="keep", rewind="3it")
    history = fit(model, data(), SETTINGS, hook=pruner, seed=5)
    first, second = trainings(history.records, pruner.rewinding.begins())
    assert [r["step"] for r in second] == [4, 8, 10]
    assert [r["lr"] for r in second] == [r["lr"] for r in first]


@pytest.mark.parametrize("at", [2, 9, 10, 18, 23])
def test_a_broken_run_ends_with_the_same_bits(at, tmp_path):
    settings = SETTINGS.model_copy(update={"ema": 0.9})
    whole = network()
    hook = pruner_of(whole, rewind="2it")
    history = fit(whole, data(), settings, hook=hook, directory=tmp_path / "calm")

    model = network()
    broken = pruner_of(model, rewind="2it")
    hold = broken.hold

    def stop(optimizer):
        if broken.steps == at:
            raise InterruptedError
        hold(optimizer)

    broken.hold = stop
    with pytest.raises(InterruptedError):
        fit(model, data(), settings, hook=broken, directory=tmp_path / "stormy")
    model = network()
    again = pruner_of(model, rewind="2it")
    resumed = fit(model, data(), settings, hook=again, directory=tmp_path / "stormy")
    assert resumed == history
    assert same(snapshot(model), snapshot(whole))
    assert again.rewinding.densities == hook.rewinding.densities
    assert same(again.mask, hook.mask)


def test_a_target_is_reached_in_the_rounds_that_are_given():
    pruner = Pruner(network(), X, lottery(training="10it", rounds=3), target=Target(sparsity=0.875))
    for _ in range(30):
        pruner.step()
    steps = [after / before for before, after in pairwise(pruner.rewinding.densities)]
    assert steps == pytest.approx([0.5, 0.5, 0.5], abs=0.02)
    assert pruner.finish().report.reached == pytest.approx(0.875, abs=2e-3)


def test_a_target_that_contradicts_rate_and_rounds_is_refused():
    with pytest.raises(TargetError, match=r"sparsity 0.9 takes 10 rounds .* got rounds=5; give"):
        Pruner(network(), X, lottery(training="10it", rate=0.2), target=Target(sparsity=0.9))
    method = lottery(training="10it", rate=0.2, rounds=10)
    Pruner(network(), X, method, target=Target(sparsity=0.9))


def test_deep_networks_are_ranked_globally_without_their_linear_layers():
    pruner = pruner_of(network(), scope="global", layers="conv")
    for _ in range(20):
        pruner.step()
    assert {group.name for group in pruner.plan.groups} == {"0.weight", "3.weight"}
    assert pruner.rewinding.densities == pytest.approx([1, 0.8, 0.64], abs=1e-3)
    assert pruner.mask["6.weight"].all()


def test_any_method_may_rewind():
    method = Method(
        name="filters",
        granularity=Structured(),
        criterion=L1(),
        selector=TopK(scope="layer"),
        schedule=Schedule(curve="geometric", begin="10it", every="10it", end="20it"),
        target=Target(params=0.6),
        rewind=Rewind(),
    )
    model = network()
    first = snapshot(model)
    pruner = Pruner(model, X, method)
    fit(model, data(), SETTINGS, hook=pruner)
    result = pruner.finish()
    assert result.report.reached == pytest.approx(0.6, abs=0.05)
    assert pruner.rewinding.densities[1] > pruner.rewinding.densities[2]
    rewound = network()
    again = Pruner(rewound, X, replace(method, schedule=Schedule(begin="10it")))
    for _ in range(10):
        again.step()
    assert torch.equal(rewound[1].running_var, first["1.running_var"])


def test_trainers_that_would_not_follow_are_refused():
    attached = Attached(X, lottery(training="10it"))
    with pytest.raises(ValueError, match="'lottery' sends training back to an earlier step"):
        attached.begin(network(), 10, None, total=100)


def test_settings_that_look_at_one_training_are_refused():
    for change in ({"keep": "best"}, {"early_stop": 2}):
        model = network()
        with pytest.raises(ValueError, match="look at one training, and the hook rewinds"):
            fit(model, data(), SETTINGS.model_copy(update=change), hook=pruner_of(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "half"}, "weights must be 'reset' or 'keep', got 'half'"),
        ({"rewind": "3"}, "number with its unit"),
        ({"rate": 20.0}, "Did you mean 0.2"),
        ({"rounds": 0}, "rounds must be at least 1"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lottery(**options)
