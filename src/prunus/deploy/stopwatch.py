"""How fast networks are, measured against one and the same dense network."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from weakref import finalize

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunus.deploy.int8 import quantise
from prunus.deploy.onnx import export_onnx
from prunus.deploy.runtimes import Network, check_precision, version_of
from prunus.deploy.timing import measure, speedup
from prunus.deploy.torch_runtimes import Module
from prunus.types import Example, Setting, first_sample

_ROUNDS = 30
_MOST_ROUNDS = 240
_SHARP = 0.04
"""Rounds are added until the 95 % interval of the ratio is no wider than this share of it."""


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
        dense: The network that all are compared with.
        example: An input; its first sample is what networks are exported for.
        setting: Where they run.

    Raises:
        ExportError: The network cannot be exported, or not be quantised.
        InferenceError: The runtime does not compute in that precision.
        ValueError: The runtime is unknown or not installed.
    """

    def __init__(self, dense: nn.Module, example: Example, setting: Setting) -> None:
        self._takes = check_precision(setting.runtime, setting.precision).takes
        self._setting, batch = setting, setting.batch
        self._example = example if _rows(example) == batch else first_sample(example, batch)
        self._folder = Path(mkdtemp(prefix="prunus-"))
        finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._dense = self._prepared(dense, "dense")

    def time(self, network: nn.Module) -> Reading:
        """Measure a network.

        Raises:
            ExportError: It cannot be exported, or not be quantised.
            InferenceError: The runtime cannot run it.
        """
        setting = self._setting
        networks = {"dense": self._dense, "pruned": self._prepared(network, "pruned")}
        rounds = _ROUNDS
        while True:
            times = measure(
                {name: (one, setting) for name, one in networks.items()},
                rounds=rounds,
                clock="processor" if setting.threads == 1 else "wall",
            )
            ratio = speedup(times["pruned"], times["dense"])
            if ratio.high - ratio.low <= _SHARP * ratio.median or rounds >= _MOST_ROUNDS:
                break
            rounds *= 2
        return Reading(
            times["dense"].median_ms,
            times["pruned"].median_ms,
            ratio.median,
            ratio.low,
            ratio.high,
            version_of(setting.runtime),
            setting.threads,
            setting.batch,
            setting.precision,
        )

    def _prepared(self, network: nn.Module, name: str) -> Network:
        if self._takes is Module:
            return Module(network, self._example)
        path = self._folder / f"{name}.onnx"
        export_onnx(network, self._example, path, dynamic_batch=False)
        if self._setting.precision == "int8":
            return quantise(path, [self._example]).path
        return path


def _rows(example: Example) -> int:
    sizes = [len(x) for x in tree_leaves(example) if isinstance(x, Tensor) and x.ndim]
    return sizes[0] if sizes else 0
