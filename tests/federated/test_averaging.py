"""The arithmetic of a round against numbers worked by hand, and what one client must not do."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from prunus.errors import RecipeError
from prunus.federated.arrival import Inspector, Refused, Update, outweighing
from prunus.federated.client import Client, Memory
from prunus.federated.conditions import Conditions
from prunus.federated.exchange import InProcess
from prunus.federated.federation import Server
from prunus.federated.packet import Packet
from prunus.federated.sums import sealed, unsealed
from prunus.federated.task import Task, data_of, network_of
from prunus.federated.wire import Layout, tensors_of
from prunus.pruning import Pruner
from prunus.selectors import TimeModel
from prunus.space import Unstructured, trace
from prunus.training import ArrayData


class Altering(InProcess):
    """Clients in this process whose answers are changed on the way."""

    def __init__(self, task, change):
        super().__init__(task, data_of(task.recipe))
        self.change = change

    def ask(self, packets):
        return {name: self.change(name, answer) for name, answer in super().ask(packets).items()}


def asked(task, mask=None, **header):
    """A packet that asks for a round of training."""
    layout, values = task.layout, tensors_of(network_of(task.recipe))
    header = {"lr": 0.1, "round": 1, "version": 0, "period": 0, "gathers": False, **header}
    parts = {"values": layout.values(values, mask or {}), "structure": layout.structure(mask or {})}
    return Packet({"kind": "train", "sends": False, **header}, parts)


def server_of(task, exchange=None):
    model = network_of(task.recipe)
    pruner = Pruner(model, task.example, task.method)
    conditions = Conditions(task.recipe.clients, {}, 0)
    return Server(
        task, model, pruner, exchange or InProcess(task, data_of(task.recipe)), conditions
    )


def test_updates_weigh_by_samples(recipe):
    clients = {"count": 3, "per_round": 3, "by": "dirichlet", "alpha": 0.5}
    told = recipe(clients=clients, method={"name": "dense"}, rounds={"norm_bound": 1e9})
    task = Task.of(told)
    sent = {"0": 1.0, "1": 2.0, "2": 6.0}

    def constant(client, answer):
        if answer.kind != "trained":
            return answer
        count = len(answer.parts["values"]) // 4
        return Packet(answer.header, {"values": np.full(count, sent[client], "<f4").tobytes()})

    server = server_of(task, Altering(task, constant))
    samples = {name: len(data.train_labels) for name, data in data_of(told).items()}
    for name, count in samples.items():
        server.meet(name, name, count)
    server.advance()

    assert len(set(samples.values())) > 1
    mean = sum(samples[name] * value for name, value in sent.items()) / sum(samples.values())
    found = torch.cat([x.reshape(-1) for x in tensors_of(server.model).values()])
    torch.testing.assert_close(found, torch.full_like(found, mean))


def test_clients_drawn_by_samples_weigh_by_how_often(recipe):
    table = recipe(clients={"sampling": "samples", "per_round": 2}).clients
    conditions = Conditions(table, {"few": 10, "many": 30}, 0)
    drawn = Counter()
    for round_ in range(1, 501):
        weights = conditions.participants(round_)
        assert sum(weights.values()) == 2 and all(w == int(w) > 0 for w in weights.values())
        drawn.update(weights)
    assert drawn["many"] / drawn["few"] == pytest.approx(3, rel=0.15)


def test_a_client_sends_the_square_of_its_summed_gradients_times_samples(recipe):
    told = recipe(train={"length": "2it", "lr": 0.1, "momentum": 0.0})
    task = Task.of(told)
    samples = torch.randint(256, (30, 1, 28, 28), dtype=torch.uint8), torch.arange(30) % 10
    sizes = {"batch_size": 30, "val_size": 0, "seed": 0}
    data = ArrayData("few", samples, samples, 10, (0.5,), (0.3,), **sizes)
    answer = Client("0", data, task).answer(
        asked(task, gathers=True, sends=True, lr=1e-12), Memory()
    )
    found = unsealed(answer, task.sums)

    model = network_of(told)  # the weights hardly move, so both steps have one gradient
    inputs, targets = next(iter(data.eval_batches("train")))
    functional.cross_entropy(model(inputs), targets.long()).backward()
    for name, parameter in model.named_parameters():
        expected = (2 * parameter.grad).square() * 60
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-9)


def test_summing_up_changes_nothing_of_the_training(recipe):
    told = recipe(train={"length": "3it", "lr": 0.1, "momentum": 0.0, "clip_norm": 0.05})
    task = Task.of(told)
    mask = {layer.name: torch.rand(task.layout.shapes[layer.name]) < 0.3 for layer in task.layers}
    client = Client("0", data_of(told)["0"], task)
    plain, gathering = (
        client.answer(asked(task, mask, gathers=gathers), Memory()) for gathers in (False, True)
    )
    assert plain.parts["values"] == gathering.parts["values"]


class Counting(nn.Module):
    """Its batch norm averages over all batches that it has counted."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1, momentum=None)
        self.fc = nn.Linear(784, 10)

    def forward(self, x):
        return self.fc(self.norm(x).flatten(1))


