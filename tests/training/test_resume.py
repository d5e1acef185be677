import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import prunus.training
from prunus import Pruner, Target, methods
from prunus.errors import CheckpointError, TrainingError
from prunus.files import read_tensors
from prunus.recovery import Distillation
from prunus.training import RunFiles, TrainSettings, fit

SETTINGS = TrainSettings(
    length="3ep", lr=0.05, schedule="cosine", ema=0.9, eval_every="4it", checkpoint_every="3it"
)


class Stop(Exception):
    pass


def interrupted(hook, at, action):
    original = hook.step

    def step(optimizer):
        original(optimizer)
        if hook.steps == at:
            action()

    hook.step = step
    return hook


def stop():
    raise Stop


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("at", [1, 5, 8, 14])
def test_a_broken_run_ends_with_the_same_bits(at, optimizer, model, data, mask_hook, tmp_path):
    start = state(model)
    settings = SETTINGS.model_copy(update={"optimizer": optimizer, "keep": "best"})
    hook = mask_hook(model)
    history = fit(model, data, settings, hook=hook, directory=tmp_path / "calm")
    expected = state(model)

    model.load_state_dict(start)
    broken = interrupted(mask_hook(model), at, stop)
    with pytest.raises(Stop):
        fit(model, data, settings, hook=broken, directory=tmp_path / "stormy")
    model.load_state_dict(start)
    again = mask_hook(model)
    resumed = fit(model, data, settings, hook=again, directory=tmp_path / "stormy")

    assert resumed == history
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert again.kept.equal(hook.kept)
    metrics = [
        RunFiles.within(tmp_path / name, "train").metrics.read_bytes()
        for name in ("calm", "stormy")
    ]
    assert metrics[0] == metrics[1]
    assert [json.loads(line) for line in metrics[0].splitlines()] == history.records


