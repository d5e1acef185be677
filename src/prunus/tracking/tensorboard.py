"""TensorBoard: event files in a folder."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.tracking.sink import Point, Tracked, finals, plain, points

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_RECIPE, _REPORT = "recipe", "report"


class TensorBoard:
    """Logs to event files: a folder per recipe or study, in it one per run or network.

    Args:
        folder: What `tensorboard --logdir` is given.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """

    title = "TensorBoard"

    def __init__(self, folder: Path | str) -> None:
        if find_spec("tensorboard") is None:
            raise ModuleNotFoundError(
                "logging to TensorBoard needs its package; pip install 'prunus[tensorboard]'."
            )
        self._folder = Path(folder)

    def open(self, tracked: Tracked) -> "TensorBoardSession":
        """Begin a run, or go on with it.

        Raises:
            OSError: The folder cannot be read.
        """
        name = plain(f"{tracked.name}-{tracked.key[:8]}".replace("/", "-"))
        return TensorBoardSession(self._folder / plain(tracked.group) / name, tracked.parameters)


class TensorBoardSession:
    """One run's folder.

    Args:
        folder: Its own.
        parameters: Name -> value.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        self._folder = folder
        self._parameters = parameters
        self._last = _newest(folder)
        text = "\n".join(f"    {name} = {value}" for name, value in parameters.items())
        self._text(_RECIPE, text)

    def curve(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Log a training."""
        self._send(list(points(name, records)))

    def figures(self, values: Mapping[str, float]) -> None:
        """Log what the run found in the end, beside what it was made with."""
        given = {point.key: point.value for point in finals(values)}
        if self._last.keys() >= given.keys():
            return
        known = {
            name: value if isinstance(value, bool | int | float) else str(value)
            for name, value in self._parameters.items()
        }
        # By itself it would take a folder below, and so another run, for what it writes.
        self._writer.add_hparams(known, given, run_name=".")
        self._last |= dict.fromkeys(given, 0)

    def report(self, page: Path) -> None:
        """Say where the report lies: TensorBoard keeps no files."""
        self._text(_REPORT, f"    {page.resolve()}")

    def close(self, *, done: bool) -> None:
        """Close the event file, if there is one."""
        if "_writer" in self.__dict__:
            self._writer.close()

    @cached_property
    def _writer(self) -> "SummaryWriter":
        """Writes an event file of its own, which is made when there is something to write."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder))

    def _text(self, tag: str, text: str) -> None:
        if f"{tag}/text_summary" not in self._last:
            self._writer.add_text(tag, text)
            self._writer.flush()

    def _send(self, given: Sequence[Point]) -> None:
        fresh = [point for point in given if point.step > self._last.get(point.key, -1)]
        for point in fresh:
            self._writer.add_scalar(point.key, point.value, point.step)
            self._last[point.key] = point.step
        if fresh:
            self._writer.flush()


def _newest(folder: Path) -> dict[str, int]:
    """Return the last step of each tag in a folder's event files, whole or cut off by a kill."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    last: dict[str, int] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                last[value.tag] = max(event.step, last.get(value.tag, -1))
    return last
