"""What `prunus shrink` delivers: files, also in int8, timed against each other."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunus.cli.models import pair

# torch is imported where it is needed, so that --help comes at once.
if TYPE_CHECKING:
    from torch import nn

    from prunus.training import Data
    from prunus.types import Example, Setting

_CALIBRATION = 10  # batches


def deliver(
    networks: "Mapping[str, nn.Module]",
    example: "Example",
    where: "Setting",
    rounds: int,
    out: Path,
    data: "Data | None",
) -> dict[str, Any]:
    """Write each network as NAME.onnx and time all of them, in each precision of the runtime.

    The files take any batch where the networks can be exported so, else that of the timings alone.

    Args:
        networks: By name, the reference first.
        example: An input of them: one sample, or rows that are no samples, taken whole.
        where: Where they are timed; in which precision is no matter, nor in which batch where the
            example has more rows than one.
        rounds: Timings of each; 0 for none.
        out: The folder.
        data: Its first training batches calibrate files in int8, which are then kept; None for
            made-up values.

    Returns:
        "delivered", as rows of a result document, "latency" with where it was measured,
        "not_in_int8": network -> why, and "fixed_batch" and "not_exported": why the files take one
        batch alone, or why there are none, "" where that is not so.
    """
    from prunus.deploy import Module, Quantised, quantise, side_by_side
    from prunus.deploy.int8 import int8_path
    from prunus.deploy.runtimes import Network, check_runtime, version_of
    from prunus.deploy.timing import steady_clock
    from prunus.errors import ExportError, InferenceError
    from prunus.types import first_sample, rows_of

    takes = check_runtime(where.runtime).takes
    timed_on = first_sample(example, where.batch) if rows_of(example) == 1 else example
    files, fixed_batch, not_exported = _files(networks, example, timed_on, out)
    calibration = None
    if data is not None:
        calibration = [inputs for inputs, _ in islice(data.train_batches(0), _CALIBRATION)]
    int8: dict[str, Quantised] = {}
    reasons: dict[str, str] = {}
    with TemporaryDirectory(prefix="prunus-") as folder:
        for name, file in files.items():
            if not rounds and data is None:
                break
            kept = int8_path(file) if data is not None else Path(folder) / f"{name}.onnx"
            try:
                int8[name] = quantise(file, calibration, kept)
            except (ExportError, ValueError) as error:  # of values, or of a batch that is too large
                reasons[name] = str(error)
        timed: Mapping[str, Network] = files
        if takes is Module:
            timed = {name: Module(network, example) for name, network in networks.items()}
        place: dict[str, Any] = {
            "runtime": where.runtime,
            "threads": where.threads,
            "batch": rows_of(timed_on),
        }
        rows = []
        if rounds and timed:
            try:
                rows = side_by_side(timed, int8, **place, rounds=rounds)
            except InferenceError:
                if not not_exported:
                    raise  # else why there are no files is what will be said
    return {
        "delivered": [row.to_dict() for row in rows],
        "latency": {
            **place,
            "runtime": version_of(where.runtime),
            "rounds": rounds,
            "clock": steady_clock(where.threads),
        },
        "not_in_int8": reasons,
        "fixed_batch": fixed_batch,
        "not_exported": not_exported,
    }


def _files(
    networks: "Mapping[str, nn.Module]", example: "Example", fixed: "Example", out: Path
) -> tuple[dict[str, Path], str, str]:
    """Export the networks, with an open batch or that of `fixed`.

    Returns:
        The files by name, why they have the batch of `fixed`, and why there are none.
    """
    from prunus.deploy import export_onnx
    from prunus.errors import ExportError

    reason = ""
    for given, dynamic in ((pair(example), True), (fixed, False)):
        try:
            files = {
                name: export_onnx(one, given, out / f"{name}.onnx", dynamic_batch=dynamic)
                for name, one in networks.items()
            }
        except ExportError as error:
            reason = reason or str(error)
        else:
            return files, reason, ""
    for name in networks:  # of one whose like failed, or of an earlier run
        (out / f"{name}.onnx").unlink(missing_ok=True)
    return {}, "", reason


def print_delivered(document: Mapping[str, Any]) -> None:
    """Print what `deliver` found."""
    from rich.console import Console

    from prunus.report import delivered_table

    if rows := document.get("delivered"):
        where = document["latency"]
        print(
            f"{where['runtime']}, threads {where['threads']}, batch {where['batch']}, median of "
            f"{where['rounds']} rounds by the {where['clock']} clock; speed-ups over dense fp32"
        )
        Console().print(delivered_table(rows))
    if reason := document.get("fixed_batch"):
        batch = document["latency"]["batch"]
        print(f"the files take a batch of {batch} alone, since an open one failed: {reason}")
    for name, reason in (document.get("not_in_int8") or {}).items():
        print(f"{name} is not delivered in int8: {reason}")
