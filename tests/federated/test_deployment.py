"""SuperLink, SuperNodes, TLS and node keys on one machine, as docs/how-to/edge.md has them."""

import shutil
import socket
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="needs Flower: pip install '.[fed]'")

import misbehaving
from prunus.errors import TrainingError
from prunus.federated import federate, parse, superlink
from prunus.federated.app import write_app
from prunus.federated.loopback import Loopback, make_key
from prunus.files import read_tensors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("openssl") and shutil.which("ssh-keygen")), reason="needs openssl and ssh"
    ),
]

TABLES = {
    "name": "loopback",
    "model": {"name": "lenet300"},
    "clients": {"data": "fashion-mnist-embedded", "count": 3, "batch_size": 16, "per_round": 3},
    "train": {"length": "3it", "lr": 0.1, "momentum": 0.0, "channels_last": False},
    "rounds": {"total": 10, "evaluate_every": 2, "judged": 0, "evidence": "all"},
    "method": {"name": "prunefl", "begin": "2it", "end": "6it", "every": "2it"},
}


@pytest.fixture(autouse=True)
def tiny_data():
    """The data are the embedded images, as the nodes' own processes see them."""


def left_over(folder):
    """Return the processes that know of a folder by their arguments or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            known = b"".join((process / name).read_bytes() for name in ("cmdline", "environ"))
            if str(folder).encode() + b"/deployed" in known:
                found.append(process.name)
    return found


def same(ours, theirs):
    for name in ("mask", "pruned"):
        a, b = (read_tensors(each.directory / f"{name}.safetensors")[0] for each in (ours, theirs))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@contextmanager
def counting(port):
    """Forward what comes to a port of its own; count the bytes in both directions."""
    counts, ends, threads = Counter(), [], []

    def pump(source, sink, way):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                counts[way] += len(data)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def begin(work, *arguments):
        threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        threads[-1].start()

    def serve():
        with suppress(OSError):
            while True:
                ends.append(near := door.accept()[0])
                ends.append(far := socket.create_connection(("127.0.0.1", port)))
                begin(pump, near, far, "up")
                begin(pump, far, near, "down")

    with socket.create_server(("127.0.0.1", 0)) as door:
        begin(serve)
        yield door.getsockname()[1], counts
        for one in (door, *ends):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        for one in ends:
            one.close()


def test_a_deployment_gives_what_one_process_gives_and_counts_its_bytes(tmp_path):
    told = parse(TABLES)
    expected = federate(told, tmp_path / "alone")
    with Loopback(tmp_path / "deployed", nodes=1) as there, counting(there.port) as (port, counts):
        there.kill("node0")  # it comes again through the counter
        for place in range(3):
            if place:
                make_key(there.folder, f"node{place}")
                key = there.folder / f"node{place}.pub"
                there.programs.call("cli", "flwr", "supernode", "register", key, "link")
            there.start_node(f"node{place}", place, through=port)
        make_key(there.folder, "stranger")  # its key is not registered
        stranger = there.start_node("stranger", 1)
        assert stranger.wait(120) != 0
        there.nodes = 3
        before = Counter(counts)
        found = there.run(told, tmp_path / "served", seconds=300)
        travelled = counts - before
    assert found.document["rounds"] == expected.document["rounds"]
    assert 0.1 < found.document["density"] < 0.9
    same(found, expected)
    print("through the counter", dict(travelled), "by the application", found.document["traffic"])
    for way in ("down", "up"):
        assert travelled[way] == pytest.approx(found.document["traffic"][way], rel=0.1)
    assert not left_over(tmp_path)


def test_a_simulation_gives_what_one_process_gives(tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install '.[fed-sim]'")
    told = parse(TABLES)
    expected = federate(told, tmp_path / "alone")
    found = superlink.simulate(told, tmp_path / "deployed")
    assert found.document["rounds"] == expected.document["rounds"]
    same(found, expected)
    assert not left_over(tmp_path)


def test_a_deployment_survives_what_clients_and_servers_do(tmp_path, monkeypatch):
    told = parse(TABLES | {"rounds": {**TABLES["rounds"], "total": 7}})

    def write_misbehaving(recipe, folder, **given):
        path = write_app(recipe, folder, **given)
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("prunus.federated.client_app:app", "misbehaving:app"))
        shutil.copy(misbehaving.__file__, folder)
        return path

    monkeypatch.setattr(superlink, "write_app", write_misbehaving)
    records, killed, started = {}, [], []

    def tell(record):
        records[record["round"]] = record
        print("round", record["round"], record["averaged"], "of", record["asked"], flush=True)
        if record["round"] == 3 and not killed:
            killed.append("node0")
            there.kill("node0")
            started.append(there.start_node("node0", 0))
        elif started and started[-1].poll() is not None:  # not let in: it passed for present still
            started.append(there.start_node("node0", 0))
        if record["round"] == 5 and len(killed) == 1:
            killed.append("link")
            there.kill("link")

    with Loopback(tmp_path / "deployed") as there:
        with pytest.raises(TrainingError):
            there.run(told, tmp_path / "served", seconds=misbehaving.LATE - 20, tell=tell)
        assert killed == ["node0", "link"] and max(records) >= 5
        before = dict(records)
        there.start_link()
        found = there.run(told, tmp_path / "served", seconds=misbehaving.LATE - 20, tell=tell)
    rounds = found.document["rounds"]
    print("traffic", found.document["traffic"], "starts of the node", len(started))
    assert [record["round"] for record in rounds] == list(range(8))
    assert all(rounds[number] == record for number, record in before.items() if number <= 5)
    averaged = [record["averaged"] for record in rounds]
    assert averaged[1:4] == [1, 2, 3]  # without NaNs and a wrong shape; without the late one; all
    assert min(averaged[4:]) >= 2 and averaged[7] == 3  # the node that was killed is back
    traffic = found.document["traffic"]
    assert traffic["refused"] == {"not finite": 1, "shape": 1} and traffic["lost"] >= 1
    pruned = read_tensors(found.directory / "pruned.safetensors")[0]
    assert all(bool(x.isfinite().all()) for x in pruned.values())
    assert not left_over(tmp_path)
