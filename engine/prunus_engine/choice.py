"""Which layers the sparse kernels take and how they are cut, found by measuring and remembered."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from prunus_engine._engine import Program
from prunus_engine.layers import PRUNABLE, Layer, one_image
from prunus_engine.reading import Graph
from prunus_engine.rest import Running, cut
from prunus_engine.sparse import HEIGHTS, heights, pack

How = Literal["measure", "sparse", "dense"]
"""Measure which is faster, or take the kernels, or ONNX Runtime, wherever it can be."""

_FORMAT = 2
_CUTS = {"width", "near", "chunk", "packed"}  # what a tuning says
_SPARSE_FROM = 0.3
"""Layers with a smaller share of zeros have never been faster; they are not measured."""
_REPEATS = 5
_LONGEST = 0.1  # seconds for a layer's samples in one runtime


@dataclass(frozen=True)
class Choice:
    """What was decided about a layer.

    Args:
        layer: What it makes.
        kernel: Whether a kernel of this package takes it.
        height: Rows of its blocks.
        tuning: How the kernel cuts its work.
        ms: Milliseconds of the kernel; None where it was not measured.
        dense_ms: Of ONNX Runtime.
    """

    layer: str
    kernel: bool
    height: int = 1
    tuning: dict[str, int] = field(default_factory=dict)
    ms: float | None = None
    dense_ms: float | None = None


def choose(
    graph: Graph,
    layers: Sequence[Layer],
    *,
    how: How,
    threads: int,
    instructions: str,
    cache: Path | None,
) -> list[Choice]:
    """Return what is decided about each layer.

    Args:
        graph: The network.
        layers: Those that kernels can take.
        how: See `How`.
        threads: With which they run.
        instructions: See `Plan`.
        cache: A folder in which measurements are kept; None for none.
    """
    views = [Choice(layer.y, kernel=True) for layer in layers if layer.kind == "view"]
    layers = [layer for layer in layers if layer.kind != "view"]
    if how == "dense" or not any(map(_prunable, layers)):
        return [Choice(layer.y, kernel=False) for layer in layers] + views
    if how == "sparse":
        return [Choice(layer.y, kernel=True, height=_height(layer)) for layer in layers] + views
    program = Program(threads, instructions)
    key = _key(graph, threads, program.instructions)
    names = {layer.y for layer in layers}
    found = _recall(cache, key, names) if cache else None
    if found is None:
        found = _measure(graph, layers, threads, instructions)
        if cache:
            _remember(cache, key, found)
    return found + views


def _prunable(layer: Layer) -> bool:
    return layer.kind in PRUNABLE and layer.zeros >= _SPARSE_FROM


def _height(layer: Layer) -> int:
    return next(iter(_heights(layer))) if layer.kind in PRUNABLE else 1


def _heights(layer: Layer) -> list[int]:
    groups = layer.numbers[-1] if layer.kind == "conv" else 1
    found = list(heights(layer.weight, len(layer.weight) // groups))
    if layer.kind != "conv" and layer.numbers[0 if layer.kind == "linear" else 1] == 1:
        found += [1] if 1 not in found else []  # one vector: single weights may beat small blocks
    return found


def _measure(
    graph: Graph, layers: Sequence[Layer], threads: int, instructions: str
) -> list[Choice]:
    # Layers alike but for where their zeros are take as long as each other.
    kernels: dict[tuple[object, ...], tuple[int, dict[str, int], float]] = {}
    denses: dict[tuple[object, ...], float] = {}
    found = []
    for layer in layers:
        if layer.kind in PRUNABLE and not _prunable(layer):
            found.append(Choice(layer.y, kernel=False))
            continue
        tall = tuple(_heights(layer)) if layer.kind in PRUNABLE else (1,)
        alike = (*layer.shape, tall, round(20 * layer.zeros))
        if alike not in kernels:
            kernels[alike] = _kernel_ms(graph, layer, tall, threads, instructions)
        if layer.shape not in denses:
            denses[layer.shape] = _dense_ms(graph, layer, threads)
        height, tuning, ms = kernels[alike]
        dense = denses[layer.shape]
        found.append(Choice(layer.y, ms < dense, height, tuning, ms, dense))
    return found


def _kernel_ms(
    graph: Graph, layer: Layer, tall: Sequence[int], threads: int, instructions: str
) -> tuple[int, dict[str, int], float]:
    """Return the block height, the cut and the milliseconds that are best."""
    program = Program(threads, instructions)
    sizes = {name: _size(graph, name) // layer.images for name in (*layer.reads, layer.y)}
    buffers = {name: program.buffer(size) for name, size in sizes.items()}
    for name in layer.reads:
        program.view(buffers[name])[:] = _noise(sizes[name])
    best: tuple[int, dict[str, int], float] | None = None
    for height in tall:
        step = add(program, one_image(layer), height, buffers)
        # One call says how many samples there is time for.
        once = program.time(step, 1)
        tuning, ms = program.measure(step, _samples(once / 1000, len(tall) * 20))
        if best is None or ms < best[2]:
            best = height, {name: int(value) for name, value in tuning.items()}, ms
    assert best is not None
    height, tuning, ms = best
    return height, tuning, ms * layer.images


def _dense_ms(graph: Graph, layer: Layer, threads: int) -> float:
    running = Running(cut(graph, layer.nodes), threads)
    for name in running.part.inputs:
        running.bind_input(name, _noise(_size(graph, name)).reshape(graph.shapes[name]))
    for name in running.part.outputs:
        running.bind_output(name, np.empty(graph.shapes[name], np.float32))
    clock = time.process_time if threads == 1 else time.perf_counter
    running.run()
    samples: list[float] = []
    budget = _LONGEST
    while len(samples) < 2 or (budget > 0 and len(samples) < 4 * _REPEATS):
        begin = clock()
        running.run()
        samples.append(clock() - begin)
        budget -= samples[-1]
    return 1000 * min(samples)


def _samples(seconds: float, ways: int) -> int:
    return int(max(1, min(_REPEATS, _LONGEST / max(1e-9, seconds * ways))))


def _size(graph: Graph, name: str) -> int:
    return int(np.prod(graph.shapes[name], dtype=np.int64))


def _noise(size: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(size, np.float32)


def add(program: Program, layer: Layer, height: int, buffers: dict[str, int]) -> int:
    """Add the step of a layer to a program and return its number.

    Args:
        program: To which.
        layer: No view.
        height: Of its blocks, where it has any.
        buffers: Name -> buffer, of what it reads and makes.
    """
    numbers = list(layer.numbers)
    x, y = buffers[layer.x], buffers[layer.y]
    if layer.kind == "pooling":
        return int(program.pooling(x, y, numbers, layer.average, layer.count_padding))
    residual = -1 if layer.residual is None else buffers[layer.residual]
    end = (np.ascontiguousarray(layer.bias), layer.activation, layer.low, layer.high)
    if layer.kind == "depthwise":
        weight = np.ascontiguousarray(layer.weight.reshape(-1))
        return int(program.depthwise(x, residual, y, numbers, weight, *end))
    if layer.kind == "lstm":
        times, batch, inputs = numbers
        parts = (layer.weight[:, :inputs], layer.weight[:, inputs:])
        return int(program.lstm(x, y, times, batch, *(pack(p, height) for p in parts), end[0]))
    matrix = pack(layer.weight, height)
    if layer.kind == "linear":
        return int(program.linear(x, residual, y, numbers[0], matrix, *end))
    return int(program.conv(x, residual, y, numbers, matrix, *end))


def default_cache() -> Path:
    """Return the folder in which measurements are kept between processes."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "prunus" / "engine"


