"""The commands of docs/how-to/edge.md on one machine: SuperLink, SuperNodes, TLS, node keys."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="needs Flower: pip install '.[fed]'")

from prunus.federated import federate, parse
from prunus.federated.app import write_app
from prunus.files import read_json, read_tensors

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
TABLES = {
    "name": "loopback",
    "model": {"name": "lenet300"},
    "clients": {"data": "fashion-mnist-embedded", "count": 2, "batch_size": 16, "per_round": 2},
    "train": {"length": "3it", "lr": 0.1, "momentum": 0.0, "channels_last": False},
    "rounds": {"total": 3, "evaluate_every": 3, "judged": 0, "evidence": "all"},
    "method": {"name": "prunefl", "begin": "2it", "end": "2it", "every": "1it"},
}
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes")


@pytest.fixture(autouse=True)
def tiny_data():
    """The data are the embedded images, as the nodes' own processes see them."""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def certificates(folder):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    authority = ("-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", "-x509", *CURVE, "-days", "2", "-subj", "/CN=prunus", *authority)
    openssl("req", *CURVE, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    names = ("-extfile", "names", "-out", "server.pem")
    openssl("x509", "-req", "-in", "server.csr", *signed, *names)
    for name in ("node0", "node1", "stranger"):
        keygen = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", name]
        subprocess.run(keygen, cwd=folder, check=True)


@pytest.fixture
def start(tmp_path):
    """Start a program with a Flower home of its own; everything ends with the test."""
    running = []
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # programs of Flower start others by name

    def begin(name, *arguments):
        home = tmp_path / f"home-{name}"
        home.mkdir(exist_ok=True)
        with (tmp_path / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [BIN / arguments[0], *map(str, arguments[1:])],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                env=os.environ | QUIET | {"FLWR_HOME": str(home), "PATH": path},
                start_new_session=True,
            )
        running.append(process)
        return process

    yield begin
    for process in running:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sign)
            except ProcessLookupError:
                break
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                continue


def logs(folder):
    return "\n".join(f"== {p.name}\n{p.read_text()[-3000:]}" for p in folder.glob("*.log"))


@pytest.mark.skipif(
    not (shutil.which("openssl") and shutil.which("ssh-keygen")), reason="needs openssl and ssh"
)
def test_a_loopback_deployment_gives_what_one_process_gives(tmp_path, start):
    told = parse(TABLES)
    expected = federate(told, tmp_path / "alone")
    certificates(tmp_path)
    port = free_port()
    link = (
        *("flower-superlink", "--host", "127.0.0.1", "--port", port, "--enable-supernode-auth"),
        *("--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key"),
        *("--ssl-ca-certfile", "ca.crt", "--disable-runtime-dependency-installation"),
    )
    start("link", *link)
    home = tmp_path / "home-cli"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink.edge]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{tmp_path / "ca.crt"}"\n'
    )
    registered = 0
    end = time.monotonic() + 180
    while registered < 2 and time.monotonic() < end:
        made = start("cli", "flwr", "supernode", "register", f"node{registered}.pub", "edge")
        registered += made.wait(180) == 0
    assert registered == 2, logs(tmp_path)

    def node(name, place):
        return start(
            name,
            *("flower-supernode", "--superlink", f"127.0.0.1:{port}"),
            *("--root-certificates", "ca.crt", "--auth-supernode-private-key", name),
            *("--host", "127.0.0.1", "--port", free_port()),
            *("--node-config", f"partition-id={place}"),
        )

    stranger = node("stranger", 1)
    for place in range(2):
        node(f"node{place}", place)
    write_app(told, tmp_path / "app", state=tmp_path / "served", nodes=2, seconds=400)
    run = start("cli", "flwr", "run", "app", "edge", "--stream")
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline and not list((tmp_path / "served").rglob("result.json")):
        time.sleep(1)
    found = list((tmp_path / "served").rglob("result.json"))
    assert found, logs(tmp_path)
    assert read_json(found[0])["rounds"] == expected.document["rounds"]
    ours, theirs = (
        read_tensors(place / "pruned.safetensors")[0]
        for place in (found[0].parent, expected.directory)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert stranger.wait(60) != 0  # its key was never registered
    run.wait(120)
