"""A method is one choice in each room."""

from dataclasses import dataclass, field

from prunus.criteria import Criterion
from prunus.schedules import Schedule
from prunus.selectors import Selector
from prunus.space import Granularity
from prunus.types import Target


@dataclass(frozen=True, kw_only=True)
class Method:
    """A published method as a composition.

    Attributes:
        name: Its name in the table of methods.
        granularity: What one unit is.
        criterion: How important each unit is.
        selector: Which units stay.
        schedule: When the mask is updated and how much is removed by then.
        target: What is asked for when the caller does not say.
    """

    name: str
    granularity: Granularity
    criterion: Criterion
    selector: Selector
    schedule: Schedule = field(default_factory=Schedule)
    target: Target | None = None

    @property
    def during_training(self) -> bool:
        """Whether the method needs a training loop to act in."""
        return self.schedule.curve != "one_shot"
