"""HOW IMPORTANT is each unit: evidence to one score per unit, larger = keep."""

from prunus.criteria.base import Criterion as Criterion
from prunus.criteria.base import Evidence as Evidence
from prunus.criteria.norm import L1 as L1
from prunus.criteria.norm import L2 as L2
from prunus.criteria.random import Random as Random

CRITERIA: dict[str, type[Criterion]] = {"l1": L1, "l2": L2, "random": Random}