def test_no_client_counts_what_another_has_trained(recipe):
    told = recipe(method={"name": "dense"})
    task = Task(told, Counting(), torch.randn(1, 1, 28, 28))
    layout, own = task.layout, tensors_of(task.model)
    values = {"values": layout.values(own, {}), "structure": layout.structure({})}
    packet = Packet(asked(Task.of(told)).header, values)
    client = Client("0", data_of(told)["0"], task)
    first, second = (client.answer(packet, Memory()).parts["values"] for _ in range(2))
    assert first == second


def test_no_number_of_a_client_breaks_a_run(run):
    def alter(client, answer):
        change = {"evaluated": {"accuracy": 1e200}, "trained": {"train_loss": 0.0, "loss": 1.7e308}}
        if client != "0" or answer.kind not in change:
            return answer
        return Packet({**answer.header, **change[answer.kind]}, answer.parts)

    table = {"clients": {"per_round": 3}, "rounds": {"total": 3}, "method": {"name": "dense"}}
    found = run(exchange=lambda task: Altering(task, alter), **table).document
    assert found["traffic"]["refused"] == {"not finite": 3}
    assert found["fairness"]["clients"] == 2


def test_sums_out_of_all_proportion_do_not_decide(run):
    def alter(client, answer):
        if client != "0" or "sums" not in answer.parts:
            return answer
        sums = np.frombuffer(answer.parts["sums"], "<f4").copy()
        sums[:100] += 1e6
        return Packet(answer.header, {**answer.parts, "sums": sums.tobytes()})

    found = run(
        "bad", exchange=lambda task: Altering(task, alter), clients={"per_round": 3}
    ).document
    assert found["traffic"]["refused"] == {"evidence": 2}  # of two decisions
    assert [r["averaged"] for r in found["rounds"][1:]] == [3] * 6  # its weights count
    alone = {"0": Update(torch.ones(1), 0.0, 0.0, {"w": torch.full((2,), 1e9)})}
    two = alone | {"1": Update(torch.ones(1), 0.0, 0.0, {"w": torch.ones(2)})}
    assert not outweighing(alone) and not outweighing(two) and not outweighing({})


SCALARS = st.sampled_from(
    [True, 0, -1, 2**63 - 1, 0.5, -3.0, 1e200, float("nan"), float("inf"), "", "fp16", "trained"]
)
KEYS = st.sampled_from(["kind", "version", "precision", "loss", "seconds"])
PARTS = st.sampled_from(["values", "sums", "sums.structure", "sums.largest"])


