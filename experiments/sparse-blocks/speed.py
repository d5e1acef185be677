"""Time the networks of seed 0 of a study of blocks, in turn: zeros in prunus-engine, filters dense.

    python experiments/sparse-blocks/speed.py experiments/sparse-blocks/lenet5.toml runs

prints a line per network and batch size: milliseconds of processor time on one thread, the median
of rounds in turn, and how many times as fast that is as the unpruned network in the faster of ONNX
Runtime and OpenVINO, with its 95 % interval. Filters are timed in the faster of these two, too.
"""

import argparse
from pathlib import Path

from prunus.deploy.timing import measure, speedup
from prunus.run.plan import Plan
from prunus.study import load
from prunus.types import Setting

DENSE = ("onnxruntime", "openvino")


def networks(recipe: Path, runs: Path) -> dict[tuple[str, str], Path]:
    """Return the folder with the files of each method at each target."""
    study = load(recipe)
    return {
        (method.title, f"{target.metric} {target.value:g}"): Plan(
            study.timing(method, target), runs, shared=True
        )
        .steps["export"]
        .directory
        for method in study.study.methods
        for target in study.targets(method)
    }


def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    folders = networks(options.recipe, options.runs)
    whole = next(iter(folders.values())) / "dense.onnx"
    files = {("unpruned", "-"): (whole, DENSE)} | {
        (title, target): (folder / "pruned.onnx", DENSE if title == "filters" else ("sparse",))
        for (title, target), folder in folders.items()
    }
    print("method,target,batch,runtime,ms,times,low,high")
    for batch in options.batch:
        subjects = {
            f"{title},{target},{batch},{runtime}": (file, Setting(runtime=runtime, batch=batch))
            for (title, target), (file, runtimes) in files.items()
            for runtime in runtimes
        }
        found = measure(subjects, rounds=options.rounds, clock="processor")
        dense = None
        for title, target in files:
            named = f"{title},{target},"
            name = min(
                (name for name in found if name.startswith(named)), key=lambda n: found[n].median_ms
            )
            dense = dense or found[name]
            times = speedup(dense, found[name])
            figures = f"{times.median:.2f},{times.low:.2f},{times.high:.2f}"
            print(f"{name},{found[name].median_ms:.4f},{figures}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=30)
    main(parser.parse_args())
