"""How much of the saved MACs becomes speed, and what int8 adds to it, on one CPU thread.

Networks with random weights are pruned to half their MACs, with widths in multiples of 8 and of 16,
the latter also with the channels of residual sums, and measured against their dense selves in ONNX
Runtime and OpenVINO. Goals: in float32 the speed-up over the same runtime's is at least 0.93 of the
ratio of the MACs at batch 1, and 0.97 at batch 16; and at batch 1 the pruned network in int8 is 5.5
times as fast as the dense one in float32 in whichever runtime that is faster. Of widths and
runtimes the best counts, and is named. Times are the processor's, so that neighbours who take the
core do not count; int8 is calibrated on noise, right for time alone.

    python benchmarks/shrink_speed.py torchvision:resnet50
    python benchmarks/shrink_speed.py vgg16 --runtime onnxruntime --rounds 10 --batch 1
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import prunus
from prunus.deploy import export_onnx, quantise
from prunus.deploy.timing import measure, speedup
from prunus.report.quantities import interval, milliseconds
from prunus.run.document import environment
from prunus.types import Setting
from prunus.zoo import network

NETWORKS = {"vgg16": (2, 3, 32, 32), "torchvision:resnet50": (2, 3, 224, 224)}
VARIANTS = {
    "of 8": {"round_to": 8},
    "of 16": {"round_to": 16},
    "of 16, sums too": {"round_to": 16, "coupled": True},
}
GOALS = {1: 0.93, 16: 0.97}  # batch -> share of the MAC ratio in float32
INT8_GOAL = 5.5  # times as fast as the dense network in float32, at batch 1
HEADINGS = ("batch", "runtime", "widths", "numbers", "dense", "pruned", "MACs", "speed-up", "95 %")

Row = tuple[str, ...]

Best = dict[tuple[int, str], tuple[float, str]]
"""Batch, precision -> the best share of the MAC ratio, or in int8 the best speed-up; and where."""


def exported(name: str, folder: Path) -> tuple[dict[tuple[str, str], Path], dict[str, float]]:
    """Prune and export one network.

    Returns:
        The files by widths ("dense" among them) and precision, and the MAC ratio by widths.
    """
    torch.manual_seed(0)
    model, example = network(name).eval(), torch.randn(NETWORKS[name])
    networks, ratios = {"dense": model}, {"dense": 1.0}
    for widths, fields in VARIANTS.items():
        method = prunus.methods.l1_filter(**fields)
        result = prunus.prune(model, example, method=method, target=prunus.Target(macs=0.5))
        before, after = result.report.costs["macs"]
        networks[widths], ratios[widths] = result.model, before / after
    files = {}
    for number, (widths, one) in enumerate(networks.items()):
        path = export_onnx(one, example, folder / f"{number}.onnx")
        files[widths, "fp32"], files[widths, "int8"] = path, quantise(path).path
    return files, ratios


def rows(name: str, options: argparse.Namespace, best: Best) -> Iterator[Row]:
    """Yield what was measured, and note the best of each batch and precision."""
    with tempfile.TemporaryDirectory() as folder:
        files, ratios = exported(name, Path(folder))
        for batch in options.batch:
            subjects = {
                (runtime, widths, precision): (
                    path,
                    Setting(runtime=runtime, precision=precision, batch=batch),
                )
                for runtime in options.runtime
                for (widths, precision), path in files.items()
            }
            keys = {" ".join(key): key for key in subjects}
            times = measure(
                {text: subjects[key] for text, key in keys.items()},
                rounds=options.rounds,
                clock="processor",
            )
            references = {runtime: times[f"{runtime} dense fp32"] for runtime in options.runtime}
            fastest = min(references.values(), key=lambda time: time.median_ms)
            for text, (runtime, widths, precision) in keys.items():
                dense = references[runtime] if precision == "fp32" else fastest
                if times[text] is references[runtime]:
                    continue
                gain = speedup(dense, times[text])
                worth = gain.median / ratios[widths] if precision == "fp32" else gain.median
                if widths != "dense":
                    found = worth, f"{runtime}, widths {widths}"
                    best[batch, precision] = max(best.get((batch, precision), found), found)
                yield (
                    *(str(batch), runtime, widths, precision),
                    *(milliseconds(dense.median_ms), milliseconds(times[text].median_ms)),
                    f"/ {ratios[widths]:.2f}",
                    *(f"{gain.median:.2f}", interval(gain.low, gain.high)),
                    f"{gain.median / ratios[widths]:.2f}",
                )


def verdicts(best: Best) -> Iterator[str]:
    """Say which goals are met."""
    for (batch, precision), (value, where) in sorted(best.items()):
        goal = GOALS.get(batch) if precision == "fp32" else {1: INT8_GOAL}.get(batch)
        if goal is None:
            continue
        what = "of the MAC ratio in fp32" if precision == "fp32" else "times dense fp32 in int8"
        met = "met" if value >= goal else "missed"
        yield f"batch {batch}: {value:.2f} {what} ({where}); goal {goal:.2f}: {met}"


def main(options: argparse.Namespace) -> None:
    """Print a table and the goals for each network."""
    torch.set_num_threads(1)
    console = Console(width=130)
    for name in options.networks:
        title = f"{name}, half the MACs, 1 thread, {options.rounds} rounds, {environment()['cpu']}"
        table = Table(title=title)
        for heading in (*HEADINGS, "share"):
            table.add_column(heading, no_wrap=True)
        best: Best = {}
        for row in rows(name, options, best):
            table.add_row(*row)
        console.print(table)
        for line in verdicts(best):
            console.print(f"{name}, {line}", markup=False, highlight=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", default=[*NETWORKS])
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime", "openvino"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, default=30)
    main(parser.parse_args())
