"""Prune one network, once, and export the result as ONNX; one process for each."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from prunus.cli.models import pair
from prunus.deploy import export_onnx
from prunus.errors import ExportError
from zoos import examine, networks
from zoos.compare import text
from zoos.examine import Notes


def exported(zoo: str, name: str, ratio: float, note: Notes) -> None:
    """Build, prune and export one network, with an open batch, or else with a fixed one."""
    note(stage="build")
    torch.manual_seed(0)
    model, example = networks(zoo)[name]()
    examine.enliven(model.eval(), example)
    note(stage="prune")
    try:
        result = examine.pruned(model, example, ratio)
    except Exception as error:
        note(status="not pruned", error=text(error), stage="done")
        return
    note(stage="export", form=result.report.form)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.onnx"
        for status, given, dynamic in (
            ("exported", pair(example), True),
            ("fixed batch", example, False),
        ):
            try:
                export_onnx(result.model, given, path, dynamic_batch=dynamic)
            except (ExportError, ValueError) as error:
                note(status="not exported", **{"error" if dynamic else "fixed": text(error)})
                continue
            note(status=status, megabytes=path.stat().st_size / 1e6, stage="done")
            return
    note(stage="done")


def main(zoo: str, name: str, ratio: str, file: str, limit: str, log: str) -> None:
    """Do so in a process of its own; see `zoos.examine.main`."""
    examine.main(zoo, name, ratio, file, limit, log, work=exported)
