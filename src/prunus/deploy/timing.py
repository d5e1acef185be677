"""Latency of networks in real runtimes, fit for comparing them.

All networks are measured in one process, one sample of each in turn, so that a change of the
machine's speed reaches them alike and cancels in the ratio of two samples of the same round. Their
order is drawn anew in every round: with a fixed one, a scheduler that interrupts at regular times
can hit always the same network.
"""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import get_clock_info, perf_counter, process_time
from typing import Literal

import numpy as np
from scipy.stats import quantile_test

from prunus.deploy.runtimes import Network, inference, version_of
from prunus.deploy.torch_runtimes import Inference, Module, keeps_threads
from prunus.types import Setting

_SAMPLE_S = 0.002  # one interruption then spoils one inference among many, not the sample
_MIN_ROUNDS = 6  # below that, not even (smallest, largest) covers the median with 95 %
_STABLE = 0.02  # relative change between two batches of warm-up samples

CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "processor": process_time}
"""Name of a clock -> what reads it, in seconds."""


Clock = Literal["wall", "processor"]


def steady_clock(threads: int) -> Clock:
    """Return the clock by which ratios are right on a busy machine, too, where there is one.

    Other programs interrupt a long inference and spare a short one, so that by the clock on the
    wall the short one gains; on one thread the processor's time leaves them out. Where that clock
    is coarse, as on Windows, it is the one on the wall.
    """
    fine = get_clock_info("process_time").resolution < _SAMPLE_S / 20
    return "processor" if threads == 1 and fine else "wall"


@dataclass(frozen=True)
class Latency:
    """Time of one inference.

    Args:
        median_ms: Median over the rounds, in milliseconds.
        low_ms: Lower end of the median's 95 % interval, from ranks.
        high_ms: Upper end.
        rounds: Samples taken.
        samples_ms: Each sample, by round.
        runtime: Name and version of what ran the network.
        threads: Threads inside an operator.
        batch: Rows per inference.
        precision: Numbers that it computed with.
        inferences_ms: Each timed inference: a sample is the median of several.
        stable: Whether its time was stable before the first round.
        warmup_s: Seconds that this took, or after which it was measured all the same.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int
    samples_ms: tuple[float, ...]
    runtime: str
    threads: int
    batch: int
    precision: str = "fp32"
    inferences_ms: tuple[float, ...] = ()
    stable: bool = True
    warmup_s: float = 0.0

    def percentile(self, percent: float) -> float | None:
        """Return the time that so many per cent of the inferences took at most, in milliseconds.

        None where there are too few of them to have one beyond it: 100 for the 99th.
        """
        if len(self.inferences_ms) * (100 - percent) < 100:
            return None
        return float(np.percentile(self.inferences_ms, percent))

    @property
    def throughput(self) -> float:
        """Rows per second, one inference after the other, as timed on the clock."""
        return 1e3 * self.batch / statistics.fmean(self.inferences_ms or self.samples_ms)

    def joined(self, more: "Latency") -> "Latency":
        """Return what was found in all rounds: these, then those of `more`, of the same network."""
        samples = (*self.samples_ms, *more.samples_ms)
        median, low, high = _median_interval(samples)
        return replace(
            self,
            median_ms=median,
            low_ms=low,
            high_ms=high,
            rounds=len(samples),
            samples_ms=samples,
            inferences_ms=(*self.inferences_ms, *more.inferences_ms),
            stable=self.stable and more.stable,
            warmup_s=self.warmup_s + more.warmup_s,
        )


@dataclass(frozen=True)
class Speedup:
    """Time of one network over that of another, with its 95 % interval."""

    median: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Which is faster; neither where the interval holds 1."""
        if self.low > 1:
            return "faster"
        if self.high < 1:
            return "slower"
        return "no difference beyond the noise"


def latency(
    networks: Mapping[str, Network],
    *,
    runtime: str = "onnxruntime",
    precision: str = "fp32",
    batch: int = 1,
    threads: int = 1,
    rounds: int = 50,
    warmup: float = 5.0,
    clock: Clock = "wall",
) -> dict[str, Latency]:
    """Measure networks against each other in one runtime on the CPU.

    Args:
        networks: Name -> ONNX file, for precision "int8" one that `quantise` wrote; or a module.
        runtime: A name of `RUNTIMES`.
        precision: A name of `prunus.types.PRECISIONS`.
        batch: Rows per inference, at least 1.
        threads: Threads inside an operator, at least 1; operators run one after the other.
        rounds: As for `measure`.
        warmup: As for `measure`.
        clock: As for `measure`.

    Returns:
        Name -> latency, in the order of `networks`.

    Raises:
        InferenceError: The runtime cannot run a network.
        ValueError: An argument is out of range, the runtime is unknown or not installed, or a file
            has another fixed batch size.
        FileNotFoundError: A file is missing.
    """
    setting = Setting(runtime=runtime, precision=precision, threads=threads, batch=batch)
    subjects = {
        name: (one if isinstance(one, Module) else Path(one), setting)
        for name, one in networks.items()
    }
    return measure(subjects, rounds=rounds, warmup=warmup, clock=clock)


