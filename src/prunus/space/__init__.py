"""WHAT can be removed: units, what must go together, what may not go, and what each costs."""

from prunus.space.branches import Branch as Branch
from prunus.space.check import Verification as Verification
from prunus.space.check import verify as verify
from prunus.space.cost import Cost as Cost
from prunus.space.granularity import Branches as Branches
from prunus.space.granularity import Granularity as Granularity
from prunus.space.granularity import Structured as Structured
from prunus.space.granularity import Unstructured as Unstructured
from prunus.space.granularity import WholeGroups as WholeGroups
from prunus.space.granularity import first_match as first_match
from prunus.space.granularity import matches as matches
from prunus.space.granularity import must_match as must_match
from prunus.space.granularity import trace_for as trace_for
from prunus.space.remove import remove as remove
from prunus.space.space import Space as Space
from prunus.space.space import trace as trace
from prunus.space.unit_groups import UnitGroup as UnitGroup
from prunus.space.unit_groups import WeightUnit as WeightUnit
from prunus.space.unit_groups import stages as stages
from prunus.space.units import ChannelGroup as ChannelGroup
from prunus.space.units import Frozen as Frozen
