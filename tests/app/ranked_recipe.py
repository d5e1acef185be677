"""One rank of `prunus run`, on tiny data; started by torchrun.

Arguments: a folder for what each rank has in the end, a rank that is killed and the step before
which it is (-1 for none), and the arguments of the command.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import distributed

import tiny
from prunus import zoo
from prunus.cli import main
from prunus.files import write_tensors
from prunus.run import workshop

fit = workshop.fit


def recorded(model, data, settings, *, hook=None, name="train", **options):
    """Train, and write down what this rank then has."""
    history = fit(model, data, settings, hook=hook, name=name, **options)
    found = {f"weights.{key}": value for key, value in model.state_dict().items()}
    if hasattr(hook, "mask"):
        found |= {f"mask.{key}": value for key, value in hook.mask.items()}
    write_tensors(folder / f"{name}-rank{distributed.get_rank()}.safetensors", found)
    return history


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, killed, before = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    zoo.dataset = tiny.build_tiny_data
    workshop.fit = recorded
    if killed == int(os.environ["RANK"]):
        tiny.TinyData.at = {before: lambda: os.kill(os.getpid(), signal.SIGKILL)}
    sys.exit(main(sys.argv[4:]))
