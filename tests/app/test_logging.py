"""A run that is logged while it goes on."""

import json

import pytest

from prunus.cli import main
from prunus.recipe import load
from prunus.run import run
from remembered import Memory


def records(directory, stage):
    (file,) = directory.rglob(f"{stage}.metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_run_is_logged_as_it_goes_on_is_resumed_and_ends(tiny, tmp_path, before_step):
    memory = Memory()
    live = []

    def look_and_stop():
        (found,) = memory.runs.values()
        live.extend(found.curves("dense/train_loss"))
        raise KeyboardInterrupt

    before_step[5] = look_and_stop  # step 4 was evaluated; the checkpoint is of step 3
    with pytest.raises(KeyboardInterrupt):
        run(load(tiny), tmp_path, sinks=[memory])
    assert [step for step, _ in live] == [4]
    finished = run(load(tiny), tmp_path, sinks=[memory])
    run(load(tiny), tmp_path, sinks=[memory])

    (found,) = memory.runs.values()
    assert found.ends == [False, True, True]
    assert found.pages[-1] == finished.directory / "report.html"
    for stage in ("dense", "recover"):
        own = records(tmp_path, stage)
        assert found.curves(f"{stage}/train_loss") == [(r["step"], r["train_loss"]) for r in own]
        assert len(own) == len(found.curves(f"{stage}/val_accuracy")) >= 1
    # The same numbers were offered again after the run went on: nothing hangs on which came first.
    again = {(point.key, point.step): point.value for point in found.offered}
    assert all(again[point.key, point.step] == point.value for point in found.points)
    figures = {point.key: point.value for point in found.points if point.key.startswith("final/")}
    arms = {arm["name"]: arm for arm in finished.document["arms"]}
    assert figures["final/fine-tuned/accuracy"] == arms["fine-tuned"]["accuracy"]
    assert figures["final/dense/macs"] == arms["dense"]["macs"]
    assert found.tracked.group == "tiny"
    assert found.tracked.parameters["train.lr"] == 0.05
    assert found.tracked.parameters["method.name"] == "l1_filter"
    assert found.tracked.parameters["target.macs"] == 0.5


def test_what_was_done_without_a_sink_is_logged_with_one_and_another_run_is_another(tiny, tmp_path):
    memory = Memory()
    run(load(tiny), tmp_path)
    run(load(tiny), tmp_path, sinks=[memory])
    run(load(tiny, ["target.macs=0.6"]), tmp_path, sinks=[memory])
    first, second = memory.runs.values()
    assert [step for step, _ in first.curves("dense/train_loss")] == [4, 8, 12]
    assert first.curves("dense/train_loss") == second.curves("dense/train_loss")
    assert first.curves("recover/train_loss") != second.curves("recover/train_loss")


def test_the_command_logs_to_tensorboard_and_a_broken_sink_stops_nothing(
    tiny, tmp_path, monkeypatch, capsys, caplog
):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    arguments = ["run", str(tiny), "--dir", "runs", "--json"]
    assert main([*arguments, "--log", "tensorboard", "--log", "tensorboard:file"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "tiny"
    assert caplog.text.count("TensorBoard failed") == 1
    events = (tmp_path / "runs" / "tensorboard" / "tiny").rglob("events.out.tfevents.*")
    assert b"dense/val_accuracy" in b"".join(file.read_bytes() for file in events)
    assert main([*arguments, "--log", "paper"]) == 2
    assert "log must be mlflow[:URI] or tensorboard[:FOLDER]" in capsys.readouterr().err