def _key(graph: Graph, threads: int, instructions: str) -> str:
    """Return a name for a network on this machine: another's measurements do not hold here."""
    digest = hashlib.sha256()
    where = (_FORMAT, _processor(), os.cpu_count(), instructions, threads, onnxruntime.__version__)
    digest.update(repr(where).encode())
    # Deterministic for one version of protobuf, which is all that a cache needs.
    digest.update(graph.model.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _processor() -> str:
    named = ("model name", "CPU implementer", "CPU variant", "CPU part")  # Arm's have but numbers
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if found := dict.fromkeys(line for line in lines if line.startswith(named)):
            return "\n".join(found)
    return platform.processor() or platform.machine()


def _recall(cache: Path, key: str, names: set[str]) -> list[Choice] | None:
    """Return what was measured before; None where nothing was, or the file is not what we wrote."""
    try:
        rows = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        found = [_choice(row) for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if {choice.layer for choice in found} == names else None


def _choice(row: dict[str, Any]) -> Choice:
    choice = Choice(**row)
    sound = choice.height in HEIGHTS and (not choice.tuning or set(choice.tuning) == _CUTS)
    numbers = choice.tuning.values()
    if not sound or not all(isinstance(n, int) and 0 <= n < 2**31 for n in numbers):
        raise ValueError("no measurement of ours")
    return choice


def _remember(cache: Path, key: str, choices: Sequence[Choice]) -> None:
    """Write the measurements; a cache that cannot be written is done without."""
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        handle, name = mkstemp(prefix=f".{key}.", dir=cache)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump([asdict(choice) for choice in choices], file)
            Path(name).replace(cache / f"{key}.json")
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
