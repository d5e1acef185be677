"""A whole deployment on this machine: SuperLink, SuperNodes, TLS and a key for each node.

python -m prunus.federated.loopback RECIPE --nodes 3

It does what docs/how-to/edge.md does over several machines, with the same programs, and ends all of
them. Needs the extra `fed`, and openssl and ssh-keygen.
"""

import argparse
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prunus.errors import TrainingError
from prunus.federated.execute import Finished, Tell
from prunus.federated.programs import Programs, ended_in_order, free_port
from prunus.federated.recipe import FederatedRecipe, load
from prunus.federated.superlink import connect, start_link, write_connection

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes")
_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


class Loopback:
    """A SuperLink and its SuperNodes, from the beginning to the end of a `with` block.

    Args:
        folder: Of keys, certificates, homes and logs; made if missing.
        nodes: How many there are, "node0" and so on; each is the client of that number.

    Attributes:
        programs: What runs.
        port: Of the SuperLink.
    """

    def __init__(self, folder: Path | str, nodes: int = 3) -> None:
        if nodes < 1:
            raise ValueError(f"nodes must be at least 1, got {nodes}.")
        self.programs = Programs(Path(folder))
        self.folder, self.nodes, self.port = self.programs.folder, nodes, free_port()

    def __enter__(self) -> Self:
        """Make certificates and keys, start the SuperLink, register the nodes and start them.

        Raises:
            TrainingError: A program failed; the message has what it said.
        """
        try:
            make_certificates(self.folder)
            self.start_link()
            home = self.programs.home("cli")
            write_connection(home, f"127.0.0.1:{self.port}", self.certificate, True)
            for place in range(self.nodes):
                make_key(self.folder, f"node{place}")
                key = self.folder / f"node{place}.pub"
                self.programs.call("cli", "flwr", "supernode", "register", key, "link")
                self.start_node(f"node{place}", place)
        except BaseException:
            self.programs.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.programs.end()

    @property
    def certificate(self) -> Path:
        """Of the authority that all trust."""
        return self.folder / "ca.crt"

    def start_link(self) -> None:
        """Start the SuperLink, which knows from its database who is registered."""
        start_link(
            self.programs,
            *("--enable-supernode-auth", "--database", self.folder / "link.db"),
            *("--ssl-certfile", self.folder / "server.pem"),
            *("--ssl-keyfile", self.folder / "server.key"),
            *("--ssl-ca-certfile", self.certificate),
            port=self.port,
        )

    def start_node(
        self, name: str, place: int, through: int | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a SuperNode.

        Args:
            name: Of its key.
            place: The number of the client that it is.
            through: A port of this machine that leads to the SuperLink's.
        """
        return self.programs.start(
            name,
            *("flower-supernode", "--superlink", f"127.0.0.1:{through or self.port}"),
            *("--root-certificates", self.certificate),
            *("--auth-supernode-private-key", self.folder / name),
            *("--host", "127.0.0.1", "--port", free_port()),
            *("--node-config", f"partition-id={place}"),
        )

    def kill(self, name: str) -> None:
        """Kill a program and its children, as a machine that fails would."""
        self.programs.stop(name, signal.SIGKILL)

    def run(
        self,
        recipe: FederatedRecipe,
        root: Path | str = Path("runs"),
        *,
        seconds: float = 600.0,
        tell: Tell = lambda record: None,
    ) -> Finished:
        """Run a federation over the nodes; raises as `connect`."""
        done = connect(
            recipe,
            f"127.0.0.1:{self.port}",
            root,
            certificate=self.certificate,
            nodes=self.nodes,
            seconds=seconds,
            tell=tell,
        )
        assert done is not None
        return done


def make_certificates(folder: Path) -> None:
    """Make an authority, and a certificate by it for a server on this machine.

    Raises:
        TrainingError: openssl is not there, or failed.
    """
    (folder / "names").write_text(_NAMES, encoding="utf-8")
    authority = ("-keyout", "ca.key", "-out", "ca.crt")
    _call(
        folder, "openssl", "req", "-x509", *_CURVE, "-days", "30", "-subj", "/CN=prunus", *authority
    )
    asked = ("-keyout", "server.key", "-out", "server.csr")
    _call(folder, "openssl", "req", *_CURVE, "-subj", "/CN=server", *asked)
    by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
    made = ("-extfile", "names", "-out", "server.pem")
    _call(folder, "openssl", "x509", "-req", "-in", "server.csr", *by, *made)


def make_key(folder: Path, name: str) -> None:
    """Make the key of a node: NAME, and NAME.pub for the SuperLink.

    Raises:
        TrainingError: ssh-keygen is not there, or failed.
    """
    for old in (folder / name, folder / f"{name}.pub"):
        old.unlink(missing_ok=True)
    _call(folder, "ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", name)


def _call(folder: Path, *arguments: str) -> None:
    if shutil.which(arguments[0]) is None:
        raise TrainingError(f"{arguments[0]} is not there; it makes keys and certificates.")
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise TrainingError(f"{arguments[0]} failed ({done.returncode}): {done.stderr[-500:]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a recipe on a deployment of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m prunus.federated.loopback", description=__doc__
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds of a node's round")
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--set", action="append", default=[], help="table.key=value of the recipe")
    given = parser.parse_args(arguments)
    recipe = load(given.recipe, given.set)
    with ended_in_order(), Loopback(given.dir / "loopback", given.nodes) as deployment:
        done = deployment.run(recipe, given.dir, seconds=given.timeout, tell=_print)
    print(f"report: {done.directory / 'report.html'}")


def _print(record: Any) -> None:
    accuracy = record.get("accuracy")
    judged = "" if accuracy is None else f", accuracy {accuracy:.2%}"
    print(
        f"round {record['round']}: {record['averaged']} of {record['asked']} updates, density "
        f"{record['density']:.1%}{judged}",
        flush=True,
    )


if __name__ == "__main__":
    main()
