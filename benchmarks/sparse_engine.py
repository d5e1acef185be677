"""How fast zeros run in prunus-engine, beside the best dense runtime on the same processor.

Random weights, 90 % of them zero one by one (1x1) or in blocks of adjacent output channels. All
runtimes take the same ONNX file and are run in turn in one process; times are medians. On one
thread the speed-up is that of processor time, which other programs on the machine do not lengthen;
on several it is that of the clock.

    python benchmarks/sparse_engine.py [--threads 1 2] [--rounds 15] [--int8] [--write] [case ...]

`--write` keeps the rows in docs/engine.jsonl, in the place of older ones of the same kind, and
makes the table of docs/engine.md anew.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import nn

from prunus import zoo
from prunus.deploy import export_onnx, quantise
from prunus.deploy.machine import machine
from prunus.deploy.runtimes import inference, version_of
from prunus.files import write_text
from prunus.types import Setting

ZEROS = 0.9
DOCS = Path(__file__).parents[1] / "docs"
SAMPLE = 0.02  # seconds of one sample at least


@dataclass(frozen=True)
class Case:
    """A network, the batch sizes it is run at, and how high its blocks are."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batches: tuple[int, ...]
    heights: tuple[int, ...]


class Wide(nn.Module):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1024, 1024)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1024) to (batch, 1024)."""
        found: torch.Tensor = self.linear(x)
        return found


class Remembering(nn.Module):
    """Two layers of 256 units."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(256, 256, num_layers=2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, times, 256) to states of the same shape."""
        found: torch.Tensor = self.lstm(x)[0]
        return found


IMAGE = (3, 224, 224)
CASES = {
    "linear 1024x1024": Case(Wide, (1024,), (128, 16, 1), (1, 4, 16)),
    "resnet50": Case(lambda: zoo.network("torchvision:resnet50"), IMAGE, (1, 16), (1, 4)),
    "mobilenet_v1": Case(lambda: zoo.network("mobilenet_v1"), IMAGE, (1,), (1, 4)),
    "vgg16 (CIFAR)": Case(lambda: zoo.network("vgg16"), (3, 32, 32), (1, 16), (1, 4)),
    "lstm 2x256, 35 steps": Case(Remembering, (35, 256), (1, 16), (1, 4, 16)),
    "vit_b_16": Case(lambda: zoo.network("torchvision:vit_b_16"), IMAGE, (1,), (1, 4)),
}


@dataclass(frozen=True)
class Row:
    """What was measured; times in milliseconds of one inference."""

    case: str
    batch: int
    threads: int
    block: str
    sparse_ms: float
    sparse_wall_ms: float
    best: str
    best_ms: float
    best_wall_ms: float
    int8_ms: float | None
    plan_s: float

    @property
    def key(self) -> tuple[str, int, int, str]:
        """What tells it from others."""
        return self.case, self.batch, self.threads, self.block

    @property
    def speedup(self) -> float:
        """How many times as fast as the best dense runtime."""
        if self.threads > 1:
            return self.best_wall_ms / self.sparse_wall_ms
        return self.best_ms / self.sparse_ms


def thinned(network: nn.Module, height: int) -> nn.Module:
    """Set weights to zero; those that read an image's colours and depthwise ones stay."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            few = weight.ndim < 2 or weight.shape[1] <= 3
            if few or "weight" not in name or isinstance(module, nn.Embedding):
                continue
            tall = height if len(weight) % height == 0 else 1
            kept = torch.rand((len(weight) // tall, weight[0].numel()), generator=generator) > ZEROS
            weight.data *= kept.repeat_interleave(tall, 0).reshape(weight.shape)
    return network.eval()


def files(case: Case, folder: Path) -> dict[int, Path]:
    """Write the network with blocks of each height."""
    written = {}
    for height in case.heights:
        torch.manual_seed(0)
        network = thinned(case.build(), height)
        path = folder / f"{height}.onnx"
        written[height] = export_onnx(network, torch.randn(2, *case.shape), path)
    return written


def medians(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return milliseconds of the processor and of the clock per call, all run in turn."""
    counts, samples = {}, {name: ([], []) for name in runs}
    for name, run in runs.items():
        run()
        begin = time.process_time()
        run()
        counts[name] = max(1, int(SAMPLE / max(1e-6, time.process_time() - begin)))
    for _ in range(rounds):
        for name, run in runs.items():
            run()  # brings its weights back into the cache
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(counts[name]):
                run()
            samples[name][0].append((time.process_time() - cpu) / counts[name])
            samples[name][1].append((time.perf_counter() - wall) / counts[name])
    return {
        name: (1000 * statistics.median(cpu), 1000 * statistics.median(wall))
        for name, (cpu, wall) in samples.items()
    }


