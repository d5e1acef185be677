"""What each method costs beside the training it goes with.

Methods that act while a network trains: one plain step and one step with each method's pruner, in
turns within one process, on one thread; the table shows the median of the ratios of the same turn,
and the time of the pruner's own calls (penalty and step) as a share of the plain step, which is all
that a mask adds and less noisy. Updates of the mask come at the interval of the method's defaults;
their share is added as "update / interval". Methods that decide once: the seconds of the decision,
and how many plain steps they are. ResNet-20, batch 128 (32 for samples).

    python benchmarks/methods.py [seconds per method [method ...]]
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from prunus import Calibration, Pruner, Target
from prunus.methods import METHODS, Method
from prunus.pruning.plan import Plan
from prunus.schedules import iterations
from prunus.types import Scores
from prunus.zoo import network

GOALS = {
    "gibbs filter": 1.5,
    "gate": 1.1,
    **dict.fromkeys(("slimming", "soft_filter", "gradual", "drop"), 1.02),
}
LONG = "100000it"
EPOCH = 391  # steps
TURNS = 3  # of one pair of networks

X = torch.randn(128, 3, 32, 32, generator=torch.Generator().manual_seed(0))
Y = torch.arange(128) % 10


def in_training() -> dict[str, Method]:
    """Return the methods that act at every step, with a schedule that never ends here."""
    found: dict[str, Method] = {}
    for name, make in METHODS.items():
        for length in ("end", "begin"):
            try:
                method = make(**{length: LONG})
            except (TypeError, ValueError):
                continue
            found[name] = method
            break
    if "gibbs" in found:
        del found["gibbs"]
        for kind in ("weight", "kernel", "filter"):
            found[f"gibbs {kind}"] = METHODS["gibbs"](hamiltonian=kind, end=LONG)
    return found


def target(method: Method) -> Target | None:
    return None if method.temporary else method.target or Target(sparsity=0.5)


class Arm:
    """A network that trains, with a pruner or without."""

    def __init__(self, method: Method | None) -> None:
        torch.manual_seed(0)
        self.model = network("resnet20")
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9)
        self.pruner = None
        if method is not None:
            self.pruner = Pruner(
                self.model,
                X[:1],
                method,
                target=target(method),
                steps_per_epoch=EPOCH,
                calibration=Calibration([(X[:32], Y[:32])]),
            )

    def step(self) -> tuple[float, float]:
        """Train once; return the seconds of all, and of the pruner's own calls."""
        begin = time.perf_counter()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(X), Y)
        own = time.perf_counter()
        if self.pruner is not None:
            loss = loss + self.pruner.penalty()
        own -= time.perf_counter()
        loss.backward()
        self.optimizer.step()
        stepped = time.perf_counter()
        if self.pruner is not None:
            self.pruner.step(self.optimizer)
        end = time.perf_counter()
        return end - begin, end - stepped - own


def update_seconds(method: Method, learned: Scores | None = None) -> float:
    """Return the seconds of one update of the mask, given what a masking has learned."""
    torch.manual_seed(0)
    model = network("resnet20")
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    plan = Plan(model, X[:1], method, target(method), calibration=Calibration([(X[:32], Y[:32])]))
    share, random = plan.removed / 2, torch.Generator().manual_seed(0)
    return _seconds(lambda: plan.decide(model, random, share, learned=learned))


def _seconds(work: Callable[[], object], times: int = 3) -> float:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def main(limit: float, names: list[str]) -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    console = Console(width=110)
    plain = Arm(None)
    seconds = statistics.median(plain.step()[0] for _ in range(5))
    console.print(f"plain step: {seconds * 1e3:.0f} ms")

    table = Table(title="While the network trains, as a ratio to the plain step")
    for heading in ("method", "turns", "step / plain", "own calls", "update / interval", "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
    acting = in_training()
    for name, method in acting.items():
        if names and name not in names:
            continue
        ratios, own = [], []
        begin = time.perf_counter()
        while len(ratios) < 4 * TURNS or time.perf_counter() - begin < limit:
            if len(ratios) % TURNS == 0:  # where a network lies in memory makes a tenth
                first = Arm(method if len(ratios) % 2 else None)
                second = Arm(None if len(ratios) % 2 else method)
                arm, plain = (first, second) if first.pruner else (second, first)
                arm.step(), plain.step()
            order = (arm, plain) if len(ratios) % 2 else (plain, arm)
            found = {id(one): one.step() for one in order}
            ratios.append(found[id(arm)][0] / found[id(plain)][0])
            own.append(found[id(arm)][1] / found[id(plain)][0])
        share = 0.0
        if method.schedule.curve != "one_shot":
            every = iterations(method.schedule.every, EPOCH)
            assert arm.pruner is not None
            share = update_seconds(method, arm.pruner._masking.scores()) / every / seconds
        table.add_row(
            name,
            str(len(ratios)),
            f"{statistics.median(ratios):.3f}",
            f"{statistics.median(own):.4f}",
            f"{share:.4f}",
            f"{GOALS[name]:g}" if name in GOALS else "",
        )
    console.print(table)

    table = Table(title="Deciding once")
    for heading in ("method", "seconds", "plain steps"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, make in METHODS.items():
        if name in acting or name == "gibbs" or (names and name not in names):
            continue
        taken = update_seconds(make())
        table.add_row(name, f"{taken:.2f}", f"{taken / seconds:.1f}")
    console.print(table)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0, sys.argv[2:])
