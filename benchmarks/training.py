"""What the training loop costs over a plain hand-written one, and its samples per second.

Both loops train the same network on synthetic data of its shape, in turns within one process, on
one thread. The ratio is of medians of processor time per step, which on one thread is the time that
passes, less what other processes take away.

Goal: at least 0.97 of the hand-written loop's speed.

    python benchmarks/training.py [seconds per row [network ...]]
"""

import statistics
import sys
import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

from prunus import zoo
from prunus.training import ArrayData, Data, TrainSettings, fit
from prunus.zoo.tokens import TokenStream

GOAL = 0.97
STEPS = 4  # of a round, after one that is not counted


@dataclass(frozen=True)
class Setup:
    """A row: a network of the zoo, the shape of its samples, and how it is trained."""

    network: str
    shape: tuple[int, ...]
    batch: int
    channels_last: bool = False
    bf16: bool = False

    @property
    def title(self) -> str:
        """What the row is called."""
        extras = [name for name in ("bf16", "channels_last") if getattr(self, name)]
        return ", ".join([self.network, f"batch {self.batch}", *extras])

    def model(self) -> nn.Module:
        """Build the network anew."""
        torch.manual_seed(0)
        return zoo.network(self.network)

    def data(self) -> Data:
        """Make samples for the steps of a round."""
        random = torch.Generator().manual_seed(0)
        count = (STEPS + 1) * self.batch
        if self.network.startswith("ptb"):
            tokens = torch.randint(10_000, ((STEPS + 1) * 35 * self.batch + self.batch,))
            return TokenStream("synthetic", {"train": tokens}, 10_000, batch_size=self.batch)
        images = torch.randint(256, (count, *self.shape), dtype=torch.uint8, generator=random)
        labels = torch.randint(10, (count,), generator=random)
        coloured = self.shape[0] == 3
        return ArrayData(
            "synthetic",
            train=(images, labels),
            test=(images, labels),
            classes=10,
            mean=(0.5,),
            std=(0.25,),
            batch_size=self.batch,
            crop_padding=4 * coloured,
            flip=coloured,
        )


GREY, COLOURED = (1, 28, 28), (3, 32, 32)
SETUPS = (
    Setup("lenet300", GREY, 128),
    Setup("lenet5", GREY, 128),
    Setup("resnet20", COLOURED, 128),
    Setup("resnet20", COLOURED, 128, channels_last=True),
    Setup("resnet20", COLOURED, 128, channels_last=True, bf16=True),
    Setup("resnet56", COLOURED, 128, channels_last=True),
    Setup("vgg16", COLOURED, 128, channels_last=True),
    Setup("ptb_lstm", (35,), 20),
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


def by_hand(model: nn.Module, data: Data, clock: _Clock, setup: Setup) -> None:
    """What one would write without a library, fed with batches from the same dataset."""
    layout = torch.channels_last if setup.channels_last else torch.contiguous_format
    model.to(memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    for inputs, labels in data.train_batches(0):
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=layout)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=setup.bf16):
            outputs = model(inputs)
        functional.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()
        clock.step(optimizer)


def by_prunus(model: nn.Module, data: Data, clock: _Clock, setup: Setup) -> None:
    settings = TrainSettings(
        length="1ep",
        lr=0.01,
        weight_decay=1e-4,
        channels_last=setup.channels_last,
        precision="bf16" if setup.bf16 else "fp32",
    )
    fit(model, data, settings, hook=clock)


LOOPS = (by_hand, by_prunus)


def one_round(setup: Setup, data: Data, *, backwards: bool) -> list[float]:
    """Run each loop once; return the median seconds per step of each, in the order of `LOOPS`."""
    medians = []
    for loop in reversed(LOOPS) if backwards else LOOPS:
        clock = _Clock()
        loop(setup.model(), data, clock, setup)
        medians.append(statistics.median(clock.steps()))
    return medians[::-1] if backwards else medians


def main(limit: float, wanted: list[str]) -> None:
    torch.set_num_threads(1)
    table = Table(title="Training on one thread")
    for column in ("", "rounds", "ms by hand", "ms by prunus", "samples/s", "by hand / prunus"):
        table.add_column(column, justify="right" if column else "left")
    for setup in SETUPS:
        if wanted and setup.network not in wanted:
            continue
        data = setup.data()
        rounds = []
        begin = time.perf_counter()
        while len(rounds) < 2 or time.perf_counter() - begin < limit:
            # A machine that slows down during a round shall favour neither loop.
            rounds.append(one_round(setup, data, backwards=len(rounds) % 2 == 1))
        hand, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        # Neighbours in time share the machine's load, so ratios are taken within a round.
        ratio = statistics.median(row[0] / row[1] for row in rounds)
        table.add_row(
            setup.title,
            str(len(rounds)),
            f"{hand * 1e3:.2f}",
            f"{ours * 1e3:.2f}",
            f"{setup.batch / ours:,.0f}",
            f"{ratio:.3f} {'met' if ratio >= GOAL else 'missed'}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 20.0, sys.argv[2:])
