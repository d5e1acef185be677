"""The global random state of torch, seeded for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Let what is drawn on the CPU and on some GPUs start from a seed; all is put back afterwards.

    `torch.manual_seed` would seed all other GPUs as well, and nothing put them back.

    Args:
        seed: Of torch's global generators.
        devices: Those of them that are GPUs are seeded, too.
    """
    gpus = {device for device in devices if device.type == "cuda"}
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu.index].manual_seed(seed)
        yield
