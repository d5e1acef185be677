"""How fast networks are, measured against one and the same dense network."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from weakref import finalize

from torch import nn

from prunus.deploy.int8 import quantise
from prunus.deploy.onnx import export_onnx
from prunus.deploy.runtimes import check_precision, inference, version_of
from prunus.deploy.timing import Latency, interleaved, speedup, steady_clock
from prunus.deploy.torch_runtimes import Inference, Module, keeps_threads
from prunus.types import Example, Setting, first_sample, rows_of

_ROUNDS = 30
_MOST_ROUNDS = 240
_SHARP = 0.04
"""Rounds are doubled until the 95 % interval of the ratio is no wider than this share of it."""


@dataclass(frozen=True)
class Reading:
    """The time of a network beside that of the dense one, from the same rounds.

    Args:
        dense_ms: Median time of one inference of the dense network, in milliseconds.
        pruned_ms: That of the other.
        ratio: Time of the other over that of the dense one: the median over the rounds.
        low: Lower end of its 95 % interval; wide where the machine was busy.
        high: Upper end.
        runtime: Name and version.
        threads: Threads of the runtime.
        batch: Rows of one inference.
        precision: Numbers that both computed with.
    """

    dense_ms: float
    pruned_ms: float
    ratio: float
    low: float
    high: float
    runtime: str
    threads: int
    batch: int
    precision: str


class Stopwatch:
    """Times networks in a runtime, each beside the dense one, which is exported once.

    On one thread the processor's time counts: that of the clock where nothing else runs. In int8
    networks are quantised for the example's range of values: right for time, which does not depend
    on them.

    Args:
        dense: The network that all are compared with; loaded once.
        example: An input; its first sample is what networks are exported for.
        setting: Where they run.

    Raises:
        ExportError: The network cannot be exported, or not be quantised.
        InferenceError: The runtime cannot run it, or does not compute in that precision.
        ValueError: The runtime is unknown or not installed.
    """

    def __init__(self, dense: nn.Module, example: Example, setting: Setting) -> None:
        self._takes = check_precision(setting.runtime, setting.precision).takes
        self._setting, batch = setting, setting.batch
        self._example = example if rows_of(example) == batch else first_sample(example, batch)
        self._folder = Path(mkdtemp(prefix="prunus-"))
        finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        with keeps_threads():
            self._dense = self._loaded(dense, "dense")

    def time(self, network: nn.Module) -> Reading:
        """Measure a network.

        Raises:
            ExportError: It cannot be exported, or not be quantised.
            InferenceError: The runtime cannot run it.
        """
        with keeps_threads():
            runs = {"dense": self._dense, "pruned": self._loaded(network, "pruned")}
            times = self._times(runs, _ROUNDS)
            while True:
                dense, pruned = times["dense"], times["pruned"]
                ratio = speedup(pruned, dense)
                sharp = ratio.high - ratio.low <= _SHARP * ratio.median
                if sharp or pruned.rounds >= _MOST_ROUNDS:
                    break
                more = self._times(runs, pruned.rounds)
                times = {name: time.joined(more[name]) for name, time in times.items()}
        setting = self._setting
        return Reading(
            dense.median_ms,
            pruned.median_ms,
            ratio.median,
            ratio.low,
            ratio.high,
            version_of(setting.runtime),
            setting.threads,
            setting.batch,
            setting.precision,
        )

    def _times(self, runs: dict[str, Inference], rounds: int) -> dict[str, Latency]:
        clock = steady_clock(self._setting.threads)
        settings = dict.fromkeys(runs, self._setting)
        return interleaved(runs, settings, rounds=rounds, clock=clock)

    def _loaded(self, network: nn.Module, name: str) -> Inference:
        if self._takes is Module:
            return inference(Module(network, self._example), self._setting)
        path = self._folder / f"{name}.onnx"
        export_onnx(network, self._example, path, dynamic_batch=False)
        if self._setting.precision == "int8":
            path = quantise(path, [self._example]).path
        return inference(path, self._setting)