def test_kill_9_at_random_moments(tmp_path):
    source = Path(prunus.training.__file__).parents[2]
    script = Path(__file__).with_name("killed_run.py")
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    done = subprocess.run(
        [sys.executable, script, calm, stormy, "3", "1"],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1, "no kill came after a checkpoint and before the end"
    for name in ("final.safetensors", "train.metrics.jsonl", "train.checkpoint.safetensors"):
        assert (calm / name).read_bytes() == (stormy / name).read_bytes(), name


def test_a_finished_run_is_not_repeated(model, data, tmp_path):
    start = state(model)
    history = fit(model, data, SETTINGS, directory=tmp_path)
    kinds = sorted(path.name.partition(".")[2] for path in tmp_path.iterdir())
    assert kinds == ["checkpoint.safetensors", "metrics.jsonl"]
    expected = state(model)
    model.load_state_dict(start)

    def never(model, inputs, labels):
        raise AssertionError("trained again")

    with pytest.raises(CheckpointError, match="objective"):
        fit(model, data, SETTINGS, directory=tmp_path, objective=never)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert fit(model, data, SETTINGS, directory=tmp_path) == history
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert files == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_ctrl_c_finishes_the_step_and_writes_a_checkpoint(model, data, mask_hook, tmp_path):
    start = state(model)
    handler = signal.getsignal(signal.SIGINT)
    hook = interrupted(mask_hook(model), 5, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, SETTINGS, hook=hook, directory=tmp_path / "a")
    assert signal.getsignal(signal.SIGINT) is handler
    assert hook.steps == 5
    _, metadata = read_tensors(tmp_path / "a" / "train.checkpoint.safetensors")
    assert json.loads(metadata["prunus.checkpoint"])["parts"]["counters"]["step"] == 5

    model.load_state_dict(start)
    fit(model, data, SETTINGS, hook=mask_hook(model), directory=tmp_path / "a")
    resumed = state(model)
    model.load_state_dict(start)
    fit(model, data, SETTINGS, hook=mask_hook(model))
    assert all(torch.equal(value, resumed[name]) for name, value in model.state_dict().items())


def test_other_arguments_are_refused_by_name(model, data, data_with, tmp_path):
    start = state(model)
    fit(model, data, SETTINGS, directory=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    model.load_state_dict(start)
    with pytest.raises(CheckpointError, match=r"lr = 0\.05, now it is 0\.5"):
        fit(model, data, SETTINGS.model_copy(update={"lr": 0.5}), directory=tmp_path)
    with pytest.raises(CheckpointError, match="seed = 0, now it is 1"):
        fit(model, data, SETTINGS, directory=tmp_path, seed=1)
    with pytest.raises(CheckpointError, match="first batch"):
        fit(model, data_with(mean=(0.4,) * 3), SETTINGS, directory=tmp_path)
    with pytest.raises(CheckpointError, match="first batch"):
        fit(model, data_with(flip=False), SETTINGS, directory=tmp_path)
    with pytest.raises(CheckpointError, match=r"objective = None, now it is .Distillation"):
        fit(model, data, SETTINGS, directory=tmp_path, objective=Distillation(model))
    with torch.no_grad():
        model[0].bias.add_(1)
    with pytest.raises(CheckpointError, match="initial weights"):
        fit(model, data, SETTINGS, directory=tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_another_pruner_does_not_go_on_with_a_run(model, data, tmp_path):
    start = state(model)

    def prune(kept, **settings):
        model.load_state_dict(start)
        pruner = Pruner(model, torch.zeros(1, *data.shape), methods.magnitude(**settings),
                        target=Target(density=kept))  # fmt: skip
        fit(model, data, SETTINGS, hook=pruner, directory=tmp_path)

    prune(0.5)
    prune(0.5)
    with pytest.raises(CheckpointError, match=r"hook = .*density=0\.5.*density=0\.1"):
        prune(0.1)
    with pytest.raises(CheckpointError, match=r"hook = .*now it is .*layer"):
        prune(0.5, scope="layer")


def test_an_average_begins_anew_where_a_method_writes_into_weights(model, data):
    class Doubling:
        """Writes into the weights at one step."""

        mended, steps = False, 0

        def penalty(self):
            return 0.0

        def step(self, optimizer):
            self.steps += 1
            self.mended = self.steps == 20
            if self.mended:
                with torch.no_grad():
                    model[-1].bias.fill_(100.0)

        state = load_state = penalty

    settings = TrainSettings(length="21it", lr=1e-6, ema=0.999)
    fit(model, data, settings, hook=Doubling())
    assert model[-1].bias.min() > 99


@pytest.mark.parametrize("keep", [0, 100, -50])
def test_a_truncated_checkpoint_is_reported_and_nothing_lost(keep, model, data, tmp_path):
    start = state(model)
    fit(model, data, SETTINGS, directory=tmp_path)
    checkpoint = tmp_path / "train.checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    model.load_state_dict(start)
    with pytest.raises(CheckpointError, match="damaged"):
        fit(model, data, SETTINGS, directory=tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_shortened_metrics_file_is_reported(model, data, tmp_path):
    start = state(model)
    fit(model, data, SETTINGS, directory=tmp_path)
    (tmp_path / "train.metrics.jsonl").write_text("")
    model.load_state_dict(start)
    with pytest.raises(CheckpointError, match="0 bytes"):
        fit(model, data, SETTINGS, directory=tmp_path)


def test_a_loss_that_is_not_finite_leaves_the_checkpoint_intact(model, data, mask_hook, tmp_path):
    def ruin():
        with torch.no_grad():
            model[-1].bias.fill_(torch.inf)

    hook = interrupted(mask_hook(model), 7, ruin)
    with pytest.raises(TrainingError, match="at step 8"):
        fit(model, data, SETTINGS, hook=hook, directory=tmp_path)
    tensors, _ = read_tensors(tmp_path / "train.checkpoint.safetensors")
    assert tensors["model/8.bias"].isfinite().all()


def test_a_full_disk_keeps_the_checkpoint_before(model, data, mask_hook, tmp_path):
    start = state(model)
    checkpoint = tmp_path / "train.checkpoint.safetensors"
    kept = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        kept.append(checkpoint.read_bytes())
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))

    hook = interrupted(mask_hook(model), 4, fill)
    try:
        with pytest.raises(CheckpointError, match="cannot be written"):
            fit(model, data, SETTINGS, hook=hook, directory=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.read_bytes() == kept[0]
    assert not list(tmp_path.glob(".*"))

    model.load_state_dict(start)
    fit(model, data, SETTINGS, hook=mask_hook(model), directory=tmp_path)


def test_a_directory_that_cannot_be_written_is_refused_at_once(model, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        fit(model, data, SETTINGS, directory=tmp_path / "file" / "run")
