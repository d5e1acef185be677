"""Prunus: smaller neural networks, proved equal to their masked selves, and really faster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunus import criteria as criteria
    from prunus import deploy as deploy
    from prunus import masking as masking
    from prunus import methods as methods
    from prunus import pruning as pruning
    from prunus import recovery as recovery
    from prunus import selectors as selectors
    from prunus import space as space
    from prunus import training as training
    from prunus import zoo as zoo
    from prunus.criteria import Calibration as Calibration
    from prunus.pruning import Pruner as Pruner
    from prunus.pruning import Report as Report
    from prunus.pruning import Result as Result
    from prunus.pruning import prune as prune
    from prunus.saving import load as load
    from prunus.saving import save as save
    from prunus.space import Verification as Verification
    from prunus.space import verify as verify
    from prunus.types import Mask as Mask
    from prunus.types import Target as Target

__version__ = "0.1.0"

_HOME = {
    "Calibration": "prunus.criteria",
    **dict.fromkeys(("Pruner", "Report", "Result", "prune"), "prunus.pruning"),
    **dict.fromkeys(("load", "save"), "prunus.saving"),
    **dict.fromkeys(("Verification", "verify"), "prunus.space"),
    **dict.fromkeys(("Mask", "Target"), "prunus.types"),
}
_PACKAGES = (
    *("criteria", "deploy", "masking", "methods", "pruning"),
    *("recovery", "selectors", "space", "training", "zoo"),
)
__all__ = ["__version__", *sorted((*_HOME, *_PACKAGES))]


def __getattr__(name: str) -> Any:
    """Import what is asked for: `prunus --help` then need not wait for torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return import_module(f"prunus.{name}")
    raise AttributeError(f"module 'prunus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
