"""Pruning by one party alone, before the federation begins: the same method, on its own data."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from prunus.federated.samples import FirstBatches
from prunus.federated.task import Task
from prunus.methods import Method
from prunus.pruning import Pruner
from prunus.schedules import Schedule, iterations
from prunus.selectors import RatioGreedy
from prunus.training import Data, evaluate, fit
from prunus.types import Mask

_BY_CHANCE = 1.5  # times what guessing gets right: from there on gradients say something


@dataclass(frozen=True)
class Alone:
    """What one party found.

    Attributes:
        mask: What is kept.
        rounds: Rounds of local steps that it trained.
        seconds: Those took so long by the time model.
        densities: After each reconfiguration.
    """

    mask: Mask
    rounds: int
    seconds: float
    densities: tuple[float, ...]


def prune_alone(
    task: Task, data: Data, tell: Callable[[int, float], None] = lambda rounds, density: None
) -> Alone:
    """Train the task's network on its first batches, reconfiguring it until its density settles.

    Source: Jiang et al., IEEE TNNLS 2022, arXiv:1909.12326, section III; constants as in their
    code.

    Args:
        task: What is trained and how; its model is changed in place.
        data: Of the party.
        tell: Told of the rounds done and the density, after each part of the training.
    """
    initial = task.initial
    assert initial is not None
    few = FirstBatches(data, initial.batches)
    steps = task.local_steps
    rounds, seconds = 0, 0.0
    pruner: Pruner | None = None
    densities: list[float] = []

    def train(count: int) -> None:
        nonlocal rounds, seconds
        start, end = rounds * steps, (rounds + count) * steps
        update = {"start": f"{start}it", "length": f"{end}it", "eval_every": f"{end}it"}
        settings = task.train.model_copy(update=update | {"checkpoint_every": f"{end}it"})
        mask: Mask = pruner.mask if pruner is not None else {}
        seconds += count * task.training_seconds(mask, task.gathers is not None)
        fit(task.model, few, settings, seed=task.seed_of(rounds, "initial"), hook=pruner)
        rounds += count

    right = 0.0
    while right < _BY_CHANCE / data.classes and rounds < initial.rounds:
        train(min(initial.look, initial.rounds - rounds))
        right = evaluate(task.model, few, "train").accuracy
        tell(rounds, 1.0)
    every = f"{initial.every * steps}it"
    left = (initial.rounds - rounds) // initial.every
    if left < 1:
        return Alone({}, rounds, seconds, ())
    end = f"{left * initial.every * steps}it"
    pruner = Pruner(
        task.model,
        task.example,
        _method(task, Schedule(curve="constant", begin=every, end=end, every=every)),
        target=None if task.method.schedule.curve == "linear" else task.target,
        seed=task.seed,
    )
    still = 0
    for _ in range(left):
        before = task.density(pruner.mask)
        train(initial.every)
        now = task.density(pruner.mask)
        densities.append(now)
        tell(rounds, now)
        still = still + 1 if abs(now - before) <= initial.settled * before else 0
        if still >= initial.patience:
            break
    pruner.detach()  # others train the same network, with masks of their own
    return Alone(pruner.mask, rounds, seconds, tuple(densities))


def _method(task: Task, schedule: Schedule) -> Method:
    """Return the federation's method on a schedule of local steps, which decays as in rounds."""
    selector = task.method.selector
    assert isinstance(selector, RatioGreedy)
    own = iterations(schedule.end) / task.local_steps
    halvings = selector.halvings * own / max(1, iterations(task.method.schedule.end))
    selector = replace(selector, halvings=halvings)
    return replace(task.method, schedule=schedule, selector=selector)
