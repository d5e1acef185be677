"""The order of tasks, and what becomes of those that fail, with workers that only pretend."""

from dataclasses import dataclass, field

import pytest

from prunus.study.schedule import Ended, perform


@dataclass
class Step:
    done: bool = False

    def recall(self):
        return self if self.done else None


@dataclass
class Task:
    title: str
    needs: tuple = ()
    step: Step = field(default_factory=Step)


class Pretend:
    """`ends` maps a task to how its tries end, good where nothing is said."""

    def __init__(self, ends=None, slots=2):
        self.ends, self.slots = ends or {}, slots
        self.running, self.given, self.closed = [], [], False

    def free(self):
        return self.slots - len(self.running)

    def give(self, key, task):
        self.running.append(key)
        self.given.append(key)

    def wait(self):
        key = self.running.pop()
        ends = self.ends.get(key)
        return [Ended(key, *(ends.pop(0) if ends else ()))]

    def close(self):
        self.closed = True


def diamond():
    return {
        "dense": Task("dense"),
        "a": Task("a", ("dense",)),
        "b": Task("b", ("dense",)),
        "both": Task("both", ("a", "b")),
    }


def play(tasks, workers):
    told = []
    failed = perform(tasks, workers, lambda event, task, words: told.append((event, task.title)))
    assert workers.closed
    return failed, told


def test_what_is_needed_comes_first_and_what_is_done_is_not_done_again():
    tasks = diamond()
    workers = Pretend()
    assert play(tasks, workers)[0] == {}
    assert workers.given[0] == "dense"
    assert sorted(workers.given[1:3]) == ["a", "b"]
    tasks["dense"].step.done = tasks["a"].step.done = True
    workers = Pretend()
    told = play(tasks, workers)[1]
    assert workers.given == ["b", "both"]
    assert ("found", "a") in told


def test_an_error_fails_what_needs_it_and_the_rest_goes_on():
    workers = Pretend({"a": [("ValueError: no",)]})
    failed, told = play(diamond(), workers)
    assert [event for event in told if event[0] in ("failed", "lost")] == [
        ("failed", "a"), ("lost", "both"),
    ]  # fmt: skip
    assert failed == {"a": "ValueError: no", "both": "needs a, which failed"}
    assert workers.given.count("a") == 1
    assert "b" in workers.given


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_task_whose_worker_died_is_tried_once_more(deaths):
    workers = Pretend({"a": [("killed", True)] * deaths})
    failed, told = play(diamond(), workers)
    assert workers.given.count("a") == 2
    assert ("died", "a") in told
    assert set(failed) == (set() if deaths == 1 else {"a", "both"})


def test_workers_are_closed_whatever_happens():
    class Interrupted(Pretend):
        def wait(self):
            raise KeyboardInterrupt

    workers = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        perform(diamond(), workers, lambda *told: None)
    assert workers.closed
