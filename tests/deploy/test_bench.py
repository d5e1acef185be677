"""Networks against each other: what is measured, what is refused, what is a difference."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from prunus.deploy import RUNTIMES, Candidate, Latency, compare, quantise, side_by_side, timing
from prunus.deploy.bench import ratio_of_medians, settings, unlike
from prunus.deploy.runtimes import Runtime
from prunus.deploy.timing import Speedup
from prunus.errors import InferenceError
from prunus.types import Setting
from small_files import matmuls, perceptron


def measured(samples):
    where = {"runtime": "r", "threads": 1, "batch": 1, "rounds": len(samples)}
    return Latency(1.0, 1.0, 1.0, samples_ms=tuple(samples), **where)


def test_the_ratio_is_that_of_the_medians_and_rounds_stay_together():
    # The machine halves its speed in every second round: both suffer alike.
    found = ratio_of_medians(measured([4.0, 8.0] * 20), measured([2.0, 4.0] * 20))
    assert (found.low, found.median, found.high) == (2.0, 2.0, 2.0)
    found = ratio_of_medians(measured([3, 6, 30]), measured([1, 2, 3]))
    assert found.median == 3


def test_what_noise_covers_is_no_difference():
    generator = np.random.default_rng(0)

    def samples(factor):
        return measured(factor * generator.lognormal(0, 0.1, 30))

    same = [ratio_of_medians(samples(1), samples(1)).verdict for _ in range(100)]
    assert same.count("no difference beyond the noise") >= 88  # of 95, sampled
    faster = [ratio_of_medians(samples(1.3), samples(1)).verdict for _ in range(20)]
    assert faster == ["faster"] * 20
    assert Speedup(0.9, 0.8, 0.99).verdict == "slower"


def test_settings_are_every_combination_once():
    found = settings(["onnxruntime"], ["fp32", "int8", "fp32"], [1, 2], [1, 16])
    assert len(found) == len(set(found)) == 8
    assert [(one.threads, one.batch) for one in found[::2]] == [(1, 1), (1, 16), (2, 1), (2, 16)]
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        settings(["onnxruntime"], ["fp32"], [0], [1])
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, int8, got 'int4'"):
        settings(["onnxruntime"], ["int4"], [1], [1])
    with pytest.raises(ValueError, match="runtime 'onnx' is unknown"):
        settings(["onnx"], ["fp32"], [1], [1])


def test_files_of_other_inputs_are_told(tmp_path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no file of a network")
    networks = [
        Candidate("damaged", damaged),
        Candidate("a", matmuls(tmp_path / "a.onnx", 1)),
        Candidate("b", matmuls(tmp_path / "b.onnx", 4)),
        Candidate("c", perceptron(tmp_path / "c.onnx")),
        Candidate("a module"),
    ]
    (found,) = unlike(networks)
    assert found.startswith("c takes float ")
    assert found.endswith(", and a float 256: their times are not of the same inputs")
    assert unlike(networks[:3]) == []


def test_the_longer_one_is_slower_in_every_setting(tmp_path):
    networks = [
        Candidate("short", matmuls(tmp_path / "short.onnx", 1)),
        Candidate("long", matmuls(tmp_path / "long.onnx", 40)),
    ]
    told = []
    rows, refused = compare(
        networks,
        settings(["onnxruntime"], ["fp32"], [1], [8, 64]),
        rounds=6,
        memory=False,
        tell=lambda *said: told.append(said),
    )
    assert not refused
    assert [(row.name, row.setting.batch) for row in rows] == [
        ("short", 8), ("long", 8), ("short", 64), ("long", 64)
    ]  # fmt: skip
    assert [row.speedup is None for row in rows] == [True, False, True, False]
    for row in (rows[1], rows[3]):
        assert row.speedup.median < 0.7
        assert row.to_dict()["verdict"] == row.speedup.verdict
    assert rows[1].bytes == (tmp_path / "long.onnx").stat().st_size
    assert rows[1].memory is rows[1].joules is None
    assert told[-1] == ("timing", 6, 6)


def test_what_cannot_run_is_listed_and_the_rest_is_measured(tmp_path, monkeypatch):
    def load(path, setting):
        if path.name == "bad.onnx":
            raise RuntimeError("unknown operator Frobnicate")
        return lambda: None

    monkeypatch.setitem(RUNTIMES, "odd", Runtime("onnxruntime", Path, ("fp32",), load))
    good, bad = (perceptron(tmp_path / name) for name in ("good.onnx", "bad.onnx"))
    networks = [Candidate("good", good), Candidate("bad", bad)]
    where = settings(["odd"], ["fp32", "int8"], [1], [1])
    rows, refused = compare(networks, where, rounds=6, memory=False)
    assert [row.name for row in rows] == ["good"]
    reasons = {(one.name, one.setting.precision): one.reason for one in refused}
    assert "Frobnicate" in reasons["bad", "fp32"]
    assert "does not compute in int8" in reasons["good", "int8"]
    with pytest.raises(InferenceError, match="Frobnicate"):
        compare([Candidate("bad", bad)], where[:1], rounds=6, memory=False)


def test_a_file_is_no_module(tmp_path):
    with pytest.raises(InferenceError, match="give the folder of a run"):
        compare(
            [Candidate("a", perceptron(tmp_path / "a.onnx"))],
            [Setting(runtime="torch")],
            rounds=6,
            memory=False,
        )


def test_int8_takes_the_file_beside_it_if_it_was_made_of_it(tmp_path):
    path = perceptron(tmp_path / "a.onnx")
    made = quantise(path).path
    candidate, folder = Candidate("a", path), tmp_path / "made"
    folder.mkdir()
    assert candidate.form(Path, "int8", folder) == made
    perceptron(path, scale=3.0)
    other = candidate.form(Path, "int8", folder)
    assert other.parent == folder
    assert candidate.form(Path, "fp32", folder) == path


def test_dense_and_pruned_stand_beside_their_int8_forms(tmp_path):
    files = {name: perceptron(tmp_path / f"{name}.onnx") for name in ("dense", "pruned")}
    int8 = {name: quantise(path) for name, path in files.items()}
    rows = side_by_side(files, int8, rounds=6)
    assert [(row.network, row.precision) for row in rows] == [
        ("dense", "fp32"), ("dense", "int8"), ("pruned", "fp32"), ("pruned", "int8")
    ]  # fmt: skip
    assert rows[0].speedup is None
    assert rows[1].difference == int8["dense"].difference
    assert rows[2].bytes == files["pruned"].stat().st_size
    document = rows[3].to_dict()
    assert document["latency_ms"]["low"] <= document["latency_ms"]["high"]
    assert document["speedup"]["median"] > 0
    assert len(side_by_side(files, {}, rounds=6)) == 2


def test_what_is_delivered_is_timed_without_other_programs_on_one_thread(tmp_path, monkeypatch):
    # Other programs take the core for a second whenever an inference is under way.
    monkeypatch.setitem(timing.CLOCKS, "wall", itertools.count().__next__)
    files = {name: perceptron(tmp_path / f"{name}.onnx") for name in ("dense", "pruned")}
    assert all(row.latency.median_ms < 100 for row in side_by_side(files, {}, rounds=6))
