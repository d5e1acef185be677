"""Workers: this process, or processes beside it that share its cores."""

import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from prunus.run.plan import Plan
from prunus.study.cells import Task
from prunus.study.schedule import Ended

_PATIENCE = 60.0  # seconds in which an interrupted worker writes its checkpoint


def do(task: Task, root: Path) -> str:
    """Do one task; return why it failed, or nothing."""
    try:
        Plan(task.recipe, root, shared=True).do(task.stage)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


class Here:
    """This process, one task at a time.

    Args:
        root: The folder of all runs.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._next: tuple[str, Task] | None = None

    def free(self) -> int:
        """Return 1 until a task is given."""
        return int(self._next is None)

    def give(self, key: str, task: Task) -> None:
        """Keep the task for `wait`."""
        self._next = key, task

    def wait(self) -> Iterable[Ended]:
        """Do the task."""
        assert self._next is not None
        key, task = self._next
        self._next = None
        return [Ended(key, do(task, self._root))]

    def close(self) -> None:
        """Nothing is left behind."""


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    key: str = ""  # of the task that it does


class Processes:
    """Processes of their own, each with its share of the cores.

    One that dies is replaced. They end with this process, however it ends; at ctrl-C each writes a
    checkpoint first.

    Args:
        root: The folder of all runs.
        count: How many.
        threads: Of torch, in each.
    """

    def __init__(self, root: Path, count: int, threads: int) -> None:
        self._root = root
        self._threads = threads
        self._context = get_context("spawn")  # torch's threads do not survive a fork
        self._workers = [self._start() for _ in range(count)]

    def free(self) -> int:
        """Return how many of them have nothing to do."""
        return sum(not worker.key for worker in self._workers)

    def give(self, key: str, task: Task) -> None:
        """Begin a task in one of them."""
        for place, worker in enumerate(self._workers):
            if worker.key:
                continue
            if not worker.process.is_alive():
                self._workers[place] = worker = self._start()
            worker.key = key
            with suppress(OSError):  # dead already, as `wait` will find
                worker.pipe.send(task)
            return

    def wait(self) -> Iterable[Ended]:
        """Wait for one or more of them to end a task, or their life."""
        busy = {worker.pipe: worker for worker in self._workers if worker.key}
        ended = []
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            key, worker.key = worker.key, ""
            try:
                ended.append(Ended(key, worker.pipe.recv()))
            except (EOFError, OSError):  # reset, where its task was not read
                worker.process.join()
                ended.append(Ended(key, f"its process {_end(worker.process)}", died=True))
        return ended

    def close(self) -> None:
        """End them all: at once those without a task, the others after a checkpoint."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.key and worker.process.pid and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGINT)
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._root, self._threads), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)


def _serve(pipe: Connection, root: Path, threads: int) -> None:
    """Do tasks until the pipe is closed; the life of a worker."""
    os.setsid()  # the terminal's ctrl-C goes to the parent, which passes it on once
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        while True:
            pipe.send(do(pipe.recv(), root))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)  # as the parent was: the last checkpoint is what counts


def _end(process: SpawnProcess) -> str:
    code = process.exitcode
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual() -> int:
    """Return how many workers there are by default: one per core, or one where a GPU works."""
    return 1 if torch.cuda.is_available() else cores()


def threads(workers: int) -> int:
    """Return how many of torch's threads each of some workers has."""
    return max(1, cores() // workers)
