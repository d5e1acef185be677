"""A federation on a SuperLink: one that runs already, or a simulation by Ray that is started here.

Needs the extra `fed`, a simulation `fed-sim`.
"""

import json
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prunus.errors import TrainingError
from prunus.federated.app import write_app
from prunus.federated.execute import Finished, Tell, directory_of
from prunus.federated.programs import Programs, ended_in_order, free_port, tail
from prunus.federated.recipe import FederatedRecipe
from prunus.federated.task import data_of
from prunus.files import read_json, write_text
from prunus.recipe import to_toml

PORT = 8000
"""Where a SuperLink listens by default."""
_SILENT = 2  # questions without an answer that are forgiven
_NAME = "link"  # of the connection in Flower's configuration
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_LOOK, _ASK = 0.5, 10.0  # seconds between looks at the rounds, and between questions to Flower


def connect(
    recipe: FederatedRecipe,
    address: str,
    root: Path | str = Path("runs"),
    *,
    certificate: Path | None = None,
    nodes: int = 1,
    seconds: float = 600.0,
    tell: Tell = lambda record: None,
    options: Mapping[str, int] | None = None,
) -> Finished | None:
    """Run a federation on the nodes of a SuperLink, and wait for its end.

    Args:
        recipe: What to do.
        address: HOST or HOST:PORT of the SuperLink.
        root: The folder of all runs, on the machine of the SuperLink, see `there`; here it holds
            the app and what Flower's command line has said.
        certificate: Of the authority that the SuperLink's certificate is by; without it, that of
            the system, and no encryption where the SuperLink is on this machine.
        nodes: For how many nodes the server waits at the beginning.
        seconds: How long a node may take for a round.
        tell: Told of each round, where the SuperLink is on this machine.
        options: Of Flower's simulation, where the SuperLink is one.

    Returns:
        What came out; None where that lies on another machine.

    Raises:
        TrainingError: The SuperLink cannot be reached, or the run failed there.
        ModuleNotFoundError: Flower is not installed.
    """
    directory = directory_of(recipe, root).resolve()
    host, port = _split(address)
    here = host in _LOOPBACK  # what lies in the folder of this machine is of another run, else
    with ended_in_order(), Programs(directory / "flower") as programs:
        app = directory / "app"
        write_app(recipe, app, state=there(address, root), nodes=nodes, seconds=seconds)
        write_connection(programs.home("cli"), f"{host}:{port}", certificate, here)
        given = " ".join(f"{key}={value}" for key, value in (options or {}).items())
        more = ("--federation-config", given) if given else ()
        said = programs.call("cli", "flwr", "run", app, _NAME, "--format", "json", *more)
        look = told(directory / "rounds.jsonl", tell) if here else lambda: None
        status = wait_for(programs, run_of(said), look)
    result = directory / "result.json"
    if status != "finished:completed":
        raise TrainingError(
            f"the run ended as {status!r} on the SuperLink at {host}:{port}, whose log says why; "
            "the same command goes on after the last round."
        )
    return Finished(directory, read_json(result)) if here and result.exists() else None


def there(address: str, root: Path | str) -> Path:
    """Return the folder of all runs as the machine of a SuperLink is told it.

    Where that is another machine, a relative one is below the home directory of whoever runs the
    SuperLink, since the folder that is current here is none of its own.
    """
    host, _ = _split(address)
    return Path(root).absolute() if host in _LOOPBACK else Path("~") / root


def simulate(
    recipe: FederatedRecipe,
    root: Path | str = Path("runs"),
    *,
    seconds: float = 600.0,
    tell: Tell = lambda record: None,
) -> Finished:
    """Run a federation on Flower's simulation, every client of the recipe a node of it.

    Raises:
        TrainingError: The run failed.
        ModuleNotFoundError: Flower or Ray is not installed.
    """
    if find_spec("ray") is None:
        raise ModuleNotFoundError(
            "a simulation needs Flower and Ray: pip install 'prunus[fed-sim]'; without "
            "--simulate, clients run in this process."
        )
    count = len(data_of(recipe))
    directory = directory_of(recipe, root).resolve()
    with ended_in_order(), Programs(directory / "simulation") as programs:
        port = start_link(programs, "--insecure", "--simulation")
        done = connect(
            recipe,
            f"127.0.0.1:{port}",
            root,
            nodes=count,
            seconds=seconds,
            tell=tell,
            options={"num-supernodes": count},
        )
    assert done is not None
    return done


def start_link(programs: Programs, *arguments: object, port: int | None = None) -> int:
    """Start a SuperLink on this machine; return its port once it listens.

    Raises:
        TrainingError: It ended, or does not listen after a minute.
    """
    port = free_port() if port is None else port
    where = ("--host", "127.0.0.1", "--port", port, "--disable-runtime-dependency-installation")
    link = programs.start("link", "flower-superlink", *where, *arguments)
    end = time.monotonic() + 60
    while "running on" not in programs.log("link").lower():
        if link.poll() is not None or time.monotonic() > end:
            raise TrainingError(f"the SuperLink did not start: {tail(programs.log('link'))}")
        time.sleep(0.2)
    return port


def write_connection(home: Path, address: str, certificate: Path | None, here: bool) -> None:
    """Write Flower's configuration, which names a SuperLink and how to reach it."""
    table: dict[str, Any] = {"address": address}
    if certificate is not None:
        table["root-certificates"] = str(certificate.resolve())
    elif here:
        table["insecure"] = True
    write_text(home / "config.toml", to_toml({"superlink": {_NAME: table}}))


def run_of(said: str) -> str:
    """Return the number of the run that `flwr run --format json` has started."""
    found = _json(said)
    if not found.get("success") or "run-id" not in found:
        raise TrainingError(f"the SuperLink took no run: {found.get('error-message', said)}")
    return str(found["run-id"])


def wait_for(programs: Programs, run: str, each: Callable[[], None]) -> str:
    """Wait until a run has ended; return its status.

    Raises:
        TrainingError: The SuperLink has not answered several times in a row.
    """
    silent = 0
    while True:
        said = programs.call("cli", "flwr", "list", _NAME, "--run-id", run, "--format", "json")
        next_time = time.monotonic() + _ASK  # to ask starts a process
        each()
        found = _json(said)
        silent = 0 if found.get("runs") else silent + 1
        if silent > _SILENT:
            why = found.get("error-message", tail(said))
            raise TrainingError(f"the SuperLink does not answer: {why}")
        status = "" if silent else str(found["runs"][0]["status"])
        if status.startswith("finished"):
            return status
        while time.monotonic() < next_time:
            time.sleep(_LOOK)
            each()


def told(log: Path, tell: Tell) -> Callable[[], None]:
    """Return what tells of the rounds that have come to a log since it was last called."""
    seen = 0

    def look() -> None:
        nonlocal seen
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last may not be whole yet
        for line in lines[seen:]:
            tell(json.loads(line))
        seen = max(seen, len(lines))

    return look


def _json(said: str) -> dict[str, Any]:
    """Return the object that Flower's command line has written, among warnings."""
    start = said.find("{")
    try:
        found, _ = json.JSONDecoder().raw_decode(said[max(0, start) :])
    except ValueError as error:
        raise TrainingError(f"flwr has not answered in JSON: {tail(said)}") from error
    return dict(found)


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        return address, PORT
    if not port.isdigit() or not host:
        raise ValueError(f"an address must be HOST or HOST:PORT, got {address!r}.")
    return host, int(port)
