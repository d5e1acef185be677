"""Prunus: smaller neural networks, proved equal to their masked selves, and really faster."""

from prunus import methods as methods
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
