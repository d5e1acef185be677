"""Doing tasks in an order that respects their needs, wherever workers are.

A task that raises has failed, and so has all that needs it; the others go on. A task whose worker
died is tried once more.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from prunus.study.cells import Task

Event = Literal["found", "waiting", "begun", "done", "failed", "lost", "died"]
Tell = Callable[[Event, Task, str], None]
"""Called with what happened to a task, and words on it where it failed, is lost because what it
needs failed, or its worker died."""

TRIES = 2


@dataclass(frozen=True)
class Ended:
    """How a worker's work on a task ended.

    Args:
        key: The task's.
        error: Why it failed; "" if it did not.
        died: Whether the worker is gone, so that the task may do better elsewhere.
    """

    key: str
    error: str = ""
    died: bool = False


class Workers(Protocol):
    """Where tasks are done."""

    def free(self) -> int:
        """Return how many more tasks may be given now."""
        ...

    def give(self, key: str, task: Task) -> None:
        """Begin a task."""
        ...

    def wait(self) -> Iterable[Ended]:
        """Wait until at least one task has ended."""
        ...

    def close(self) -> None:
        """End: what is under way keeps its last checkpoint."""
        ...


def perform(tasks: Mapping[str, Task], workers: Workers, tell: Tell) -> dict[str, str]:
    """Do all tasks that are not done.

    Args:
        tasks: Key -> task, what is needed first.
        workers: Who does them; closed at the end, whatever happens.
        tell: Told of everything.

    Returns:
        Key -> why, for each that could not be done.
    """
    failed: dict[str, str] = {}
    tries = dict.fromkeys(tasks, 0)
    waiting, done = dict(tasks), set[str]()
    for key, task in tasks.items():
        if task.step.recall() is not None:
            done.add(key)
            del waiting[key]
        tell("found" if key in done else "waiting", task, "")
    running: set[str] = set()

    def fail(key: str, event: Event, why: str) -> None:
        failed[key] = why
        tell(event, tasks[key], why)

    try:
        while waiting or running:
            for key, task in list(waiting.items()):
                if broken := [need for need in task.needs if need in failed]:
                    del waiting[key]
                    fail(key, "lost", f"needs {tasks[broken[0]].title}, which failed")
                elif workers.free() and done.issuperset(task.needs):
                    del waiting[key]
                    running.add(key)
                    tries[key] += 1
                    tell("begun", task, "")
                    workers.give(key, task)
            for ended in workers.wait() if running else ():
                key = ended.key
                running.discard(key)
                if ended.died and tries[key] < TRIES:
                    tell("died", tasks[key], ended.error)
                    waiting[key] = tasks[key]
                elif ended.error:
                    fail(key, "failed", ended.error)
                else:
                    done.add(key)
                    tell("done", tasks[key], "")
    finally:
        workers.close()
    return failed
