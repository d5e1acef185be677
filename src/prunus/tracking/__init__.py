"""Where a run is logged while it goes on, beside its own files: MLflow, TensorBoard."""

from pathlib import Path

from prunus.names import did_you_mean
from prunus.tracking.log import Log, Sinks
from prunus.tracking.mlflow import MLflow
from prunus.tracking.sink import Session, Sink, Tracked, identity
from prunus.tracking.tensorboard import TensorBoard

__all__ = [
    "Log",
    "MLflow",
    "Session",
    "Sink",
    "Sinks",
    "TensorBoard",
    "Tracked",
    "identity",
    "sink",
]

_NAMES = ("mlflow", "tensorboard")


def sink(text: str, root: Path) -> Sink:
    """Return the sink that a text names.

    Args:
        text: "mlflow" or "mlflow:URI"; "tensorboard" or "tensorboard:FOLDER".
        root: The folder of all runs, in which TensorBoard's is where none is named.

    Raises:
        ModuleNotFoundError: It needs a package that is not installed.
        ValueError: There is no sink of that name.
    """
    name, _, where = text.partition(":")
    if name == "mlflow":
        return MLflow(where or None)
    if name == "tensorboard":
        return TensorBoard(Path(where) if where else root / "tensorboard")
    raise ValueError(
        f"log must be mlflow[:URI] or tensorboard[:FOLDER], got {text!r}."
        + did_you_mean(name, _NAMES)
    )
