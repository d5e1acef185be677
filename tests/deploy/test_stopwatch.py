"""A network beside the dense one, timed until the ratio is known well enough."""

import pytest
import torch
from torch import nn

from prunus.deploy import Stopwatch, stopwatch
from prunus.types import Setting

X = torch.randn(1, 8)


@pytest.fixture
def told(monkeypatch):
    """What was loaded, and how many rounds were timed, in turn."""
    told = {"loaded": [], "rounds": []}
    load, time = stopwatch.inference, stopwatch.interleaved

    def inference(network, setting):
        told["loaded"].append(network.name)
        return load(network, setting)

    def interleaved(*arguments, rounds, **more):
        told["rounds"].append(rounds)
        return time(*arguments, rounds=rounds, **more)

    monkeypatch.setattr(stopwatch, "inference", inference)
    monkeypatch.setattr(stopwatch, "interleaved", interleaved)
    return told


def test_rounds_are_added_to_those_there_are_and_nothing_is_loaded_twice(told, monkeypatch):
    monkeypatch.setattr(stopwatch, "_SHARP", 0.0)
    monkeypatch.setattr(stopwatch, "_ROUNDS", 6)
    monkeypatch.setattr(stopwatch, "_MOST_ROUNDS", 24)
    watch = Stopwatch(nn.Linear(8, 8), X, Setting())
    reading = watch.time(nn.Linear(8, 4))
    assert told == {"loaded": ["dense.onnx", "pruned.onnx"], "rounds": [6, 6, 12]}
    assert reading.low <= reading.ratio <= reading.high
    watch.time(nn.Linear(8, 2))
    assert told["loaded"] == ["dense.onnx", "pruned.onnx", "pruned.onnx"]


def test_a_sharp_ratio_needs_no_more_rounds(told, monkeypatch):
    monkeypatch.setattr(stopwatch, "_SHARP", 1e9)
    Stopwatch(nn.Linear(8, 8), X, Setting()).time(nn.Linear(8, 4))
    assert told["rounds"] == [30]
