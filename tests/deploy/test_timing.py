import math
import random
from itertools import pairwise

import onnx
import pytest
from onnx import TensorProto, helper

from prunus.deploy import Latency, latency, speedup
from prunus.deploy.timing import _median_interval


def matmuls(path, count, batch="n", width=256):
    """Write a chain of `count` square matrix products, so that time is known to be linear in it."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, (width, width), [0.01] * width**2)
    names = ["x", *(f"h{i}" for i in range(count))]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (batch, width))],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, (batch, width))],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def measured(samples, **changes):
    values = {"runtime": "r", "threads": 1, "batch": 1, "rounds": len(samples)} | changes
    return Latency(*_median_interval(samples), samples_ms=tuple(samples), **values)


def test_twenty_times_the_work_takes_many_times_as_long(tmp_path):
    paths = {"long": matmuls(tmp_path / "a", 40), "short": matmuls(tmp_path / "b", 2)}
    result = latency(paths, batch=64, rounds=15)

    assert list(result) == ["long", "short"]
    ratio = speedup(result["long"], result["short"])
    assert 5 < ratio.median < 100  # wide: on a busy machine the long one is interrupted more often
    assert ratio.low <= ratio.median <= ratio.high
    for one in result.values():
        assert 0 < one.low_ms <= one.median_ms <= one.high_ms
        assert len(one.samples_ms) == one.rounds == 15
        assert (one.threads, one.batch) == (1, 64)
        assert one.runtime.startswith("onnxruntime 1.")


def test_a_file_is_as_fast_as_itself(tmp_path):
    path = matmuls(tmp_path / "a", 1, width=32)
    result = latency({"a": path, "again": path}, rounds=30)
    ratio = speedup(result["a"], result["again"])
    assert ratio.low < 1.1
    assert ratio.high > 0.9


def test_files_take_turns(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(
        "prunus.deploy.timing.inference", lambda _, path, *__: lambda: order.append(path.name)
    )
    monkeypatch.setattr("prunus.deploy.timing._warm_up", lambda *_: 1)
    latency({"a": tmp_path / "a", "b": tmp_path / "b"}, rounds=6)
    rounds = [order[start : start + 4] for start in range(0, 24, 4)]  # one untimed, one timed
    assert {tuple(names) for names in rounds} == {("a", "a", "b", "b"), ("b", "b", "a", "a")}


def test_speedup_pairs_the_rounds():
    # The machine halves its speed in every second round: both suffer alike, b is always 2x faster.
    dense = measured([4.0, 8.0] * 5)
    small = measured([2.0, 4.0] * 5)
    ratio = speedup(dense, small)
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 2.0, 2.0)


def test_speedup_refuses_what_was_not_measured_together():
    with pytest.raises(ValueError, match="one call of latency"):
        speedup(measured([1.0] * 6), measured([1.0] * 6, threads=2))


def test_the_interval_uses_the_published_ranks():
    # Conover, Practical Nonparametric Statistics, 3rd ed., table A3: for n = 10 the 2nd and 9th.
    assert _median_interval([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]) == (5.5, 2.0, 9.0)
    assert _median_interval(range(1, 7)) == (3.5, 1.0, 6.0)


def test_the_interval_covers_the_median():
    generator = random.Random(0)
    hits = 0
    for _ in range(400):
        _, low, high = _median_interval([generator.expovariate(1) for _ in range(25)])
        hits += low <= math.log(2) <= high
    assert hits >= 0.93 * 400


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"rounds": 5}, "rounds must be at least 6"),
    ],
)
def test_bad_settings(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        latency({"a": tmp_path / "a"}, **options)


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match="at least one file"):
        latency({})
    with pytest.raises(FileNotFoundError, match="no ONNX file"):
        latency({"a": tmp_path / "missing"})
    with pytest.raises(ValueError, match="fixed batch size 3, got batch=1"):
        latency({"a": matmuls(tmp_path / "a", 1, batch=3)})