@settings(max_examples=300)
@given(
    st.dictionaries(KEYS, SCALARS),
    st.dictionaries(PARTS, st.binary(max_size=64)),
    st.lists(st.tuples(st.integers(0, 59), st.integers(0, 255)), max_size=4),
    st.floats(0.1, 1.0),
)
def test_no_answer_is_taken_in_that_is_not_finite(header, parts, flips, share):
    net = nn.Linear(4, 3)
    layout = Layout.of(net, ["weight"])
    layout_of_sums = Layout.of_sums(net, layout.masked)
    mask = {"weight": torch.arange(12).view(3, 4) % 2 == 0}
    own = tensors_of(net)
    values = bytearray(layout.values(own, mask))
    for place, byte in flips:
        values[place % len(values)] = byte
    sent = {"kind": "trained", "version": 3, "precision": "fp32", "loss": 0.1, "seconds": 1.0}
    sums = sealed({name: x.square() for name, x in own.items()}, layout_of_sums, mask, share=share)
    packet = Packet({**sent, **header}, {"values": bytes(values), **sums, **parts})
    inspector = Inspector(layout, mask, 3, layout.flat(own, mask), "fp32", 10.0, layout_of_sums)
    try:
        update = inspector.opened(packet)
    except Refused as refused:
        assert str(refused)
        return
    for tensor in (update.values, *update.gathered.values()):
        assert (3 * tensor).isfinite().all()
    assert 3 * max(abs(update.loss), abs(update.seconds)) < 1e31


def test_gradients_of_masked_weights_take_their_time():
    net = nn.Sequential(nn.Linear(4, 3, bias=False))
    groups = Unstructured().groups(trace(net, torch.randn(1, 4)))
    model = TimeModel(constant=1.0, compute={"0.weight": 0.5}, steps=2)
    assert model.training_seconds(groups, [6]) == 2 * (1 + 0.5 * 6)
    assert model.training_seconds(groups, [6], dense_gradients=True) == 2 * (1 + 0.5 * (6 + 6 / 3))
    assert model.training_seconds(groups, [12], dense_gradients=True) == 2 * (1 + 0.5 * 12)


@pytest.mark.parametrize("grown", ["zero", "resume"])
def test_what_one_party_prunes_alone_travels_both_ways_on_the_clock(recipe, grown):
    method = {"name": "prunefl", "begin": "2it", "end": "4it", "every": "2it", "grown": grown}
    task = Task.of(recipe(method=method))
    server = server_of(task)
    first = {name: x.clone() for name, x in tensors_of(server.model).items()}
    for name, data in data_of(task.recipe).items():
        server.meet(name, name, len(data.train_labels))
    mask = {layer.name: torch.rand(task.layout.shapes[layer.name]) < 0.5 for layer in task.layers}
    layout = task.layout
    parts = {"structure": layout.structure(mask), "values": layout.values(first, mask)}
    header = {"kind": "pruned", "version": 0, "precision": "fp32", "loss": 0.0, "seconds": 1.0}
    answer = Packet({**header, "model_seconds": 3.0, "rounds": 2}, parts)

    assert server.start_from(answer, "0", sent=8_000_000) == 2

    per_byte = task.time.communication / 8
    assert server.simulated == pytest.approx(3 + per_byte * (8_000_000 + answer.size))
    assert (server.traffic.down, server.traffic.up) == (8_000_000, answer.size)
    server.pruner.adopt(layout.whole())
    own, name = tensors_of(server.model), task.layers[0].name
    back = first[name][~mask[name]] if grown == "resume" else torch.zeros(int((~mask[name]).sum()))
    assert torch.equal(own[name][~mask[name]], back)


def test_evidence_of_all_rounds_needs_all_clients(run):
    with pytest.raises(
        RecipeError, match=r"'all' needs every client .* got 2 of 3 .*per_round = 3"
    ):
        run(rounds={"evidence": "all"})
    with pytest.raises(RecipeError, match="dropout needs a deadline"):
        run(clients={"dropout": 0.1})


@pytest.mark.gpu
def test_sums_of_a_gpu_travel(run):
    assert run().document["density"] < 1
