"""Latency of ONNX files in a real runtime, fit for comparing them.

All files are measured in one process, one sample of each in turn, so that a change of the machine's
speed reaches them alike and cancels in the ratio of two samples of the same round. Their order is
drawn anew in every round: with a fixed one, a scheduler that interrupts at regular times can hit
always the same file.
"""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Literal

from scipy.stats import quantile_test

from prunus.deploy.runtimes import inference, version_of

_SAMPLE_S = 0.002  # one interruption then spoils one inference among many, not the sample
_MIN_ROUNDS = 6  # below that, not even (smallest, largest) covers the median with 95 %
_STABLE = 0.02  # relative change between two batches of warm-up samples

CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "processor": process_time}
"""Name of a clock -> what reads it, in seconds."""


@dataclass(frozen=True)
class Latency:
    """Time of one inference.

    Args:
        median_ms: Median over the rounds, in milliseconds.
        low_ms: Lower end of the median's 95 % interval, from ranks.
        high_ms: Upper end.
        rounds: Samples taken.
        samples_ms: Each sample, by round.
        runtime: Name and version of what ran the file.
        threads: Threads inside an operator.
        batch: Rows per inference.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int
    samples_ms: tuple[float, ...]
    runtime: str
    threads: int
    batch: int


@dataclass(frozen=True)
class Speedup:
    """Time of one file over that of another: the median over the rounds and its 95 % interval."""

    median: float
    low: float
    high: float


def latency(
    paths: Mapping[str, Path],
    *,
    runtime: str = "onnxruntime",
    batch: int = 1,
    threads: int = 1,
    rounds: int = 50,
    warmup: float = 5.0,
    clock: Literal["wall", "processor"] = "wall",
) -> dict[str, Latency]:
    """Measure ONNX files against each other in one runtime on the CPU.

    Every file is first run until its time is stable. Then each round takes one sample of every
    file: the median of as many inferences as fill 2 ms, after an untimed one that brings the file's
    weights back into the caches. Inputs are random; integer inputs are zeros.

    Args:
        paths: Name -> ONNX file.
        runtime: A name of `RUNTIMES`.
        batch: Rows per inference, at least 1.
        threads: Threads inside an operator, at least 1; operators run one after the other.
        rounds: Samples of each file, at least 6 (the fewest that give a 95 % interval).
        warmup: Seconds after which a file that is not yet stable is measured all the same.
        clock: "wall", or "processor" for the time that this process computes, which other programs
            do not lengthen. On one thread of an idle machine both are the same.

    Returns:
        Name -> latency, in the order of `paths`.

    Raises:
        ValueError: An argument is out of range, the runtime is unknown or not installed, or a file
            has another fixed batch size.
        FileNotFoundError: A file is missing.
    """
    if not paths:
        raise ValueError('paths must name at least one file, got none; pass {"dense": path}.')
    for name, value, least in (("batch", batch, 1), ("threads", threads, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")
    if rounds < _MIN_ROUNDS:
        raise ValueError(
            f"rounds must be at least {_MIN_ROUNDS}, got {rounds}: fewer samples give no 95 % "
            "interval of the median."
        )
    if clock not in CLOCKS:
        raise ValueError(f"clock must be one of {', '.join(CLOCKS)}, got {clock!r}.")
    if clock == "processor" and threads > 1:
        raise ValueError(
            "clock 'processor' adds up the time of all threads, so it takes one; got "
            f"threads={threads}. Take 'wall'."
        )
    now = CLOCKS[clock]
    runs = {name: inference(runtime, Path(path), batch, threads) for name, path in paths.items()}
    repeats = {name: _warm_up(run, warmup, now) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    generator = random.Random(0)
    for _ in range(rounds):
        generator.shuffle(order)
        for name in order:
            runs[name]()
            samples[name].append(1e3 * _seconds(runs[name], repeats[name], now))
    return {
        name: Latency(
            *_median_interval(values),
            rounds=rounds,
            samples_ms=tuple(values),
            runtime=version_of(runtime),
            threads=threads,
            batch=batch,
        )
        for name, values in samples.items()
    }


def speedup(a: Latency, b: Latency) -> Speedup:
    """How many times faster `b` is than `a`: the median of a / b over the rounds.

    The two samples of a round were taken next to each other, so their ratio hardly feels that the
    machine is slower in some rounds than in others.

    Args:
        a: The reference, such as the dense network.
        b: What is compared with it, from the same call of `latency`.

    Raises:
        ValueError: The two do not have the same rounds, runtime, threads, and batch.
    """
    settings = [(x.rounds, x.runtime, x.threads, x.batch) for x in (a, b)]
    if settings[0] != settings[1]:
        raise ValueError(
            "a and b must come from one call of latency(), got (rounds, runtime, threads, batch) "
            f"{settings[0]} and {settings[1]}."
        )
    return Speedup(
        *_median_interval([x / y for x, y in zip(a.samples_ms, b.samples_ms, strict=True)])
    )


def _seconds(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times)


def _warm_up(run: Callable[[], object], limit: float, clock: Callable[[], float]) -> int:
    """Run until two batches of five samples agree; return the repeats that make a sample 2 ms."""
    start = perf_counter()
    run()
    repeats = 1
    before = math.inf
    while True:
        now = statistics.median(_seconds(run, repeats, clock) for _ in range(5))
        repeats = max(1, math.ceil(_SAMPLE_S / now))
        if abs(now - before) <= _STABLE * now or perf_counter() - start > limit:
            return repeats
        before = now


def _median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the two samples between which it lies with at least 95 %."""
    interval = quantile_test(samples, p=0.5).confidence_interval(0.95)
    return statistics.median(samples), float(interval.low), float(interval.high)
