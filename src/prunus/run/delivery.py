"""The last stages of a run: networks become files, files in int8, and all of them are timed."""

from itertools import islice
from pathlib import Path
from typing import Any

from prunus.deploy import Module, Quantised, export_onnx, quantise, side_by_side
from prunus.deploy.int8 import int8_path
from prunus.deploy.runtimes import Network, check_runtime, version_of
from prunus.deploy.timing import steady_clock
from prunus.errors import ExportError
from prunus.run.stages import Done
from prunus.run.work import Work
from prunus.saving import save
from prunus.types import first_sample

NETWORKS = ("dense", "pruned")

_CALIBRATION = 10  # batches


def export(work: Work, directory: Path, *, dense: Done, pruned: Done, last: Done) -> dict[str, Any]:
    """Write the smaller network for further training, and both as ONNX; return their bytes."""
    networks = work.networks(dense, pruned, last)
    try:
        save(networks["pruned"], directory / "pruned.safetensors", work.example)
    except ExportError:  # it is loaded into the dense network, then
        save(networks["pruned"], directory / "pruned.safetensors")
    if not work.recipe.export.onnx:
        return {}
    open_batch = work.recipe.export.dynamic_batch
    example = first_sample(work.example, copies=2 if open_batch else 1)
    return {
        name: export_onnx(
            networks[name], example, onnx_file(directory, name), dynamic_batch=open_batch
        )
        .stat()
        .st_size
        for name in NETWORKS
    }


def to_int8(work: Work, directory: Path, *, exported: Done) -> dict[str, Any]:
    """Write the exported files in int8; return their bytes and how far they are from float32.

    Values are those of the first training batches. Without data they are made up: such a file is
    for timing.
    """
    batches = None
    if work.data is not None:
        batches = [inputs for inputs, _ in islice(work.data.train_batches(0), _CALIBRATION)]
    found: dict[str, Any] = {}
    for name in NETWORKS:
        out = int8_path(onnx_file(directory, name))
        try:
            made = quantise(onnx_file(exported.directory, name), batches, out)
        except ExportError as error:
            found[name] = {"refused": str(error)}
            continue
        found[name] = {
            "bytes": out.stat().st_size,
            "difference": made.difference,
            "agreement": made.agreement,
            "samples": made.samples,
        }
    return found


def measure(
    work: Work,
    directory: Path,
    *,
    exported: Done,
    dense: Done,
    pruned: Done,
    last: Done,
    quantised: Done | None = None,
) -> dict[str, Any]:
    """Time the delivered networks against each other, in each precision of the runtime."""
    bench = work.recipe.bench
    networks: dict[str, Network] = {name: onnx_file(exported.directory, name) for name in NETWORKS}
    if check_runtime(bench.runtime).takes is Module:
        both = work.networks(dense, pruned, last)
        networks = {name: Module(both[name], work.example) for name in NETWORKS}
    int8 = {} if quantised is None else _in_int8(quantised)
    rows = side_by_side(networks, int8, **bench.model_dump())
    return {
        **bench.model_dump(),
        "runtime": version_of(bench.runtime),
        "clock": steady_clock(bench.threads),
        "delivered": [row.to_dict() for row in rows],
    }


def _in_int8(quantised: Done) -> dict[str, Quantised]:
    """Return the files that `to_int8` wrote."""
    return {
        name: Quantised(
            path=int8_path(onnx_file(quantised.directory, name)),
            difference=found["difference"],
            agreement=found["agreement"],
            samples=found["samples"],
        )
        for name, found in quantised.result.items()
        if "refused" not in found
    }


def onnx_file(directory: Path, name: str) -> Path:
    """Return where a network's ONNX file lies in the folder of a stage."""
    return directory / f"{name}.onnx"
