"""Runs the tiny problem once in peace and once with kill -9 at random moments.

Started by the tests as a process of its own: each attempt is a fork, which spares the imports.
"""

import importlib.util
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from prunus.files import write_tensors
from prunus.training import TrainSettings, fit

spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("conftest.py"))
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

SETTINGS = TrainSettings(
    length="30ep", lr=0.05, schedule="cosine", weight_decay=1e-3, ema=0.9, keep="best",
    eval_every="4it", checkpoint_every="3it",
)  # fmt: skip


def attempt(directory):
    child = os.fork()
    if child == 0:
        model = tiny.tiny_model()
        hook = tiny.MaskHook(model)
        fit(model, tiny.tiny_data(), SETTINGS, hook=hook, directory=directory, seed=3)
        hook_state = {k: torch.as_tensor(v) for k, v in hook.state().items()}
        write_tensors(directory / "final.safetensors", {**model.state_dict(), **hook_state})
        os._exit(0)
    return child


def await_checkpoints(directory, count):
    """Wait until so many checkpoints have been written, however slow the machine is."""
    seen, last = 0, None
    while seen < count and not (directory / "final.safetensors").exists():
        for file in directory.glob("*.checkpoint.safetensors"):
            now = file.stat().st_mtime_ns
            seen, last = seen + (now != last), now
        time.sleep(0.001)


def main(calm, stormy, kills, seed):
    # Forking is safe only while no thread pool exists.
    torch.set_num_threads(1)
    assert os.waitpid(attempt(calm), 0)[1] == 0
    moments = random.Random(seed)
    resumed = 0
    for _ in range(kills):
        child = attempt(stormy)
        await_checkpoints(stormy, moments.randint(1, 8))
        time.sleep(moments.uniform(0, 0.02))
        resumed += (
            any(stormy.glob("*.checkpoint.*")) and not (stormy / "final.safetensors").exists()
        )
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert os.waitpid(attempt(stormy), 0)[1] == 0
    print(resumed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
