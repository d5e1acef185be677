"""What finding and removing channels costs, beside Torch-Pruning.

Networks with random weights lose half the channels of every layer, by `prunus.space` and by
Torch-Pruning's own pruner, each from the network and one image of 224 x 224 to the small network.
Prunus does so three times: analysis and removal alone ("removed", which is what Torch-Pruning
does; where a forward must be rewritten, that is part of it), with the calls of the small network
compared to those of the dense one ("compared", what `check=False` leaves), and with the proof. All
run in turns within one process, on one thread; the tables show medians, and the ratio of the two
times of the same turn with its smallest and largest value. Torch-Pruning works on a copy that is
not timed, Prunus makes its own. Swin it cannot do (1.6.1 fails on Swin-B and never ends on Swin-T),
so there it is first tried in a process of its own, for a minute. What fails shows under the table,
and what cannot be proved equal misses its goal.

Goals of "removed": at most 1.0 of Torch-Pruning's time, a third on DenseNet-201; Swin-B in 3
seconds; while channels are removed, memory for at most 1.2 times the parameters. Analysis shall
grow in proportion to the operations of the network: the time of each stays the same.

    pip install torch-pruning==1.6.1
    python benchmarks/structure.py [rounds [network ...]]
"""

import copy
import ctypes
import gc
import multiprocessing
import os
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch_pruning
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunus.report.quantities import count, interval, size
from prunus.run.document import environment
from prunus.space import Space, trace
from prunus.space.remove import remove
from prunus.space.shrink import shrink
from prunus.types import Keep

GOALS: dict[str, float] = {  # largest share of Torch-Pruning's time
    "resnet50": 1.0,
    "densenet201": 1 / 3,
    "vit_b_16": 1.0,
    "convnext_base": 1.0,
    "swin_b": 1.0,
    "mobilenet_v3_large": 1.0,
}
HARD = {"swin_b": 3.0}  # tried apart first; where Torch-Pruning fails, the goal is in seconds
SCALING = ("densenet121", "densenet169", "densenet201", "vit_b_16", "vit_l_16", "vit_h_14")
MEMORY_GOAL = 1.2
LIMIT_S = 60.0  # for what may never end
NEVER = "never ends"
BUDGET_S = 240.0  # of Torch-Pruning's time per network; no further rounds after it
NEEDED_GB = {"vit_h_14": 8.0}


