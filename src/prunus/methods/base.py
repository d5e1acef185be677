"""A method is one choice in each room."""

from dataclasses import dataclass, field
from decimal import Decimal

from prunus.criteria import Criterion
from prunus.errors import TargetError
from prunus.masking import LEARNING, Application, Hard
from prunus.recovery import SoftTargets
from prunus.recovery.penalty import Penalty, ScaleL1
from prunus.recovery.rewind import Rewind
from prunus.schedules import Schedule, Timeline, iterations, lasts
from prunus.selectors import Rates, Selector
from prunus.space import Branches, Granularity, Structured, WholeGroups
from prunus.types import Target


@dataclass(frozen=True, kw_only=True)
class Method:
    """A published method as a composition.

    Attributes:
        name: Its name in the table of methods.
        granularity: What one unit is.
        criterion: How important each unit is; None where the selector finds out by itself.
        selector: Which units stay.
        masking: What a mask does while training goes on.
        penalty: What is added to the loss until the schedule ends.
        schedule: When the mask is updated and how much is removed by then.
        target: What is asked for when the caller does not say.
        before_training: Whether the method begins with the network as it was initialised.
        distillation: How the unpruned network teaches the pruned one while it recovers; None where
            it learns from labels alone.
        rounds: How often scores and choice alternate within one update, each time on the network
            masked so far, with the share that remains falling geometrically.
        recalibrates: Whether the statistics of batch norms are to be measured anew at the end; a
            recipe does so.
        rewind: Where each update of the mask sends training back to; None to train on. The
            schedule then has `begin` and `every` at the length of one training.
        temporary: Whether all that was masked is back at the end, so that there is no target.
    """

    name: str
    granularity: Granularity
    criterion: Criterion | None
    selector: Selector
    masking: Application = Hard
    penalty: Penalty | None = None
    schedule: Schedule = field(default_factory=Schedule)
    target: Target | None = None
    before_training: bool = False
    distillation: SoftTargets | None = None
    rounds: int = 1
    recalibrates: bool = False
    rewind: Rewind | None = None
    temporary: bool = False

    def __post_init__(self) -> None:
        lengths = (self.schedule.begin, self.schedule.end)
        several = self.rewind is not None and self.schedule.curve != "one_shot"
        if several and len({length[-2:] for length in lengths}) > 1:
            raise ValueError(
                f"begin and end of a method that rewinds must have one unit, got {lengths[0]} and "
                f"{lengths[1]}."
            )
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}.")

    @property
    def structured(self) -> bool:
        """Whether channels, groups or branches go, so that they can be removed physically."""
        return isinstance(self.granularity, Structured | WholeGroups | Branches)

    @property
    def adds_to_the_loss(self) -> bool:
        """Whether the loss has a term of the method's, or numbers of its own are learned by it."""
        return isinstance(self.penalty, ScaleL1) or isinstance(self.masking, LEARNING)

    def check_target(self, target: Target) -> None:
        """Refuse a target that this method cannot aim at.

        Raises:
            TargetError: It is a time, or a cost of channels, while the method prunes weights, or
                nothing is removed in the end.
        """
        if self.temporary:
            raise TargetError(
                f"method {self.name!r} ends with every weight there again, so it has no target; "
                f"leave {target.metric} out and set the method's own share."
            )
        if target.timed and not self.structured and target.runtime != "sparse":
            raise TargetError(
                f"method {self.name!r} prunes single weights, whose zeros make {target.runtime} no "
                "faster; ask for runtime='sparse', for sparsity or density, or take a method that "
                "removes channels."
            )
        shares = ("sparsity", "density")
        if not self.structured and not target.timed and target.metric not in shares:
            raise TargetError(
                f"{target.metric} is a cost of channels, but method {self.name!r} prunes single "
                "weights; ask for sparsity or density."
            )
        if isinstance(self.selector, Rates):
            self.selector.check_target(target)

    def timeline(self, steps_per_epoch: int | None = None) -> Timeline:
        """Resolve the schedule to steps; raises as `Schedule.timeline`."""
        timeline = self.schedule.timeline(steps_per_epoch)
        if self.rewind is None:
            return timeline
        return timeline.rewound(iterations(self.rewind.to, steps_per_epoch), self.trainings - 1)

    @property
    def trainings(self) -> int:
        """How many trainings there are: one, and one after each time that it is sent back."""
        if self.rewind is None:
            return 1
        if self.schedule.curve == "one_shot":
            return 2
        begin, end = (Decimal(length[:-2]) for length in (self.schedule.begin, self.schedule.end))
        return 1 + round(end / begin)

    @property
    def during_training(self) -> bool:
        """Whether the method needs a training loop to act in."""
        return self.schedule.curve != "one_shot" or lasts(self.schedule.begin)
