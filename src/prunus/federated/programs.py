"""Flower's programs on this machine: started with a home of their own, and ended without a rest."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self
from uuid import uuid4

from prunus.errors import TrainingError

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Variables by which Flower neither reports, nor looks for updates, nor installs anything."""
_MARK = "PRUNUS_PROGRAMS"  # a variable that all descendants of a program inherit
_GRACE = 10.0  # seconds to end by oneself
_LINES = 15  # of a log that an error shows


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM, as service managers send it, unwind the block as ctrl-C does.

    Otherwise a process that has started others would leave them running. Outside the main thread,
    where Python delivers no signals, it does nothing.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is _leave:  # a block around this one sees to it
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # what is being ended is not to be disturbed
    raise SystemExit(128 + number)


class Programs:
    """Programs that end with the `with` block that they are started in, their children too.

    Args:
        folder: Of their homes and logs; made if missing.

    Raises:
        ModuleNotFoundError: Flower is not installed.
    """

    def __init__(self, folder: Path) -> None:
        needs_flower()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._mark = uuid4().hex

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def home(self, name: str) -> Path:
        """Return the folder in which a program keeps what is its own; made if missing."""
        home = self.folder / f"home-{name}"
        home.mkdir(exist_ok=True)
        return home

    def log(self, name: str) -> str:
        """Return what a program has said."""
        path = self.folder / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self, name: str, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        """Start one of Flower's programs; what it says is added to NAME.log."""
        beside = Path(sys.executable).parent  # they start each other by name
        path = f"{beside}{os.pathsep}{os.environ.get('PATH', '')}"
        found = shutil.which(program, path=path)
        if found is None:
            raise TrainingError(f"{program!r} is not there; pip install 'prunus[fed]' has it.")
        own = {"FLWR_HOME": str(self.home(name)), "PATH": path, _MARK: f"{self._mark}/{name}"}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [found, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=os.environ | QUIET | own,
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def call(self, name: str, program: str, *arguments: object, seconds: float = 300) -> str:
        """Run a program to its end; return what it has said.

        Raises:
            TrainingError: It failed, or did not end in time.
        """
        before = len(self.log(name))
        process = self.start(name, program, *arguments)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.stop(name)
            raise TrainingError(f"{program} did not end in {seconds:g} s.") from error
        said = self.log(name)[before:]
        if code:
            raise TrainingError(f"{program} failed ({code}): {tail(said)}")
        return said

    def stop(self, name: str, sign: int = signal.SIGTERM) -> None:
        """End a program and what it has started: by a signal, and by SIGKILL whoever is left."""
        process = self._running.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE if sign != signal.SIGKILL else 0.1)
        self._kill(process, name)

    def end(self) -> None:
        """End all of them, and what they have started."""
        for process in self._running.values():  # at once, so that all have the same time to end
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for name in list(self._running):
            self.stop(name)

    def _kill(self, process: "subprocess.Popen[bytes]", name: str) -> None:
        """Kill the group of a program, and descendants that have left it."""
        end = time.monotonic() + _GRACE
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        while (left := marked(f"{self._mark}/{name}")) and time.monotonic() < end:
            for one in left:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.05)
        process.wait()


def marked(mark: str) -> list[int]:
    """Return the processes with a mark in their environment; none where /proc is not there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def needs_flower() -> None:
    """Refuse to go on without Flower.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    if find_spec("flwr") is None:
        raise ModuleNotFoundError(
            "a federation over processes or machines needs Flower: pip install 'prunus[fed]'."
        )


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def tail(text: str) -> str:
    """Return the last lines of a log."""
    return "\n".join(text.strip().splitlines()[-_LINES:])
