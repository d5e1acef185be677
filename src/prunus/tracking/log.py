"""Logging that never stops what is logged."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prunus.tracking.sink import Session, Sink, Tracked

_logger = logging.getLogger("prunus")


class Sinks:
    """Sinks that all get the same. One that fails is told of once, and gets nothing more.

    What it had begun is ended as not done.

    Args:
        sinks: Any number of them.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._working = list(sinks)

    @contextmanager
    def open(self, tracked: Callable[[], Tracked]) -> Iterator["Log"]:
        """Log one run in the block.

        Args:
            tracked: Describes the run; not called where there is no sink.
        """
        log = Log(self, tracked)
        done = False
        try:
            yield log
            done = True
        finally:
            log.close(done=done)

    def each(self, act: Callable[[Sink], None]) -> None:
        """Do something with every sink that has not failed yet."""
        for sink in list(self._working):
            try:
                act(sink)
            except Exception as error:  # whatever a client or a server can do wrong
                self._working.remove(sink)
                why = (str(error).splitlines() or [""])[0]
                _logger.warning(
                    "%s failed (%s: %s) and gets nothing more; the run goes on without. Give the "
                    "same command again, when it is done or before, to log what is missing.",
                    sink.title,
                    type(error).__name__,
                    why,
                )


class Log:
    """One run in several sinks.

    Args:
        sinks: Where it is logged.
        tracked: Describes it.
    """

    def __init__(self, sinks: Sinks, tracked: Callable[[], Tracked]) -> None:
        self._sinks = sinks
        self._tracked = tracked
        self._sessions: dict[int, Session] = {}

    def curve(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Log a training, of which these are all records so far."""
        self._each(lambda session: session.curve(name, records))

    def finish(self, figures: Mapping[str, float], page: Path | None = None) -> None:
        """Log what the run found in the end, and its report."""
        self._each(lambda session: session.figures(figures))
        if page is not None:
            self._each(lambda session: session.report(page))

    def close(self, *, done: bool) -> None:
        """End what was begun; `done` says whether the run came to its end."""

        def close(sink: Sink) -> None:
            if id(sink) in self._sessions:
                self._sessions.pop(id(sink)).close(done=done)

        self._sinks.each(close)
        while self._sessions:  # of sinks that have failed
            _, session = self._sessions.popitem()
            with suppress(Exception):
                session.close(done=False)

    def _each(self, act: Callable[[Session], None]) -> None:
        def through(sink: Sink) -> None:
            if id(sink) not in self._sessions:
                self._sessions[id(sink)] = sink.open(self._tracked())
            act(self._sessions[id(sink)])

        self._sinks.each(through)
