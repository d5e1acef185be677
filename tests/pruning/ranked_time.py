"""One of two ranks that ask for a time; started by the test. Arguments: rank, a file to meet at."""

import json
import sys

import torch
from torch import distributed, nn

from prunus import Pruner, Target
from prunus.errors import PrunusError
from prunus.pruning import plan, pruner
from prunus.ranks import from_first


class Untimed:
    """Stands in for the stopwatch: nothing is to be measured here."""

    def __init__(self, *args):
        pass


def aim(aimed, *_, **__):
    """Find another share on each rank, as measuring does."""
    if found is None:
        raise ValueError("the clock stands still")
    measured.append(found)
    aimed.target = Target(macs=found)


def told(make):
    """Return what was made, or the error."""
    try:
        return make()
    except (PrunusError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def share():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return Pruner(network, torch.randn(1, 4), "soft_filter", target=Target(speedup=2),
                  steps_per_epoch=1).plan.target.value  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank = int(sys.argv[1])
    distributed.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2)
    plan.Stopwatch, pruner.aim = Untimed, aim
    measured = []
    found = (0.5, 0.25)[rank]
    first = told(share)
    found = None
    failed = told(share)
    after = from_first(lambda: f"from {rank}")
    print(json.dumps([first, measured, failed, after]))
    distributed.destroy_process_group()
