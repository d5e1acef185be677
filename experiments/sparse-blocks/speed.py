"""Time the networks of seed 0 of a study of blocks, in turn: zeros in prunus-engine, filters dense.

    python experiments/sparse-blocks/speed.py experiments/sparse-blocks/lenet5.toml runs

prints a line per network and batch size: milliseconds of processor time on one thread, the median
of rounds in turn, and how many times as fast that is as the unpruned network in the faster of ONNX
Runtime and OpenVINO. Filters are timed in the faster of these two, too.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from prunus.deploy.runtimes import inference
from prunus.study import load
from prunus.types import Setting

DENSE = ("onnxruntime", "openvino")
SAMPLE = 0.01  # seconds of one sample at least


def networks(recipe: Path, runs: Path) -> dict[tuple[str, str], Path]:
    """Return the folder with the files of each method at each target."""
    study = load(recipe)
    written = {
        found: json.loads((found.parent / "prune/inputs.json").read_text(encoding="utf-8"))
        for found in runs.glob("pruned-*/export-*")
    }
    folders = {}
    for method in study.study.methods:
        for target in study.targets(method):
            made = study.member(method, target, 0)
            wanted = (made.method.model_dump(exclude_unset=True), target.metric, target.value)
            for folder, given in written.items():
                if given["method"] == wanted[0] and given["target"][wanted[1]] == wanted[2]:
                    folders[method.title, f"{target.metric} {target.value:g}"] = folder
    return folders


def medians(
    runs: dict[tuple[str, str, str], Callable[[], object]], rounds: int
) -> dict[tuple[str, str, str], float]:
    """Return milliseconds of the processor of each, all run in turn."""
    counts, samples = {}, {name: [] for name in runs}
    for name, run in runs.items():
        run()
        begin = time.process_time()
        run()
        counts[name] = max(1, int(SAMPLE / max(1e-6, time.process_time() - begin)))
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            begin = time.process_time()
            for _ in range(counts[name]):
                run()
            samples[name].append((time.process_time() - begin) / counts[name])
    return {name: 1000 * statistics.median(values) for name, values in samples.items()}


def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    folders = networks(options.recipe, options.runs)
    for batch in options.batch:
        runs = {}
        dense = next(iter(folders.values())) / "dense.onnx"
        for runtime in DENSE:
            setting = Setting(runtime=runtime, batch=batch)
            runs["unpruned", "-", runtime] = inference(dense, setting)
        for (title, target), folder in folders.items():
            for runtime in DENSE if title == "filters" else ("sparse",):
                setting = Setting(runtime=runtime, batch=batch)
                runs[title, target, runtime] = inference(folder / "pruned.onnx", setting)
        times = medians(runs, options.rounds)
        best = min(times["unpruned", "-", runtime] for runtime in DENSE)
        for title, target in [("unpruned", "-"), *folders]:
            ms, runtime = min(
                (ms, key[2]) for key, ms in times.items() if key[:2] == (title, target)
            )
            print(f"{title},{target},{batch},{runtime},{ms:.4f},{best / ms:.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=15)
    main(parser.parse_args())
