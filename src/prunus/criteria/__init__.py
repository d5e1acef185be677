"""HOW IMPORTANT is each unit: evidence to one score per unit, larger = keep."""

from prunus.criteria.activation import ActiveShare as ActiveShare
from prunus.criteria.activation import InputNorm as InputNorm
from prunus.criteria.activation import Rank as Rank
from prunus.criteria.base import Anchored as Anchored
from prunus.criteria.base import Criterion as Criterion
from prunus.criteria.base import Evidence as Evidence
from prunus.criteria.calibration import Calibration as Calibration
from prunus.criteria.gathered import GatheredConnection as GatheredConnection
from prunus.criteria.gathered import Gathering as Gathering
from prunus.criteria.gathered import RiskReduction as RiskReduction
from prunus.criteria.geometry import MedianDistance as MedianDistance
from prunus.criteria.gradient import Connection as Connection
from prunus.criteria.gradient import Curvature as Curvature
from prunus.criteria.gradient import GradientFlow as GradientFlow
from prunus.criteria.gradient import SynapticFlow as SynapticFlow
from prunus.criteria.gradient import Taylor as Taylor
from prunus.criteria.learned import Learned as Learned
from prunus.criteria.norm import L1 as L1
from prunus.criteria.norm import L2 as L2
from prunus.criteria.norm import Deviations as Deviations
from prunus.criteria.pattern import Pattern as Pattern
from prunus.criteria.pattern import pattern as pattern
from prunus.criteria.random import Random as Random
from prunus.criteria.regrowth import DropGrow as DropGrow
from prunus.criteria.scale import BatchNormScale as BatchNormScale
from prunus.criteria.sight import Limited as Limited
