"""From a method to a result: in one call, or step by step inside any training loop."""

from prunus.pruning.once import prune as prune
from prunus.pruning.plan import Plan as Plan
from prunus.pruning.plan import resolve as resolve
from prunus.pruning.pruner import Pruner as Pruner
from prunus.pruning.result import Report as Report
from prunus.pruning.result import Result as Result
from prunus.pruning.scan import Sensitivity as Sensitivity
from prunus.pruning.scan import sensitivity as sensitivity
