"""What masks that act inside the forward add to a training step.

ResNet-20 is trained on random images, dense and with each method whose masking replaces weights
while the network runs, one step of each in turns within one process. The table shows medians of the
time that the process itself has used, and of its ratio to the dense step of the same turn. Goal: at
most 1.1.

    python benchmarks/forward_overhead.py [turns] [batch size]
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from prunus import Pruner, Target
from prunus.methods import Method, gate, gradual, l0, movement, sss
from prunus.zoo import network

GOAL = 1.1
ARMS: dict[str, Callable[[], Method] | None] = {
    "dense": None,
    "gate": lambda: gate(begin="100000it", strength=0.0),
    "sss, channels": lambda: sss(unit="channel", begin="100000it"),
    "sss, branches": lambda: sss(begin="100000it"),
    "l0": lambda: l0(begin="100000it"),
    "movement": lambda: movement(end="100000it", every="1000it"),
    "gradual, shadow": lambda: gradual(end="100000it", every="1000it", shadow=True),
}


def stepper(arm: str, batch: int) -> Callable[[], float]:
    """Return a function that makes one training step and returns its seconds."""
    torch.manual_seed(0)
    model = network("resnet20").train()
    make = ARMS[arm]
    target = None if make is None or make().target is None else Target(macs=0.5)
    if arm in ("movement", "gradual, shadow"):
        target = Target(sparsity=0.9)
    pruner = Pruner(model, torch.randn(1, 3, 32, 32), make(), target=target) if make else None
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))

    def step() -> float:
        start = time.process_time()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        if pruner is not None:
            loss = loss + pruner.penalty()
        loss.backward()
        optimizer.step()
        if pruner is not None:
            pruner.step(optimizer)
        return time.process_time() - start

    return step


def main() -> None:
    """Measure and print."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    batch = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    torch.set_num_threads(1)
    steps = {arm: stepper(arm, batch) for arm in ARMS}
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {arm: [] for arm in steps}
    for turn in range(turns):
        order = list(steps) if turn % 2 else list(reversed(steps))
        for arm in order:
            seconds[arm].append(steps[arm]())
    table = Table("arm", "ms a step", "ratio to dense", "goal")
    for arm, spent in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(spent, seconds["dense"], strict=True))
        mark = "met" if ratio <= GOAL else "missed"
        table.add_row(arm, f"{statistics.median(spent) * 1e3:.1f}", f"{ratio:.3f}", mark)
    Console().print(f"ResNet-20, batch {batch}, one thread, {turns} turns", table)


if __name__ == "__main__":
    main()
