"""What hard masks add to a training step, beside `torch.nn.utils.prune`.

Each network is trained dense, with `prunus.masking.Hard`, and with PyTorch's own pruning, one step
of each in turns within one process; the table shows medians, and the ratio to the dense step of
the same turn. 90 % of the weights are masked. Goal: at most 1.01. On a busy machine the ratio of
two steps is noise; "apply / dense" is the time of the masking alone, which is all that it adds.

    python benchmarks/mask_overhead.py [seconds per network] [threads]
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import permutations

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils import prune

from prunus.masking import Hard
from prunus.zoo import network

GOAL = 1.01


class Words(nn.Module):
    """Two LSTM layers of 256 units between an embedding and a classifier of 1000 words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 256)
        self.lstm = nn.LSTM(256, 256, num_layers=2)
        self.out = nn.Linear(256, 1000)

    def forward(self, ids: Tensor) -> Tensor:
        """Map (steps, batch) word numbers to logits (steps * batch, words)."""
        return self.out(self.lstm(self.embed(ids))[0]).flatten(0, 1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor, int]] = {
    "ResNet-20, batch 128": (lambda: network("resnet20"), torch.randn(128, 3, 32, 32), 10),
    "LSTM 2x256, T=35, b=20": (Words, torch.randint(1000, (35, 20)), 1000),
}


def weights_of(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return what is masked: the matrices of convolutions, linear layers and LSTMs."""
    return [
        (module, name)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear | nn.LSTM)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim > 1
    ]


def random_mask(parameter: Tensor) -> Tensor:
    return torch.rand(parameter.shape, generator=torch.Generator().manual_seed(0)) > 0.9


def dense(model: nn.Module) -> Callable[[], None]:
    return lambda: None


def prunus_mask(model: nn.Module) -> Callable[[], None]:
    masked = {id(getattr(module, name)) for module, name in weights_of(model)}
    masking = Hard(model)
    masking.set({n: random_mask(p) for n, p in model.named_parameters() if id(p) in masked})
    return masking.apply


def torch_prune(model: nn.Module) -> Callable[[], None]:
    for module, name in weights_of(model):
        prune.custom_from_mask(module, name, random_mask(getattr(module, name)))
    return lambda: None


ARMS = {"dense": dense, "prunus": prunus_mask, "torch": torch_prune}


def stepper(
    build: Callable[[], nn.Module], inputs: Tensor, classes: int, arm: str
) -> Callable[[], tuple[float, float]]:
    """Return a function that makes one training step: its seconds, and those of the masking."""
    torch.manual_seed(0)
    model = build()
    after = ARMS[arm](model)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    labels = torch.randint(classes, (model(inputs).shape[0],))

    def step() -> tuple[float, float]:
        begin = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        trained = time.perf_counter()
        after()
        end = time.perf_counter()
        return end - begin, end - trained

    return step


def main(limit: float = 60, threads: float = 2) -> None:
    """Measure both networks and print one row for each."""
    torch.set_num_threads(int(threads))
    table = Table(title=f"ms per training step, 90 % masked, {threads:g} threads; goal {GOAL}")
    ratios = ("prunus / dense", "torch / dense", "apply / dense")
    for heading in ("network", "turns", *ARMS, *ratios):
        table.add_column(heading, justify="right", no_wrap=True)
    orders = list(permutations(ARMS))  # no arm shall profit from its place in a turn
    for name, setup in NETWORKS.items():
        steps = {arm: stepper(*setup, arm) for arm in ARMS}
        for step in steps.values():
            step()
        turns: list[dict[str, float]] = []
        begin = time.perf_counter()
        while len(turns) < 6 or time.perf_counter() - begin < limit:
            turn = {arm: steps[arm]() for arm in orders[len(turns) % len(orders)]}
            whole = {arm: seconds for arm, (seconds, _) in turn.items()}
            turns.append(whole | {"apply": turn["prunus"][1]})
        table.add_row(
            name,
            str(len(turns)),
            *(f"{statistics.median(turn[arm] for turn in turns) * 1e3:.1f}" for arm in ARMS),
            *(
                f"{statistics.median(turn[arm] / turn['dense'] for turn in turns):.4f}"
                for arm in ("prunus", "torch", "apply")
            ),
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
