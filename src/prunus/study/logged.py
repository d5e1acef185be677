"""What of a study is logged to MLflow or TensorBoard: a run per network, and one for the report."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunus.recipe import digest
from prunus.study.arms import ARMS
from prunus.study.cells import Cell, Cells, Task
from prunus.study.recipe import StudyRecipe
from prunus.tracking import Sink, Sinks, Tracked, identity

_FIGURES = ("test", "val", "macs", "params", "bytes")


class Logged:
    """Logs a study while it goes on.

    Args:
        study: Its recipe.
        laid_out: Its cells.
        directory: Where its results lie.
        sinks: Where to; with none nothing is done.
    """

    def __init__(
        self, study: StudyRecipe, laid_out: Cells, directory: Path, sinks: Sequence[Sink]
    ) -> None:
        self._study, self._laid_out, self._directory = study, laid_out, directory
        self._some = bool(sinks)
        self._sinks = Sinks(sinks)
        self._resting: dict[str, list[Cell]] = defaultdict(list)
        for cell in laid_out.cells:
            self._resting[cell.stages[cell.stage]].append(cell)

    def trained(self, task: Task) -> None:
        """Log the training of the networks that a task was the last of."""
        for cell in self._resting[str(task.step.directory)] if self._some else ():
            self._log(cell, {})

    def finish(self, document: Mapping[str, Any], page: Path) -> None:
        """Log what was found.

        Args:
            document: Of the study; its cells are in the order of those laid out.
            page: Its report.
        """
        if not self._some:
            return
        for cell, found in zip(self._laid_out.cells, document["cells"], strict=True):
            if "test" in found:
                figures = {key: found[key] for key in _FIGURES if found[key] is not None}
                self._log(cell, figures | {"epochs": found["total"]["epochs"]})
        with self._sinks.open(self._whole) as log:
            log.finish({"networks": len(document["cells"])}, page)

    def _log(self, cell: Cell, figures: Mapping[str, float]) -> None:
        task = self._laid_out.tasks[cell.stages[cell.stage]]
        done = task.step.recall()
        with self._sinks.open(lambda: self._one(cell, task)) as log:
            if done is not None:
                log.curve("training", done.result.get("curve", ()))
            if figures:
                log.finish(figures)

    def _one(self, cell: Cell, task: Task) -> Tracked:
        size = f"{cell.target.metric} {cell.target.value:g}" if cell.target else ""
        parts = (cell.method, size, ARMS[cell.arm].title, f"seed {cell.seed}")
        name = " ".join(filter(None, parts))
        own = digest([identity(self._directory, ""), name, task.step.key])
        parameters = {"method": cell.method or "none", "target": size or "none"}
        parameters |= {"arm": ARMS[cell.arm].title, "seed": str(cell.seed)}
        return Tracked(self._study.name, name, own, parameters)

    def _whole(self) -> Tracked:
        parameters = {"networks": len(self._laid_out.cells), "seeds": self._study.study.seeds}
        return Tracked(self._study.name, "study", identity(self._directory, ""), parameters)
