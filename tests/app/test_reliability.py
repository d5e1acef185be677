import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from prunus import files
from prunus.cli import main
from prunus.zoo import network


def run(recipe, root, *changes):
    settings = [word for change in changes for word in ("--set", change)]
    return main(["run", str(recipe), "--dir", str(root), *settings, "--json"])


def contents(root):
    """What must not depend on how often a run was stopped."""
    return {
        path.relative_to(root): path.read_bytes()
        for name in ("weights.safetensors", "mask.safetensors", "*.metrics.jsonl")
        for path in Path(root).rglob(name)
    }


def assert_goes_on_as_if_nothing_had_happened(recipe, root, tmp_path):
    assert run(recipe, root) == 0
    assert run(recipe, tmp_path / "undisturbed") == 0
    assert contents(root) == contents(tmp_path / "undisturbed") != {}
    assert not list(Path(root).rglob(".*.tmp"))


@pytest.mark.parametrize("writes", [0, 1, 3, 6, 9, 12])
def test_a_full_disk_is_said_and_survived(tiny, tmp_path, writes, monkeypatch, capsys):
    left, real = [writes], os.fsync

    def fsync(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    root = tmp_path / "runs"
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        assert run(tiny, root) == 1
    assert "No space left on device" in capsys.readouterr().err
    for path in root.rglob("*.json"):
        json.loads(path.read_text())
    assert_goes_on_as_if_nothing_had_happened(tiny, root, tmp_path)


def test_a_directory_that_cannot_be_written(tiny, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(tiny, tmp_path / "file" / "runs") == 1
    assert "runs must be a folder, but" in capsys.readouterr().err


def test_a_read_only_disk(tiny, tmp_path, monkeypatch, capsys):
    def refuse(*arguments, **keywords):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))

    monkeypatch.setattr(Path, "touch", refuse)
    assert run(tiny, tmp_path / "runs") == 1
    assert "Read-only file system" in capsys.readouterr().err


@pytest.mark.parametrize("step", [0, 7, 11])
def test_ctrl_c_in_training_ends_with_130_and_goes_on(tiny, tmp_path, before_step, step, capsys):
    before_step[step] = lambda: os.kill(os.getpid(), signal.SIGINT)
    assert run(tiny, tmp_path / "runs") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert_goes_on_as_if_nothing_had_happened(tiny, tmp_path / "runs", tmp_path)


def test_a_truncated_checkpoint_is_refused_and_left_alone(tiny, tmp_path, before_step, capsys):
    before_step[8] = lambda: os.kill(os.getpid(), signal.SIGINT)
    root = tmp_path / "runs"
    assert run(tiny, root) == 130
    (checkpoint,) = root.rglob("*.checkpoint.safetensors")
    cut = checkpoint.read_bytes()[:1000]
    checkpoint.write_bytes(cut)
    assert run(tiny, root) == 2
    assert "is damaged" in capsys.readouterr().err
    assert checkpoint.read_bytes() == cut
    checkpoint.unlink()
    assert_goes_on_as_if_nothing_had_happened(tiny, root, tmp_path)


def test_a_loss_that_is_not_finite(tiny, tmp_path, capsys):
    root = tmp_path / "runs"
    assert run(tiny, root, "finetune.lr=1e30") == 1
    errors = capsys.readouterr().err
    assert "at step" in errors
    assert "lower the learning rate" in errors
    done = sorted(path.parent.name for path in root.rglob("result.json"))
    assert done == ["dense", "prune"]


def test_missing_data(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    assert run(tiny, tmp_path / "runs", "data.name=cifar10", f"data.root={tmp_path / 'no'}") == 2
    assert "root must be a folder of datasets" in capsys.readouterr().err


def test_another_checkpoint_under_the_same_name_is_noticed(tiny, tmp_path):
    accuracies = []
    for seed in range(2):
        torch.manual_seed(seed)
        files.write_tensors(tmp_path / "w.safetensors", network("lenet300").state_dict())
        assert run(tiny, tmp_path / "runs", "model.weights=w.safetensors") == 0
        (path,) = (tmp_path / "runs").glob("tiny-*/seed-0/prune/weights.safetensors")
        accuracies.append(path.read_bytes())
    assert accuracies[0] != accuracies[1]
