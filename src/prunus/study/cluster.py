"""Workers of a Dask cluster, on any machines that see the same files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunus.study.cells import Task
from prunus.study.schedule import Ended
from prunus.study.workers import do


class Cluster:
    """The workers of a Dask scheduler. A task whose worker died is given to another by Dask.

    Args:
        address: Of the scheduler, such as "tcp://host:8786".
        root: The folder of all runs, under this name on every machine.

    Raises:
        ModuleNotFoundError: Dask is not installed.
        ValueError: A worker has several threads.
        OSError: No scheduler answers.
    """

    def __init__(self, address: str, root: Path) -> None:
        try:
            from dask import distributed
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "a study on a cluster needs Dask; pip install 'prunus[study]'."
            ) from error
        self._dask = distributed
        self._client = distributed.Client(address)
        threads = self._client.nthreads()
        if many := [worker for worker, count in threads.items() if count > 1]:
            self._client.close()
            raise ValueError(
                f"a Dask worker must have one thread, since torch has one random state for all, "
                f"but {', '.join(many)} have more; start them with --nthreads 1 --nworkers N."
            )
        self._root = root
        self._running: dict[Any, str] = {}

    def free(self) -> int:
        """Return how many workers have nothing to do, and 1 where none has come yet."""
        return max(1, len(self._client.nthreads())) - len(self._running)

    def give(self, key: str, task: Task) -> None:
        """Begin a task somewhere."""
        future = self._client.submit(do, task, self._root, pure=False)
        self._running[future] = key

    def wait(self) -> Iterable[Ended]:
        """Wait for one or more tasks to end."""
        self._dask.wait(list(self._running), return_when="FIRST_COMPLETED")
        ended = []
        for future in [one for one in self._running if one.done()]:
            key, error = self._running.pop(future), future.exception()
            if error is None:
                ended.append(Ended(key, future.result()))
            else:  # `do` returns its own errors, so this is the cluster's
                ended.append(Ended(key, f"{type(error).__name__}: {error}", died=True))
        return ended

    def close(self) -> None:
        """Take back what is under way; what has begun runs to the end of its stage."""
        self._client.cancel(list(self._running))
        self._client.close()
