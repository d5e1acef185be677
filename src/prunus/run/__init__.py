"""Running a recipe, stage by stage, each done once."""

from prunus.run.execute import Finished, run
from prunus.run.stages import Announce

__all__ = ["Announce", "Finished", "run"]
