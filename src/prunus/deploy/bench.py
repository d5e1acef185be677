"""Networks against each other in any mix of runtimes, precisions, threads and batches."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from prunus.deploy.energy import Meter, joules
from prunus.deploy.feeds import shapes
from prunus.deploy.int8 import int8_path, is_int8_of, quantise
from prunus.deploy.memory import peak_memory
from prunus.deploy.runtimes import Network, canonical, check_precision, check_runtime, inference
from prunus.deploy.timing import Clock, Latency, Speedup, interleaved
from prunus.deploy.torch_runtimes import Inference, Module, keeps_threads
from prunus.errors import ExportError, InferenceError
from prunus.types import Setting

_RESAMPLES = 2000


@dataclass(frozen=True)
class Candidate:
    """A network that is measured, in the forms that runtimes take.

    Args:
        name: How it is called.
        file: In ONNX.
        int8: The same in int8; where it is missing or was made of another file, one is made for the
            measurement.
        module: For the runtimes of PyTorch; called when one is asked for.
    """

    name: str
    file: Path | None = None
    int8: Path | None = None
    module: Callable[[], Module] | None = None

    def form(self, takes: type, precision: str, folder: Path) -> Network:
        """Return what a runtime takes.

        Args:
            takes: `Module`, or the path of a file.
            precision: Of the numbers in it.
            folder: For a file that is made.

        Raises:
            InferenceError: There is no such form of it.
        """
        if takes is Module:
            if self.module is None:
                raise InferenceError(
                    f"PyTorch runs modules, got the file of {self.name}; give the folder of a run, "
                    "or its recipe."
                )
            return self.module()
        if self.file is None:
            raise InferenceError(f"{self.name} has no ONNX file; run it with export.onnx = true.")
        if precision != "int8":
            return self.file
        beside = self.int8 or int8_path(self.file)
        if is_int8_of(beside, self.file):
            return beside
        made = folder / f"{len(list(folder.iterdir()))}-{int8_path(self.file).name}"
        try:
            return quantise(self.file, out=made).path
        except ExportError as error:
            raise InferenceError(str(error)) from error


@dataclass(frozen=True)
class Row:
    """What was found about a network in one setting.

    Args:
        name: The network's.
        setting: Where it ran.
        latency: Its time.
        speedup: Over the first network of all that ran with as many threads and rows; None for it.
        bytes: Of its file; None for a module.
        memory: Most bytes that loading and running it took, in a process of its own; None where
            that was not measured.
        joules: Energy of one inference; None where the counters may not be read.
    """

    name: str
    setting: Setting
    latency: Latency
    speedup: Speedup | None
    bytes: int | None
    memory: int | None
    joules: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        time, ratio = self.latency, self.speedup
        return {
            "name": self.name,
            "runtime": time.runtime,
            "precision": time.precision,
            "threads": time.threads,
            "batch": time.batch,
            "latency_ms": {
                "median": time.median_ms,
                "low": time.low_ms,
                "high": time.high_ms,
                **{f"p{percent}": time.percentile(percent) for percent in (50, 90, 99)},
            },
            "throughput": time.throughput,
            "speedup": asdict(ratio) if ratio else None,
            "verdict": ratio.verdict if ratio else None,
            "bytes": self.bytes,
            "memory": self.memory,
            "joules": self.joules,
            "stable": time.stable,
            "warmup_s": time.warmup_s,
        }


@dataclass(frozen=True)
class Refusal:
    """A network and a setting in which it could not be measured, and why."""

    name: str
    setting: Setting
    reason: str


def settings(
    runtimes: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
    batches: Sequence[int],
) -> list[Setting]:
    """Return every combination, the fewest threads and rows first.

    Raises:
        ValueError: A value is out of range, or a runtime is unknown or not installed.
    """
    found = [
        Setting(runtime=canonical(runtime), precision=precision, threads=thread, batch=batch)
        for thread, batch, runtime, precision in product(threads, batches, runtimes, precisions)
    ]
    for setting in found:
        check_runtime(setting.runtime)
    return list(dict.fromkeys(found))


def compare(
    candidates: Sequence[Candidate],
    where: Sequence[Setting],
    *,
    rounds: int = 50,
    clock: Clock = "wall",
    memory: bool = True,
    counters: Meter | None = None,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[list[Row], list[Refusal]]:
    """Measure every network in every setting, one sample of each in turn, in this process.

    Args:
        candidates: The networks, the reference first.
        where: The settings, that of the reference first.
        rounds: Samples of each, at least 6.
        clock: As for `measure`.
        memory: Measure peak memory, too, which takes seconds for each.
        counters: Of energy; None for none.
        tell: Told what is done: a phase, how far it is, and its length.

    Returns:
        What was measured, and what could not be.

    Raises:
        InferenceError: Nothing could be measured.
        ValueError: A file has another fixed batch size, or is not there.
    """
    loaded: dict[str, tuple[Candidate, Setting, Network, Inference]] = {}
    refused: list[Refusal] = []
    total = len(where) * len(candidates)
    with TemporaryDirectory(prefix="prunus-") as folder, keeps_threads():
        forms: dict[tuple[str, bool, bool], Network] = {}
        for number, (setting, candidate) in enumerate(product(where, candidates)):
            tell("loading", number, total)
            try:
                takes = check_precision(setting.runtime, setting.precision).takes
                form = candidate.name, takes is Module, setting.precision == "int8"
                if form not in forms:
                    forms[form] = candidate.form(takes, setting.precision, Path(folder))
                run = inference(forms[form], setting)
            except InferenceError as error:
                refused.append(Refusal(candidate.name, setting, str(error)))
                continue
            loaded[f"{number}"] = candidate, setting, forms[form], run
        if not loaded:
            raise InferenceError("; ".join(dict.fromkeys(one.reason for one in refused)))
        runs = {key: run for key, (_, _, _, run) in loaded.items()}
        times = interleaved(
            runs,
            {key: setting for key, (_, setting, _, _) in loaded.items()},
            rounds=rounds,
            clock=clock,
            tell=lambda done: tell("timing", done, rounds),
        )
        energy = joules(runs, counters) if counters else {}
        peaks: dict[str, int | None] = {}
        for done, (key, (candidate, setting, network, _)) in enumerate(loaded.items()):
            if not memory:
                break
            tell("memory", done, len(loaded))
            try:
                peaks[key] = peak_memory(network, setting)
            except InferenceError as error:
                refused.append(Refusal(candidate.name, setting, str(error)))
        rows = _rows(loaded, times, peaks, energy)
    return rows, refused


def unlike(candidates: Sequence[Candidate]) -> list[str]:
    """Say which files take other inputs than the first: their times are not of the same work."""
    found: dict[str, list[str]] = {}
    for one in candidates:
        with suppress(InferenceError):  # what cannot be loaded is refused where it is to be run
            if one.file is not None:
                found[one.name] = shapes(one.file)
    return [
        f"{name} takes {', '.join(got)}, and {first} {', '.join(wanted)}: their times are not of "
        "the same inputs"
        for first, wanted in [*found.items()][:1]
        for name, got in found.items()
        if got != wanted
    ]


def ratio_of_medians(a: Latency, b: Latency) -> Speedup:
    """How many times faster `b` is than `a`: the ratio of their medians over the rounds.

    Its 95 % interval is that of the percentile bootstrap: rounds are drawn with both of their
    samples, which were taken next to each other, so that a machine that is slower in some rounds
    hardly widens it.

    Args:
        a: The reference.
        b: What is compared with it, from the same rounds.

    Source: Efron, Annals of Statistics 7, 1979; Efron and Tibshirani, An Introduction to the
        Bootstrap, 1993, chapter 13.
    """
    generator = np.random.default_rng(0)
    drawn = generator.integers(a.rounds, size=(_RESAMPLES, a.rounds))
    first, second = np.array(a.samples_ms), np.array(b.samples_ms)
    ratios = np.median(first[drawn], axis=1) / np.median(second[drawn], axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return Speedup(float(np.median(first) / np.median(second)), float(low), float(high))


def _rows(
    loaded: Mapping[str, tuple[Candidate, Setting, Network, Inference]],
    times: Mapping[str, Latency],
    peaks: Mapping[str, int | None],
    energy: Mapping[str, float],
) -> list[Row]:
    rows: list[Row] = []
    firsts: dict[tuple[int, int], Latency] = {}
    for key, (candidate, setting, network, _) in loaded.items():
        first = firsts.setdefault((setting.threads, setting.batch), times[key])
        rows.append(
            Row(
                name=candidate.name,
                setting=setting,
                latency=times[key],
                speedup=None if first is times[key] else ratio_of_medians(first, times[key]),
                bytes=network.stat().st_size if isinstance(network, Path) else None,
                memory=peaks.get(key),
                joules=energy.get(key),
            )
        )
    return rows
