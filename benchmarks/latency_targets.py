"""Whether a target in time is met: networks asked to take 0.7 and 0.5 of the dense time.

Each network has random weights and loses L1-norm filters, residual sums included. What is shown as
reached was measured anew on the proved result, on one thread, batch 1.

    python benchmarks/latency_targets.py [network ...] [--runtime onnxruntime openvino]
"""

import argparse
import time
import warnings

import torch
from rich.console import Console
from rich.table import Table

from prunus import Target, methods, prune, zoo
from prunus.errors import PrunusError
from prunus.run.document import environment

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "vgg16", "vit_b_16")
ASKED = (0.7, 0.5)
HEADINGS = ("network", "runtime", "asked", "reached", "95 % interval", "MACs", "off by", "seconds")
GOAL = 0.05


def row(name: str, runtime: str, asked: float) -> list[str]:
    """Return one line of the table."""
    torch.manual_seed(0)
    model = zoo.network(f"torchvision:{name}").eval()
    example = torch.randn(1, 3, 224, 224)
    target = Target(speedup=1 / asked, runtime=runtime)
    begin = time.monotonic()
    try:
        report = prune(
            model, example, method=methods.l1_filter(coupled=True), target=target, check=False
        ).report
    except PrunusError as error:
        return [name, runtime, f"{asked:g}", str(error), "", "", "", ""]
    read = report.reading
    assert read is not None
    off = abs(read.ratio / asked - 1)
    macs, left = report.costs["macs"]
    return [
        *(name, runtime, f"{asked:g}", f"{read.ratio:.3f}", f"{read.low:.3f} to {read.high:.3f}"),
        *(f"{left / macs:.3f}", f"{off:.1%} {'met' if off <= GOAL else 'missed'}"),
        f"{time.monotonic() - begin:.0f}",
    ]


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    table = Table(title=f"time asked for and reached, {environment()['cpu']}, 1 thread, batch 1")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for name in options.networks:
        for runtime in options.runtime:
            for asked in ASKED:
                line = row(name, runtime, asked)
                print(*line, flush=True)
                table.add_row(*line)
    Console(width=130).print(table, markup=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", default=[*NETWORKS])
    parser.add_argument("--runtime", nargs="+", default=["onnxruntime", "openvino"])
    main(parser.parse_args())