def measured(name: str, threads: int, rounds: int, int8: bool, folder: Path) -> Iterator[Row]:
    """Measure a case at all of its batch sizes."""
    case = CASES[name]
    written = files(case, folder)
    dense = written[case.heights[0]]
    small = quantise(dense, [torch.randn(2, *case.shape)]).path if int8 else None
    for batch in case.batches:
        runs, seconds = {}, {}
        for runtime in ("onnxruntime", "openvino"):
            runs[runtime] = inference(dense, Setting(runtime=runtime, threads=threads, batch=batch))
            if small is not None:
                setting = Setting(runtime=runtime, precision="int8", threads=threads, batch=batch)
                runs[f"{runtime} int8"] = inference(small, setting)
        for height, path in written.items():
            begin = time.process_time()
            setting = Setting(runtime="sparse", threads=threads, batch=batch)
            runs[f"{height}x1"] = inference(path, setting)
            seconds[f"{height}x1"] = time.process_time() - begin
        times = medians(runs, rounds)
        at = 0 if threads == 1 else 1
        best = min(("onnxruntime", "openvino"), key=lambda one: times[one][at])
        reduced = [value[at] for one, value in times.items() if one.endswith("int8")]
        for block, took in seconds.items():
            yield Row(
                case=name,
                batch=batch,
                threads=threads,
                block=block,
                sparse_ms=times[block][0],
                sparse_wall_ms=times[block][1],
                best=best,
                best_ms=times[best][0],
                best_wall_ms=times[best][1],
                int8_ms=min(reduced, default=None),
                plan_s=took,
            )


def table(rows: list[Row]) -> str:
    """Return rows in Markdown."""
    head = (
        "| network | batch | threads | blocks | sparse, ms | best dense, ms | times as fast "
        "| dense int8, ms | plan, s |"
    )
    lines = [head, "|" + " --- |" * 9]
    for row in rows:
        at = row.threads > 1
        int8 = "" if row.int8_ms is None else f"{row.int8_ms:.3g}"
        lines.append(
            f"| {row.case} | {row.batch} | {row.threads} | {row.block} "
            f"| {row.sparse_wall_ms if at else row.sparse_ms:.3g} "
            f"| {row.best_wall_ms if at else row.best_ms:.3g} ({row.best}) "
            f"| **{row.speedup:.2f}** | {int8} | {row.plan_s:.1f} |"
        )
    return "\n".join(lines)


def kept(new: list[Row]) -> list[Row]:
    """Put new rows in the place of older ones and return all, in the order of `CASES`."""
    path = DOCS / "engine.jsonl"
    old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = {field.name for field in fields(Row)}
    known = [Row(**{k: v for k, v in json.loads(line).items() if k in names}) for line in old]
    rows = {row.key: row for row in (*known, *new)}
    order = list(CASES)
    every = sorted(rows.values(), key=lambda r: (order.index(r.case), r.threads, -r.batch))
    write_text(path, "".join(json.dumps(asdict(row)) + "\n" for row in every))
    return every


def write(rows: list[Row]) -> None:
    """Put the table into the page, between its marks."""
    path = DOCS / "engine.md"
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    runtimes = ", ".join(version_of(one) for one in ("onnxruntime", "openvino", "sparse"))
    said = (
        f"{machine()['processor']}, {runtimes}; 90 % zeros at random; medians of rounds in turn. "
        "One thread: processor time, two: the clock's, on a machine that other programs used too."
    )
    write_text(path, f"{before}{begin}\n{said}\n\n{table(kept(rows))}\n{end}{after}")


def main(options: argparse.Namespace) -> None:
    """Measure, print, and write."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in options.cases:
        for threads in options.threads:
            with tempfile.TemporaryDirectory(prefix="prunus-") as folder:
                os.environ["XDG_CACHE_HOME"] = folder  # every layer is measured anew
                for row in measured(name, threads, options.rounds, options.int8, Path(folder)):
                    print(*row.key, f"{row.speedup:.2f}", asdict(row), flush=True)
                    rows.append(row)
                    if options.write:
                        write([row])
    print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", default=[*CASES], help=", ".join(CASES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--write", action="store_true")
    main(parser.parse_args())
