"""The server's state between two rounds, as one file that is either whole or the one before."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunus.federated.federation import Server, Traffic
from prunus.training.checkpoint import Checkpoint
from prunus.training.metrics import RecordLog

_COUNTERS = ("down", "up", "lost", "late", "needed")


def save(server: Server, log: RecordLog, made_by: Mapping[str, Any], path: Path) -> None:
    """Write the state after a round.

    Raises:
        CheckpointError: The directory is read-only or the disk is full.
    """
    traffic = server.traffic
    parts: dict[str, dict[str, Any]] = {
        "model": dict(server.model.state_dict()),
        "pruner": dict(server.pruner.state()),
        "clients": dict(server.exchange.state()),
        "known": dict(server.known),
        "traffic": {name: getattr(traffic, name) for name in _COUNTERS},
        "refused": dict(traffic.refused),
        "server": {
            "round": server.round,
            "version": server.version,
            "decided": server.decided,
            "simulated": server.simulated,
            "metrics_bytes": log.secure(),
        },
    }
    Checkpoint(dict(made_by), parts).write(path)


def restore(server: Server, log: RecordLog, made_by: Mapping[str, Any], path: Path) -> bool:
    """Go on from a checkpoint; return whether there is one.

    Records that are newer than it are discarded.

    Raises:
        CheckpointError: It is damaged, or of another run.
    """
    found = Checkpoint.read(path, dict(made_by))
    if found is None:
        log.restore(0)
        return False
    parts: dict[str, dict[str, Any]] = found.parts
    own = parts["server"]
    log.restore(int(own["metrics_bytes"]))
    server.model.load_state_dict(parts["model"])
    server.pruner.load_state(parts["pruner"])
    server.exchange.load_state(parts["clients"])
    known = parts["known"] if parts["clients"] else {}  # nodes begin anew with the run
    server.known = {name: int(version) for name, version in known.items()}
    counters = {name: int(parts["traffic"][name]) for name in _COUNTERS}
    refused = Counter({reason: int(count) for reason, count in parts["refused"].items()})
    server.traffic = Traffic(refused=refused, **counters)
    server.round, server.version, server.decided = (
        int(own[name]) for name in ("round", "version", "decided")
    )
    server.simulated = float(own["simulated"])
    return True
