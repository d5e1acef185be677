"""Running a recipe, stage by stage, each done once."""

from prunus.run.execute import Finished, run
from prunus.run.plan import Plan
from prunus.run.recalled import modules
from prunus.run.stages import Announce

__all__ = ["Announce", "Finished", "Plan", "modules", "run"]
