"""How much of the saved MACs becomes speed, in ONNX Runtime on one CPU thread.

Networks with random weights are pruned to half their MACs, with widths in multiples of 8 and of 16,
the latter also with the channels of residual sums, and measured against their dense selves. Goal:
the speed-up is at least 0.90 of the ratio of the MACs at batch 1, and 0.95 at batch 16.

    python benchmarks/shrink_speed.py [rounds [network ...]]
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import prunus
from prunus.deploy import export_onnx, latency, speedup
from prunus.report.quantities import interval, milliseconds
from prunus.run.document import environment
from prunus.zoo import network

NETWORKS = {"vgg16": (2, 3, 32, 32), "torchvision:resnet50": (2, 3, 224, 224)}
VARIANTS = {
    "of 8": {"round_to": 8},
    "of 16": {"round_to": 16},
    "of 16, sums too": {"round_to": 16, "coupled": True},
}
GOALS = {1: 0.90, 16: 0.95}  # batch -> share of the MAC ratio
HEADINGS = ("network", "batch", "widths", "dense", "pruned", "MACs", "speed-up", "95 %", "share")


def rows(name: str, shape: tuple[int, ...], rounds: int) -> Iterator[tuple[str, ...]]:
    """Prune, export, and measure one network; yield a row per batch size and rounding."""
    torch.manual_seed(0)
    model, example = network(name).eval(), torch.randn(shape)
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {"dense": export_onnx(model, example, Path(folder) / "dense.onnx")}
        for widths, fields in VARIANTS.items():
            method = prunus.methods.l1_filter(**fields)
            result = prunus.prune(model, example, method=method, target=prunus.Target(macs=0.5))
            before, after = result.report.costs["macs"]
            ratios[widths] = before / after
            files[widths] = export_onnx(result.model, example, Path(folder) / f"{len(files)}.onnx")
        for batch, goal in GOALS.items():
            times = latency(files, batch=batch, threads=1, rounds=rounds)
            for widths, ratio in ratios.items():
                gain = speedup(times["dense"], times[widths])
                share = gain.median / ratio
                yield (
                    name,
                    str(batch),
                    widths,
                    milliseconds(times["dense"].median_ms),
                    milliseconds(times[widths].median_ms),
                    f"/ {ratio:.2f}",
                    f"{gain.median:.2f}",
                    interval(gain.low, gain.high),
                    f"{share:.2f}",
                    f"{goal:.2f} {'met' if share >= goal else 'missed'}",
                )


def main(rounds: int, names: list[str]) -> None:
    """Print the table for all networks."""
    here = environment()
    table = Table(title=f"half the MACs, 1 thread, {rounds} rounds, {here['cpu']}")
    for heading in (*HEADINGS, "goal"):
        table.add_column(heading, no_wrap=True)
    for name in names:
        for row in rows(name, NETWORKS[name], rounds):
            table.add_row(*row)
    Console(width=130).print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, sys.argv[2:] or list(NETWORKS))
