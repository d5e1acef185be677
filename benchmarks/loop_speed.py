"""What the training loop costs over a plain hand-written one, and the data path's share of a step.

Both loops train a ResNet-20 on synthetic CIFAR-shaped data, in turns within one process, on one
thread. The table shows medians of processor time, which on one thread is the time that passes, less
what other processes take away. Run it with `python benchmarks/loop_speed.py [seconds per row]`.
"""

import statistics
import sys
import time
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from prunus.training import ArrayData, TrainSettings, fit

BATCH = 128
SETUPS = {
    "fp32": (False, False),
    "fp32 channels_last": (True, False),
    "bf16 channels_last": (True, True),
}


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.stride, self.extra = stride, outside - inside

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.extra))
        x = functional.relu(self.norm1(self.first(x)))
        return functional.relu(self.norm2(self.second(x)) + shortcut)


def resnet20() -> nn.Module:
    torch.manual_seed(0)
    blocks = [
        _Block(inside if number == 0 else outside, outside, stride if number == 0 else 1)
        for inside, outside, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        for number in range(3)
    ]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *blocks, *head)


def cifar_shaped(steps: int) -> ArrayData:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (steps * BATCH, 3, 32, 32), dtype=torch.uint8, generator=random)
    labels = torch.randint(10, (steps * BATCH,), generator=random)
    return ArrayData(
        "synthetic",
        train=(images, labels),
        test=(images[:BATCH], labels[:BATCH]),
        classes=10,
        mean=(0.49, 0.48, 0.45),
        std=(0.25, 0.24, 0.26),
        batch_size=BATCH,
        crop_padding=4,
        flip=True,
    )


class _Clock:
    """Notes the processor time after each step; as a hook, inside the library's loop as well."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def penalty(self) -> float:
        return 0

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.times.append(time.process_time())

    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        pass

    def steps(self) -> list[float]:
        """Return the seconds that each step took, without the first and its preparations."""
        return [after - before for before, after in pairwise(self.times)]


def by_hand(data: ArrayData, clock: _Clock, channels_last: bool, bf16: bool) -> None:
    """What one would write without a library, fed with batches from the same dataset."""
    model = resnet20()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    for inputs, labels in data.train_batches(0):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = model(inputs.contiguous(memory_format=layout))
        functional.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()
        clock.step(optimizer)


def by_prunus(data: ArrayData, clock: _Clock, channels_last: bool, bf16: bool) -> None:
    settings = TrainSettings(
        length="1ep",
        lr=0.1,
        weight_decay=1e-4,
        channels_last=channels_last,
        precision="bf16" if bf16 else "fp32",
    )
    fit(resnet20(), data, settings, hook=clock)


def data_only(data: ArrayData, clock: _Clock, channels_last: bool, bf16: bool) -> None:
    for _ in data.train_batches(0):
        clock.times.append(time.process_time())


LOOPS = (by_hand, by_prunus, data_only)


def one_round(data: ArrayData, setup: tuple[bool, bool], *, backwards: bool) -> list[float]:
    """Run each loop once; return the median seconds per step of each, in the order of `LOOPS`."""
    medians = []
    for loop in reversed(LOOPS) if backwards else LOOPS:
        clock = _Clock()
        loop(data, clock, *setup)
        medians.append(statistics.median(clock.steps()))
    return medians[::-1] if backwards else medians


def main(limit: float = 50) -> None:
    torch.set_num_threads(1)
    data = cifar_shaped(steps=4)
    table = Table(title=f"Median ms per training step, ResNet-20, batch {BATCH}, one thread")
    for column in ("", "rounds", "by hand", "prunus", "prunus / by hand", "data", "data / step"):
        table.add_column(column, justify="right")
    for name, setup in SETUPS.items():
        rounds = []
        begin = time.perf_counter()
        while not rounds or time.perf_counter() - begin < limit:
            # A machine that slows down during a round shall favour neither loop.
            rounds.append(one_round(data, setup, backwards=len(rounds) % 2 == 1))
        hand, ours, loading = (statistics.median(column) for column in zip(*rounds, strict=True))
        # Neighbours in time share the machine's load, so ratios are taken within a round.
        overhead = statistics.median(row[1] / row[0] for row in rounds)
        share = statistics.median(row[2] / row[1] for row in rounds)
        table.add_row(
            name,
            str(len(rounds)),
            f"{hand * 1e3:.1f}",
            f"{ours * 1e3:.1f}",
            f"{overhead:.3f}",
            f"{loading * 1e3:.2f}",
            f"{share:.1%}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
