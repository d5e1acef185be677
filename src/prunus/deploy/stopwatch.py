"""How fast networks are, measured against one and the same dense network."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from weakref import finalize

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunus.deploy.onnx import export_onnx
from prunus.deploy.runtimes import check_runtime, version_of
from prunus.deploy.timing import latency, speedup
from prunus.types import Example, first_sample

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
    """

    dense_ms: float
    pruned_ms: float
    ratio: float
    low: float
    high: float
    runtime: str
    threads: int
    batch: int


class Stopwatch:
    """Times networks in a runtime, each beside the dense one, which is exported once.

    On one thread the processor's time counts: that of the clock where nothing else runs.

    Args:
        dense: The network that all are compared with.
        example: An input; its first sample is what networks are exported for.
        runtime: A name of `RUNTIMES`.
        threads: Threads of the runtime.
        batch: Rows of one inference.

    Raises:
        ExportError: The network cannot be exported.
        ValueError: The runtime is unknown or not installed.
    """

    def __init__(
        self, dense: nn.Module, example: Example, runtime: str, threads: int, batch: int
    ) -> None:
        check_runtime(runtime)
        self._runtime, self._threads, self._batch = runtime, threads, batch
        self._example = example if _rows(example) == batch else first_sample(example, batch)
        self._folder = Path(mkdtemp(prefix="prunus-"))
        finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._dense = self._exported(dense, "dense")

    def time(self, network: nn.Module) -> Reading:
        """Measure a network.

        Raises:
            ExportError: It cannot be exported.
        """
        files = {"dense": self._dense, "pruned": self._exported(network, "pruned")}
        rounds = _ROUNDS
        while True:
            times = latency(
                files,
                runtime=self._runtime,
                batch=self._batch,
                threads=self._threads,
                rounds=rounds,
                clock="processor" if self._threads == 1 else "wall",
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
            version_of(self._runtime),
            self._threads,
            self._batch,
        )

    def _exported(self, network: nn.Module, name: str) -> Path:
        path = self._folder / f"{name}.onnx"
        return export_onnx(network, self._example, path, dynamic_batch=False)


def _rows(example: Example) -> int:
    sizes = [len(x) for x in tree_leaves(example) if isinstance(x, Tensor) and x.ndim]
    return sizes[0] if sizes else 0
