"""Targets in time: a network as fast as was asked, found by measuring."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target, methods, prune
from prunus.deploy.stopwatch import Reading
from prunus.errors import TargetError
from prunus.pruning.in_time import stand_in
from prunus.pruning.plan import Plan
from prunus.selectors import TopK

X = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
DENSE_MS = 8.0


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU()),
        *(nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


class Modelled:
    """A stopwatch whose runtime pays a fixed part, and widths in steps of 16."""

    fixed = 0.2

    def __init__(self, dense, example, setting):
        self.where = setting.runtime, setting.threads, setting.batch, setting.precision
        self.readings = 0
        self.dense = self.price(dense)

    @staticmethod
    def price(model):
        weights = [p for p in model.parameters() if p.ndim == 4]
        return sum(float(-(-len(p) // 16) * 16 * p.shape[1]) for p in weights)

    def time(self, model):
        self.readings += 1
        ratio = self.fixed + (1 - self.fixed) * self.price(model) / self.dense
        return Reading(DENSE_MS, ratio * DENSE_MS, ratio, ratio, ratio, *self.where)


@pytest.fixture
def modelled(monkeypatch):
    monkeypatch.setattr("prunus.pruning.plan.Stopwatch", Modelled)
    return Modelled


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (Target(speedup=1.3), 1.3),
        (Target(speedup=2.0, runtime="openvino", threads=2, batch=4), 2.0),
        (Target(latency_ms=4.0), 4.0),
        (Target(latency_ms=7.0), 7.0),
    ],
)
def test_the_network_is_as_fast_as_was_asked(modelled, target, reached):
    report = prune(network(), X, target=target).report

    assert report.asked == target
    assert report.reached == pytest.approx(reached, rel=0.05)
    assert (report.reading.runtime, report.reading.threads) == (target.runtime, target.threads)
    assert "8 ms -> " in str(report)
    assert report.to_dict()["reading"]["pruned_ms"] == report.reading.pruned_ms


class Stepped(Modelled):
    """A stopwatch whose runtime is much slower where the first layer has more than 40 channels."""

    @staticmethod
    def price(model):
        weights = [p for p in model.parameters() if p.ndim == 4]
        return sum(p.numel() for p in weights) + 100_000.0 * (len(weights[0]) > 40)


def test_what_a_step_is_worth_too_much_of_is_given_to_the_other_layers(monkeypatch):
    monkeypatch.setattr("prunus.pruning.plan.Stopwatch", Stepped)
    target = Target(speedup=1.8)
    result = prune(network(), X, target=target)
    assert result.report.reached == pytest.approx(1.8, rel=0.05)
    # In proportion, the others would have 82 channels where the first has 40 of 64.
    assert result.model[0].out_channels == 40
    assert result.model[3].out_channels > 100
    # What training decides must follow from the share.
    with pytest.raises(TargetError, match=r"speedup 1\.8 cannot be reached within 5%"):
        Pruner(network(), X, methods.soft_filter(), target=target, steps_per_epoch=2)


def test_widths_are_searched_in_the_steps_in_which_they_are_pruned():
    for make in (methods.sss, methods.l0):
        options = {"unit": "channel"} if make is methods.sss else {}
        method = make(**options, round_to=8, min_keep=4)
        selector = stand_in(Plan(network(), X, method, Target(macs=0.5))).method.selector
        assert selector == TopK(scope="layer", round_to=8, min_keep=4)


def test_a_pruner_is_described_by_what_was_asked_not_by_what_was_measured(modelled):
    asked = Target(speedup=1.5)
    pruner = Pruner(network(), X, methods.soft_filter(), target=asked, steps_per_epoch=2)
    assert str(asked) in pruner.described and "macs" not in pruner.described


def test_what_cannot_be_reached_is_told_with_what_can(modelled):
    with pytest.raises(TargetError, match=r"speedup 6 cannot be reached within 5%.*4\.\d+ times"):
        prune(network(), X, target=Target(speedup=6.0))


def test_networks_of_equal_widths_are_timed_once(modelled, monkeypatch):
    timed = []
    time = Modelled.time
    monkeypatch.setattr(
        Modelled, "time", lambda self, model: timed.append(self.price(model)) or time(self, model)
    )
    with pytest.raises(TargetError, match="the nearest of 3 networks"):
        prune(network(), X, method=methods.l1_filter(round_to=64), target=Target(speedup=1.85))
    assert len(timed) == len(set(timed)) == 3


def test_each_network_that_is_timed_is_told(modelled, caplog, capsys):
    caplog.set_level("INFO", logger="prunus")
    prune(network(), X, target=Target(speedup=2.0), progress=True)
    told = [record.message for record in caplog.records if "of the MACs" in record.message]
    assert told
    assert all("times as fast; asked: speedup 2" in line for line in told)
    assert "of the MACs" in capsys.readouterr().err


def test_what_stands_in_the_way_is_told(modelled):
    method = methods.slimming(begin="0it", min_keep=60)
    with pytest.raises(
        TargetError, match=r"cannot be reached within 5%.*Below that: .*min_keep=60"
    ):
        prune(network(), X, method=method, target=Target(speedup=3.5))


def test_what_is_met_already_is_refused(modelled):
    with pytest.raises(TargetError, match=r"latency_ms 9 is met without pruning \(8 ms\)"):
        prune(network(), X, target=Target(latency_ms=9.0))


def test_training_goes_towards_the_macs_that_lead_to_the_time(modelled):
    model = network()
    method = methods.soft_filter(end="4it", every="2it")
    pruner = Pruner(model, X, method, target=Target(speedup=1.5))
    assert pruner.plan.target.metric == "macs"
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(4):
        model(X).sum().backward()
        optimizer.step()
        pruner.step(optimizer)
    report = pruner.finish().report
    assert report.asked == Target(speedup=1.5)
    assert report.reached == pytest.approx(1.5, rel=0.1)


def test_a_resumed_training_keeps_the_share_that_was_measured(modelled, monkeypatch):
    target = Target(speedup=1.5)
    state = Pruner(network(), X, methods.soft_filter(), target=target, steps_per_epoch=2).state()
    monkeypatch.setattr(Modelled, "fixed", 0.4)  # a busier day
    other = Pruner(network(), X, methods.soft_filter(), target=target, steps_per_epoch=2)
    assert other.plan.target.value < 0.95 * state["target"]
    other.load_state(state)
    assert other.plan.target == Target(macs=state["target"])


def test_zeros_are_no_way_to_a_time_in_dense_runtimes():
    with pytest.raises(TargetError, match=r"make onnxruntime no faster; ask for runtime='sparse'"):
        prune(network(), X, method="magnitude", target=Target(speedup=2.0))


def test_a_runtime_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"runtime 'openvinos' is unknown.*Did you mean"):
        prune(network(), X, target=Target(speedup=2.0, runtime="openvinos"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "precision"),
    [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("torch", "fp32")],
)
def test_measured_in_a_real_runtime(runtime, precision):
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    target = Target(speedup=1.6, runtime=runtime, precision=precision)
    report = prune(network(), X, target=target).report
    assert report.reached == pytest.approx(1.6, rel=0.1)


class Counted(Modelled):
    """A stopwatch whose runtime leaves zeros out."""

    @staticmethod
    def price(model):
        return sum(float(p.count_nonzero()) for p in model.parameters() if p.ndim > 1)


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr("prunus.pruning.plan.Stopwatch", Counted)


def test_zeros_are_sought_where_they_save_time(counted):
    method = methods.magnitude(unit="4x1", scope="layer")
    target = Target(speedup=2.0, runtime="sparse")
    result = prune(network(), X, method=method, target=target)
    assert result.report.reached == pytest.approx(2.0, rel=0.05)
    # 0.2 + 0.8 * density = 1 / 2
    share = Counted.price(result.model) / Counted.price(network())
    assert share == pytest.approx(0.375, abs=0.03)
    with pytest.raises(TargetError, match=r"of the weights\.$"):
        prune(network(), X, method=method, target=Target(speedup=6.0, runtime="sparse"))


def test_training_goes_to_the_share_of_weights_that_is_fast_enough(counted):
    model = network()
    method = methods.gradual(end="3it", every="1it", unit="4x1", embeddings=False)
    pruner = Pruner(model, X, method, target=Target(speedup=2.0, runtime="sparse"))
    assert pruner.plan.target.metric == "density"
    assert pruner.plan.target.value == pytest.approx(0.375, abs=0.03)