def build(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval(), torch.randn(1, 3, 224, 224)


def halved(space: Space) -> Keep:
    """Keep the first half of the units of every group."""
    return {g.name: torch.arange(g.size) < g.size - g.size // 2 for g in space.groups}


def removal(model: nn.Module, example: Tensor) -> float:
    """Return the seconds of the analysis and of a removal from the user's own classes."""
    begin = time.perf_counter()
    space = trace(model, example)
    remove(model, space, halved(space))
    return time.perf_counter() - begin


def analysis(model: nn.Module, example: Tensor) -> float:
    """Return the seconds of the analysis."""
    begin = time.perf_counter()
    trace(model, example)
    return time.perf_counter() - begin


def comparison(model: nn.Module, example: Tensor, *, check: bool = False) -> float:
    """Return the seconds of all, with the calls of both networks compared, or with the proof."""
    begin = time.perf_counter()
    space = trace(model, example)
    shrink(model, space, halved(space), example, check=check)
    return time.perf_counter() - begin


def proof(model: nn.Module, example: Tensor) -> float:
    """Return the seconds of all, with the comparison of the small and the masked network."""
    return comparison(model, example, check=True)


def keeps_classes(model: nn.Module, example: Tensor) -> bool:
    """Say whether the small network is of the user's own classes, its forward not rewritten."""
    space = trace(model, example)
    return shrink(model, space, halved(space), example, check=False).form == "original classes"


def theirs(model: nn.Module, example: Tensor) -> float:
    """Return Torch-Pruning's seconds for analysis, scores and removal; `model` is changed."""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    attention = [m for m in model.modules() if isinstance(m, nn.MultiheadAttention)]
    begin = time.perf_counter()
    pruner = torch_pruning.pruner.BasePruner(
        model,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=[head],
        num_heads={module: module.num_heads for module in attention},
        in_channel_groups={},  # the defaults are shared by all pruners and keep their layers
        out_channel_groups={},
    )
    pruner.step()
    return time.perf_counter() - begin


ARMS: dict[str, Callable[[nn.Module, Tensor], float]] = {
    "analysis": analysis,
    "removed": removal,
    "compared": comparison,
    "proved": proof,
    "Torch-Pruning": theirs,
}


def failure_of_theirs(name: str) -> str | None:
    """Say how Torch-Pruning fails within the limit, in a process of its own; None where it ends."""
    found = apart(_theirs_apart, name, limit=LIMIT_S)
    return found if isinstance(found, str) else None


def _theirs_apart(name: str) -> float:
    return theirs(*build(name))


def apart(work: Callable[[str], Any], name: str, *, limit: float | None = None) -> Any:
    """Return what `work(name)` returns in a fresh process, or a short text of how it failed."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, work, name))
    process.start()
    there.close()
    try:
        if not here.poll(limit):
            return NEVER
        return here.recv()
    except EOFError:
        process.join()
        return f"died ({process.exitcode})"
    finally:
        process.kill()
        process.join()


def _send(pipe: Connection, work: Callable[[str], Any], name: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pipe.send(attempt(work, name))


def attempt(work: Callable[..., Any], *args: Any) -> Any:
    """Return what `work` returns, or the beginning of its error's text."""
    try:
        return work(*args)
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0][:200]


def speed(name: str, rounds: int) -> tuple[list[str], list[str]]:
    """Time one network; return its row, and notes on what failed."""
    model, example = build(name)
    with torch.no_grad():
        model(example)
    gone = failure_of_theirs(name) if name in HARD else None
    notes: dict[str, str] = {} if gone is None else {"Torch-Pruning": gone}
    arms = ARMS if keeps_classes(model, example) else {**ARMS, "removed": comparison}
    turns: list[dict[str, Any]] = []
    spent = 0.0
    for number in range(rounds):
        order = [arm for arm in arms if arm not in notes]
        turn: dict[str, float] = {}
        # a machine that slows down during a turn shall favour nobody
        for arm in reversed(order) if number % 2 else order:
            given = copy.deepcopy(model) if arm == "Torch-Pruning" else model
            gc.collect()
            found = attempt(arms[arm], given, example)
            del given
            if isinstance(found, str):
                notes[arm] = found
            else:
                turn[arm] = found
        turns.append(turn)
        spent += turn.get("Torch-Pruning", 0.0)
        if spent > BUDGET_S:
            break
    times = {arm: [turn[arm] for turn in turns if arm in turn] for arm in arms}
    ratios = {
        arm: [t[arm] / t["Torch-Pruning"] for t in turns if arm in t and "Torch-Pruning" in t]
        for arm in ("removed", "compared")
    }
    reached = ratios["removed"]
    if not all(times[arm] for arm in ("removed", "compared", "proved")):
        verdict = "missed"
    elif reached:
        verdict = f"{GOALS[name]:.2f} {met(statistics.median(reached), GOALS[name])}"
    elif name in HARD:
        verdict = f"{HARD[name]:.0f} s {met(statistics.median(times['removed']), HARD[name])}"
    else:
        verdict = "missed"
    row = [
        name,
        str(len(turns)),
        *(seconds(times[arm]) or "fails" for arm in ("analysis", "removed", "compared", "proved")),
        seconds(times["Torch-Pruning"])
        or (NEVER if notes.get("Torch-Pruning") == NEVER else "fails"),
        f"{statistics.median(reached):.2f}" if reached else "",
        interval(min(reached), max(reached)) if reached else "",
        f"{statistics.median(ratios['compared']):.2f}" if ratios["compared"] else "",
        verdict,
    ]
    return row, [f"{name}, {arm}: {text}" for arm, text in notes.items()]


def met(reached: float, goal: float) -> str:
    """Say whether a goal is reached."""
    return "met" if reached <= goal else "missed"


def seconds(values: list[float]) -> str:
    """Return the median, or nothing where there is none."""
    return f"{statistics.median(values):.2f} s" if values else ""


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that a forward pass is made of."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count one and run it."""
        self.number += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def scaling(name: str, rounds: int) -> list[str]:
    """Return the row of one network: analysis against the number of operations."""
    free = available_gb()
    if free < NEEDED_GB.get(name, 0.0):
        return [name, f"skipped: {free:.1f} GB of memory are free"]
    model, example = build(name)
    torch.backends.mha.set_fastpath_enabled(False)  # as during the analysis
    with Counter() as counter:
        model(example)
    times: dict[str, list[float]] = {"forward": [], "trace": []}
    for _ in range(rounds):
        for what, run in (("forward", model), ("trace", lambda x: trace(model, x))):
            gc.collect()
            begin = time.perf_counter()
            if isinstance(failure := attempt(run, example), str):
                return [name, failure]
            times[what].append(time.perf_counter() - begin)
    added = [b - a for a, b in zip(times["forward"], times["trace"], strict=True)]
    each = [1e3 * extra / counter.number for extra in added]
    return [
        name,
        count(sum(p.numel() for p in model.parameters())),
        str(counter.number),
        seconds(times["forward"]),
        seconds(times["trace"]),
        f"{statistics.median(each):.3f} ms",
        interval(min(each), max(each)),
    ]


def available_gb() -> float:
    """Return the memory that is free, in GB; everything where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    fields = dict(line.split(":") for line in lines)
    return int(fields["MemAvailable"].split()[0]) / 1e6


def removal_memory(name: str) -> tuple[int, int, int]:
    """Return bytes: of the parameters, of the small ones, of the peak while channels are removed.

    The peak is above what the process held before; the small network is part of it.
    """
    model, example = build(name)
    space = trace(model, example)
    keep = halved(space)
    gc.collect()
    with Peak() as peak:
        small = shrink(model, space, keep, example, check=False).model
    return bytes_of(model), bytes_of(small), peak.extra


def bytes_of(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


class Peak:
    """The largest resident memory above that at the beginning, looked at every half millisecond.

    Attributes:
        extra: In bytes, after the block.
    """

    def __init__(self) -> None:
        self.extra = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        try:  # what was freed before shall not be given out again unseen
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except OSError:
            print("no malloc_trim here: freed memory may hide what is used", file=sys.stderr)
        self._begin = resident()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._look()
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.0005):
            self._look()

    def _look(self) -> None:
        self.extra = max(self.extra, resident() - self._begin)


def resident() -> int:
    """Return the bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory(name: str) -> list[str]:
    """Return the row of one network, measured in a fresh process."""
    found = apart(removal_memory, name)
    if isinstance(found, str):
        return [name, found]
    dense, small, extra = found
    share = extra / dense
    return [
        name,
        size(dense),
        size(small),
        size(extra),
        f"{share:.2f}",
        f"{MEMORY_GOAL} {met(share, MEMORY_GOAL)}",
    ]


def table(title: str, headings: tuple[str, ...]) -> Table:
    made = Table(title=title)
    for heading in headings:
        made.add_column(heading, justify="left" if heading == "network" else "right", no_wrap=True)
    return made


def main(rounds: int, names: list[str]) -> None:
    """Print the tables of time, of growth and of memory."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    unknown = set(names) - {*GOALS, *SCALING}
    if unknown:
        raise SystemExit(f"no such network: {', '.join(unknown)}; there are {[*GOALS, *SCALING]}")
    console = Console(width=150)
    rival = f"Torch-Pruning {version('torch-pruning')}"
    first = table(
        f"half the channels, 1 thread, {environment()['cpu']}",
        (
            *("network", "rounds", "analysis", "removed", "compared", "proved", rival),
            *("ratio", "range", "compared", "goal"),
        ),
    )
    for arm in ARMS.values():  # what is loaded or compiled at the first use
        arm(*build("resnet18"))
    notes = []
    for name in (name for name in GOALS if name in names):
        row, failed = speed(name, rounds)
        first.add_row(*row)
        notes += failed
    if first.row_count:
        console.print(first, *notes, sep="\n")
    second = table(
        "analysis against operations; each is what trace adds to the forward pass",
        ("network", "parameters", "operations", "forward", "trace", "each", "range"),
    )
    for name in (name for name in SCALING if name in names):
        second.add_row(*scaling(name, rounds))
    if second.row_count:
        console.print(second)
    third = table(
        "peak memory of the removal, the small network included",
        ("network", "parameters", "small", "extra", "share", "goal"),
    )
    for name in (name for name in GOALS if name in names):
        third.add_row(*memory(name))
    if third.row_count:
        console.print(third)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2:] or [*GOALS, *SCALING])