def measure(
    subjects: Mapping[str, tuple[Network, Setting]],
    *,
    rounds: int = 50,
    warmup: float = 5.0,
    clock: Clock = "wall",
) -> dict[str, Latency]:
    """Measure networks against each other, each in a runtime of its own.

    Args:
        subjects: Name -> network, and where it runs.
        rounds: Samples of each, at least 6 (the fewest that give a 95 % interval).
        warmup: Seconds after which a network that is not yet stable is measured all the same.
        clock: "wall", or "processor" for the time that this process computes, which other programs
            do not lengthen. On one thread of an idle machine both are the same.

    Returns:
        Name -> latency, in the order of `subjects`.

    Raises:
        InferenceError: A runtime cannot run a network.
        ValueError: An argument is out of range, a runtime is unknown or not installed, or a file
            has another fixed batch size.
        FileNotFoundError: A file is missing.
    """
    settings = {name: setting for name, (_, setting) in subjects.items()}
    _check(settings, rounds, clock)
    with keeps_threads():
        runs = {name: inference(network, setting) for name, (network, setting) in subjects.items()}
        return interleaved(runs, settings, rounds=rounds, warmup=warmup, clock=clock)


def interleaved(
    runs: Mapping[str, Inference],
    settings: Mapping[str, Setting],
    *,
    rounds: int,
    warmup: float = 5.0,
    clock: Clock = "wall",
    tell: Callable[[int], None] = lambda done: None,
) -> dict[str, Latency]:
    """Measure what is loaded.

    Everything is first run until its time is stable. Then each round takes one sample of each: the
    median of as many inferences as fill 2 ms, after an untimed one that brings the weights back
    into the caches.

    Args:
        runs: Name -> what runs it once.
        settings: Name -> where it runs.
        rounds: As for `measure`.
        warmup: As for `measure`.
        clock: As for `measure`.
        tell: Called after each round with how many are done; nothing is timed meanwhile.
    """
    _check(settings, rounds, clock)
    now = CLOCKS[clock]
    warm = {name: _warm_up(run, warmup, now) for name, run in runs.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in runs}
    order = list(runs)
    generator = random.Random(0)
    for done in range(1, rounds + 1):
        generator.shuffle(order)
        for name in order:
            runs[name]()
            times[name].append(_times(runs[name], warm[name].repeats, now))
        tell(done)
    found = {}
    for name, setting in settings.items():
        samples = [1e3 * statistics.median(sample) for sample in times[name]]
        found[name] = Latency(
            *_median_interval(samples),
            rounds=rounds,
            samples_ms=tuple(samples),
            runtime=version_of(setting.runtime),
            threads=setting.threads,
            batch=setting.batch,
            precision=setting.precision,
            inferences_ms=tuple(1e3 * time for sample in times[name] for time in sample),
            stable=warm[name].stable,
            warmup_s=warm[name].seconds,
        )
    return found


def speedup(a: Latency, b: Latency) -> Speedup:
    """How many times faster `b` is than `a`: the median of a / b over the rounds.

    The two samples of a round were taken next to each other, so their ratio hardly feels that the
    machine is slower in some rounds than in others.

    Args:
        a: The reference, such as the dense network.
        b: What is compared with it, from the same call of `latency`.

    Raises:
        ValueError: The two do not have the same rounds, threads, and batch.
    """
    settings = [(x.rounds, x.threads, x.batch) for x in (a, b)]
    if settings[0] != settings[1]:
        raise ValueError(
            "a and b must come from one call of latency(), got (rounds, threads, batch) "
            f"{settings[0]} and {settings[1]}."
        )
    return Speedup(
        *_median_interval([x / y for x, y in zip(a.samples_ms, b.samples_ms, strict=True)])
    )


def check_rounds(rounds: int) -> None:
    """Refuse a number of rounds after which no interval is known.

    Args:
        rounds: Samples of each network; 0 for no timing.

    Raises:
        ValueError: They are too few.
    """
    if rounds != 0 and rounds < _MIN_ROUNDS:
        raise ValueError(
            f"rounds must be 0 (no timing) or at least {_MIN_ROUNDS} (the fewest with a 95 % "
            f"interval), got {rounds}."
        )


def _check(settings: Mapping[str, Setting], rounds: int, clock: str) -> None:
    if not settings:
        raise ValueError('nothing to measure: give at least one file, as {"dense": path}.')
    if rounds < _MIN_ROUNDS:
        raise ValueError(
            f"rounds must be at least {_MIN_ROUNDS}, got {rounds}: fewer samples give no 95 % "
            "interval of the median."
        )
    if clock not in CLOCKS:
        raise ValueError(f"clock must be one of {', '.join(CLOCKS)}, got {clock!r}.")
    threads = max(setting.threads for setting in settings.values())
    if clock == "processor" and threads > 1:
        raise ValueError(
            "clock 'processor' adds up the time of all threads, so it takes one; got "
            f"threads={threads}. Take 'wall'."
        )


def _times(run: Inference, repeats: int, clock: Callable[[], float]) -> list[float]:
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return times


@dataclass(frozen=True)
class _Warm:
    """How many inferences make a sample of 2 ms, and how the time became stable, if it did."""

    repeats: int
    stable: bool
    seconds: float


def _warm_up(run: Inference, limit: float, clock: Callable[[], float]) -> _Warm:
    """Run until two batches of five samples agree, or the time is up."""
    start = perf_counter()
    run()
    repeats = 1
    before = math.inf
    while True:
        now = statistics.median(statistics.median(_times(run, repeats, clock)) for _ in range(5))
        repeats = max(1, math.ceil(_SAMPLE_S / now))
        stable = abs(now - before) <= _STABLE * now
        seconds = perf_counter() - start
        if stable or seconds > limit:
            return _Warm(repeats, stable, seconds)
        before = now


def _median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the two samples between which it lies with at least 95 %."""
    interval = quantile_test(samples, p=0.5).confidence_interval(0.95)
    return statistics.median(samples), float(interval.low), float(interval.high)
