import math
import random

import pytest

from prunus.deploy import Latency, latency, speedup
from prunus.deploy.timing import _median_interval, _Warm, _warm_up
from small_files import matmuls


def measured(samples, **changes):
    values = {"runtime": "r", "threads": 1, "batch": 1, "rounds": len(samples)} | changes
    return Latency(*_median_interval(samples), samples_ms=tuple(samples), **values)


def test_twenty_times_the_work_takes_many_times_as_long(tmp_path):
    paths = {"long": matmuls(tmp_path / "a", 40), "short": matmuls(tmp_path / "b", 2)}
    result = latency(paths, batch=64, rounds=15, clock="processor")

    assert list(result) == ["long", "short"]
    ratio = speedup(result["long"], result["short"])
    assert 5 < ratio.median < 100
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
        "prunus.deploy.timing.inference", lambda path, _: lambda: order.append(path.name)
    )
    monkeypatch.setattr("prunus.deploy.timing._warm_up", lambda *_: _Warm(1, True, 0.0))
    latency({"a": tmp_path / "a", "b": tmp_path / "b"}, rounds=6)
    rounds = [order[start : start + 4] for start in range(0, 24, 4)]  # one untimed, one timed
    assert {tuple(names) for names in rounds} == {("a", "a", "b", "b"), ("b", "b", "a", "a")}


def test_speedup_pairs_the_rounds():
    # The machine halves its speed in every second round: both suffer alike, b is always 2x faster.
    dense = measured([4.0, 8.0] * 5)
    small = measured([2.0, 4.0] * 5)
    ratio = speedup(dense, small)
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 2.0, 2.0)


def test_further_rounds_are_joined_to_those_before():
    first = measured([1.0, 2.0] * 3, inferences_ms=(1.0, 2.0) * 3, warmup_s=0.5)
    more = measured([3.0] * 12, inferences_ms=(3.0,) * 12, warmup_s=0.25, stable=False)
    both = first.joined(more)
    assert both == measured(
        [1.0, 2.0] * 3 + [3.0] * 12,
        inferences_ms=(1.0, 2.0) * 3 + (3.0,) * 12,
        warmup_s=0.75,
        stable=False,
    )
    assert speedup(both, both).median == 1


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


def test_percentiles_and_throughput_are_those_of_single_inferences():
    # The median hides that every tenth inference takes ten times as long.
    one = measured([1.0] * 6, inferences_ms=(1.0,) * 90 + (10.0,) * 10, batch=4)
    assert (one.percentile(50), one.percentile(99)) == (1.0, 10.0)
    assert one.throughput == pytest.approx(4e3 * 100 / 190)
    few = measured([1.0] * 6, inferences_ms=tuple(range(1, 51)))
    assert few.percentile(99) is None
    assert few.percentile(90) == pytest.approx(45.1)


def test_warm_up_ends_when_time_is_stable_or_says_that_it_is_not():
    now = 0.0

    def run_for(seconds):
        def run():
            nonlocal now
            now += next(seconds)

        return run

    falling = run_for(iter([1.0, *(2.0**-k for k in range(10)), *[0.0015] * 1000]))
    warm = _warm_up(falling, 60.0, lambda: now)
    assert (warm.stable, warm.repeats) == (True, 2)
    ever_slower = run_for(1.001**k for k in range(10**6))
    assert not _warm_up(ever_slower, 0.0, lambda: now).stable
