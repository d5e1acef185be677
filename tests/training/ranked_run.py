"""One rank of a data-parallel run of the tiny problem; started by torchrun."""

import importlib.util
import sys
from pathlib import Path

import torch

from prunus.files import write_tensors
from prunus.training import TrainSettings, fit

spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("conftest.py"))
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


def main(directory, break_at):
    torch.set_num_threads(1)
    model = tiny.tiny_model()
    hook = tiny.MaskHook(model)
    step = hook.step

    def step_or_break(optimizer):
        step(optimizer)
        if hook.steps == break_at:
            raise SystemExit(1)

    hook.step = step_or_break
    settings = TrainSettings(
        length="6ep", lr=0.05, ema=0.9, keep="best", early_stop=4, checkpoint_every="3it"
    )
    fit(model, tiny.tiny_data(), settings, hook=hook, directory=directory)
    rank = torch.distributed.get_rank()
    write_tensors(directory / f"rank{rank}.safetensors", model.state_dict())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
