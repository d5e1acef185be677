"""Flower's apps give what the same recipe gives in one process, to the bit, over a local grid."""

import json

import pytest
import torch

pytest.importorskip("flwr", reason="needs Flower: pip install '.[fed]'")

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from prunus.errors import RecipeError, WireError
from prunus.federated import client_app, server_app
from prunus.federated.client import Memory
from prunus.federated.flower import OverGrid, from_records, recall, remember, to_records
from prunus.federated.packet import Packet
from prunus.files import read_json, read_tensors

SETTINGS = {
    "clients": {"per_round": 3},
    "rounds": {"total": 8, "evaluate_every": 2, "evidence": "all"},
}


class LocalGrid(Grid):
    """Delivers messages to the client app in this process, as a SuperLink would to nodes."""

    def __init__(self, recipe, nodes, broken=()):
        self.contexts = {node: self.context(recipe, node, place) for place, node in nodes.items()}
        self.broken, self.replies, self.count, self.pushed = set(broken), {}, 0, 0

    def context(self, recipe, node, place):
        config = {"recipe": recipe}
        return Context(1, node, {"partition-id": place}, RecordDict(), config)

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.contexts)

    def push_messages(self, messages):
        ids = []
        for message in messages:
            assert 0 < message.metadata.ttl < 40_000
            self.count += 1
            message.metadata.__dict__["_message_id"] = str(self.count)
            node = message.metadata.dst_node_id
            if (node, self.count) in self.broken:
                reply = Message(error=Error(code=2, reason="no"), reply_to=message)
            else:
                reply = client_app.app(message, self.contexts[node])
            self.replies[str(self.count)] = reply
            ids.append(str(self.count))
        return ids

    def pull_messages(self, message_ids):
        return [self.replies.pop(key) for key in message_ids if key in self.replies]


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    monkeypatch.setattr(TaskIdentity, "_run_id", 1, raising=False)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1, raising=False)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1, raising=False)
    client_app._task.cache_clear()
    client_app._every.cache_clear()


def serve(grid, recipe, folder):
    config = {"recipe": recipe, "directory": str(folder), "seconds": 60.0, "nodes": 3}
    server_app.app(grid, Context(1, 1, {}, RecordDict(), config))
    (result,) = folder.rglob("result.json")
    return result.parent, read_json(result)


def test_the_apps_give_what_one_process_gives(recipe, run, tmp_path):
    alone = run("alone", **SETTINGS)
    told = recipe(**SETTINGS).model_dump_json(exclude_defaults=True)
    grid = LocalGrid(told, {0: 11, 1: 22, 2: 33})
    directory, found = serve(grid, told, tmp_path / "served")
    assert found["rounds"] == alone.document["rounds"]
    for name in ("mask", "pruned"):
        ours, theirs = (
            read_tensors(place / f"{name}.safetensors")[0] for place in (directory, alone.directory)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_failing_node_is_lost_for_a_round_and_asked_again(recipe, tmp_path):
    told = recipe(**SETTINGS).model_dump_json(exclude_defaults=True)
    # messages 1 to 3 ask who is there; 4, 5 and 6 are the first round
    grid = LocalGrid(told, {0: 11, 1: 22, 2: 33}, broken={(22, 5)})
    _, found = serve(grid, told, tmp_path)
    assert [r["averaged"] for r in found["rounds"]] == [0, 2, 3, 3, 3, 3, 3, 3, 3]
    assert found["traffic"]["lost"] == 1


def test_too_few_nodes_are_said():
    class Few(LocalGrid):
        def __init__(self):
            self.contexts = {11: None}

    with pytest.warns(UserWarning, match="1 of 3 nodes came within 0.1 s"):
        assert OverGrid(Few(), seconds=0.1, least=3).clients() == ["11"]


def test_a_node_that_hangs_is_waited_for_as_long_as_is_asked_of_it():
    def times(over):
        kinds = ("describe", "train", "initial")
        return {kind: over._time_of(Packet({"kind": kind})) for kind in kinds}

    over = OverGrid(None, seconds=600.0, alone=3600.0)
    assert times(over) == {"describe": 600.0, "train": 600.0, "initial": 3600.0}
    over._met = True  # from then on others wait meanwhile
    assert times(over) == {"describe": 60.0, "train": 600.0, "initial": 3600.0}


def test_a_packet_and_a_memory_survive_as_records():
    packet = Packet({"kind": "x", "n": 1, "f": 0.5, "yes": True}, {"a": b"123", "b": bytes(9)})
    assert from_records(to_records(packet)) == packet
    with pytest.raises(WireError, match="header and parts"):
        from_records(RecordDict({"header": ConfigRecord({"kind": "x"})}))
    state = RecordDict()
    assert recall(state) == Memory()
    memory = Memory(7, 2, b"structure", {"w": torch.randn(2, 3)})
    remember(state, memory)
    again = recall(state)
    assert (again.version, again.structure) == (7, b"structure")
    assert torch.equal(again.sums["w"], memory.sums["w"])


@pytest.mark.parametrize(
    "config", [{}, {"client": "nobody"}, {"partition-id": 99}, {"data": "mnist"}]
)
def test_a_node_must_say_whose_data_it_has(recipe, config):
    told = recipe().model_dump_json(exclude_defaults=True)
    chosen = {key: str(value) for key, value in config.items()}
    with pytest.raises(RecipeError, match="a node's configuration must give"):
        client_app._client(told, chosen)
    assert json.loads(told)["name"] == "small"
