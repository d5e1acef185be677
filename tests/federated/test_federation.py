"""Whole federations: what one client does, what is lost and found again, what is refused."""

from collections import Counter

import numpy as np
import pytest
import torch

from prunus import Pruner
from prunus.errors import DecisionWarning, TrainingError
from prunus.federated import METHODS, execute, federate
from prunus.federated.client import Client, Memory
from prunus.federated.exchange import InProcess
from prunus.federated.packet import Packet
from prunus.federated.task import Task, data_of, network_of
from prunus.federated.wire import Layout, tensors_of
from prunus.files import read_tensors
from prunus.training import fit


def tensors(finished, name):
    return read_tensors(finished.directory / f"{name}.safetensors")[0]


def same(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("grown", ["zero", "resume"])
def test_one_client_is_local_training_and_pruning_to_the_bit(recipe, tmp_path, grown):
    told = recipe(
        clients={"count": 1, "per_round": 1, "held_out": 0.0},
        train={"length": "1it"},
        rounds={"total": 8, "evidence": "all"},
        method={"name": "prunefl", "begin": "2it", "end": "6it", "every": "2it", "grown": grown},
    )
    found = federate(told, tmp_path)

    task, model = Task.of(told), network_of(told)
    pruner = Pruner(model, task.example, task.method)
    fit(model, data_of(told)["0"], told.train.model_copy(update={"length": "8it"}), hook=pruner)
    result = pruner.finish()

    assert 0.2 < found.document["density"] < 0.9
    same(tensors(found, "mask"), result.mask)
    same(tensors(found, "pruned"), result.model.state_dict())


def test_two_runs_are_identical_and_another_seed_differs(run):
    table = {"rounds": {"total": 4}}
    first, second, other = run("a", **table), run("b", **table), run("c", seed=1, **table)
    assert first.document["rounds"] == second.document["rounds"] != other.document["rounds"]
    same(tensors(first, "pruned"), tensors(second, "pruned"))


class Stopped(BaseException):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("evidence", ["all", pytest.param("last", marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_ends_with_the_same_bits(run, evidence):
    settings = {
        "rounds": {"evidence": evidence, "total": 5},
        "initial": {"rounds": 4, "look": 1, "every": 1},
        "clients": {"dropout": 0.2, "deadline": 100.0, "per_round": 3},
    }
    whole = run("whole", **settings)
    for stop in (0, 3):

        def tell(record, stop=stop):
            if record["round"] == stop:
                raise Stopped

        with pytest.raises(Stopped):
            run(str(stop), tell=tell, **settings)
        again = run(str(stop), **settings)
        assert again.document["rounds"] == whole.document["rounds"]
        assert again.document["traffic"] == whole.document["traffic"]
        same(tensors(again, "pruned"), tensors(whole, "pruned"))
        assert not list(again.directory.glob("*.checkpoint*"))


def test_a_run_that_was_stopped_while_its_page_was_drawn_draws_it_again(run, monkeypatch):
    def stop(document, path):
        raise Stopped

    drawn, table = [], {"rounds": {"total": 1}, "method": {"name": "dense"}}
    monkeypatch.setattr(execute, "write_federation", stop)
    with pytest.raises(Stopped):
        run(**table)
    monkeypatch.setattr(execute, "write_federation", lambda document, path: drawn.append(path))
    run(**table)
    assert len(drawn) == 1


def test_nodes_that_begin_anew_with_a_run_get_the_structure_once(run):
    class Elsewhere(InProcess):
        def state(self):
            return {}

        def load_state(self, state):
            pass

    def stop(record):
        if record["round"] == 3:
            raise Stopped

    def exchange(task):
        return Elsewhere(task, data_of(task.recipe))

    with pytest.raises(Stopped):
        run(exchange=exchange, tell=stop)
    assert run(exchange=exchange).document["traffic"]["structures asked for"] == 0


def test_a_finished_run_has_a_page_and_is_not_repeated(recipe, tmp_path, monkeypatch):
    monkeypatch.undo()  # the page is drawn, and the images are the embedded ones
    told, seen = recipe(rounds={"total": 4}), []
    first = federate(told, tmp_path)
    page = (first.directory / "report.html").read_text(encoding="utf-8")
    assert "Time to accuracy" in page and "Accuracy for each client" in page
    assert federate(told, tmp_path, tell=seen.append).document == first.document
    assert len(seen) == 5 and seen[-1]["accuracy"] == first.document["accuracy"]


class Damaging(InProcess):
    """Clients in this process whose answers are changed on the way."""

    def __init__(self, task, change, forget=()):
        super().__init__(task, data_of(task.recipe))
        self.change, self.forget, self.asked = change, forget, 0

    def ask(self, packets):
        self.asked += 1
        if self.asked in self.forget:
            self.memories.clear()
        found = super().ask(packets)
        return {name: self.change(name, answer) for name, answer in found.items()}


def damaged(name, **change):
    """Change the answers of client `name` to training."""

    def alter(client, answer):
        if client != name or answer.kind != "trained":
            return answer
        parts = {part: make(answer.parts[part]) for part, make in change.get("parts", {}).items()}
        header = {**answer.header, **change.get("header", {})}
        return Packet(header, {**answer.parts, **parts})

    return alter


def with_value(value):
    def put(data):
        values = np.frombuffer(data, "<f4").copy()
        values[7] = value
        return values.tobytes()

    return put


DAMAGE = [
    ({"parts": {"values": with_value(np.nan)}}, "not finite"),
    ({"parts": {"values": with_value(np.inf)}}, "not finite"),
    ({"parts": {"values": with_value(1e9)}}, "norm"),
    ({"parts": {"values": lambda data: data[:-4]}}, "shape"),
    ({"parts": {"values": lambda data: data + data[:4]}}, "shape"),
    ({"header": {"version": 77}}, "version"),
    ({"header": {"precision": "fp16"}}, "dtype"),
    ({"header": {"loss": float("nan")}}, "malformed"),
    ({"header": {"loss": "low"}}, "malformed"),
    ({"header": {"seconds": None}}, "malformed"),
]


def test_bad_updates_are_refused_counted_and_not_averaged(run):
    table = {
        "clients": {"per_round": 3},
        "rounds": {"total": len(DAMAGE), "judged": 0},
        "method": {"name": "random"},
        "target": {"density": 0.5},
    }
    left = [change for change, _ in DAMAGE]

    def alter(client, answer):  # another damage in each round
        wrong = client == "1" and answer.kind == "trained"
        return damaged("1", **left.pop(0))(client, answer) if wrong else answer

    found = run(exchange=lambda task: Damaging(task, alter), **table)
    gone = run("gone", exchange=lambda task: Damaging(task, silent("1")), **table)
    assert found.document["traffic"]["refused"] == Counter(reason for _, reason in DAMAGE)
    assert [r["averaged"] for r in found.document["rounds"]] == [0, *[2] * len(DAMAGE)]
    assert gone.document["traffic"]["lost"] == len(DAMAGE)
    same(tensors(found, "pruned"), tensors(gone, "pruned"))


def silent(name):
    def alter(client, answer):
        return "no answer" if client == name and answer.kind == "trained" else answer

    return alter


def test_negative_squares_and_damaged_sums_are_refused(run):
    left = [with_value(-1.0), lambda data: data[8:], with_value(np.nan)]  # one a reconfiguration

    def alter(client, answer):
        sends = client == "1" and "sums" in answer.parts
        change = {"parts": {"sums": left.pop(0)}} if sends else {}
        return damaged("1", **change)(client, answer)

    table = {"clients": {"per_round": 3}, "rounds": {"total": 3, "judged": 0}}
    method = {"name": "prunefl", "begin": "1it", "end": "3it", "every": "1it"}
    found = run(exchange=lambda task: Damaging(task, alter), method=method, **table)
    refused = found.document["traffic"]["refused"]
    assert refused == {"malformed": 1, "not finite": 1, "shape": 1}


def test_equal_updates_average_to_themselves_to_the_bit(run):
    first = {}

    def alter(client, answer):  # all send what client 0 does
        if answer.kind == "trained":
            first.setdefault(answer.parts["values"], client)
            answer = Packet(answer.header, {"values": next(iter(first))})
            if client == "2":
                first.clear()
        return answer

    def alone(client, answer):
        return "no answer" if client != "0" and answer.kind == "trained" else answer

    table = {"clients": {"per_round": 3}, "rounds": {"total": 3}, "method": {"name": "dense"}}
    found = run("all", exchange=lambda task: Damaging(task, alter), **table)
    one = run("one", exchange=lambda task: Damaging(task, alone), **table)
    same(tensors(found, "pruned"), tensors(one, "pruned"))


def test_a_structure_is_read_once_whoever_gets_it(run, monkeypatch):
    read, mask = [], Layout.mask
    monkeypatch.setattr(
        Layout, "mask", lambda layout, data: read.append(data) or mask(layout, data)
    )
    found = run(clients={"per_round": 3}).document
    assert len(read) == 1 + sum(r["reconfigured"] for r in found["rounds"][1:]) == 3


@pytest.mark.parametrize("header", [{}, {"kind": 5}, {"kind": "evaluated"}])
def test_a_client_that_talks_nonsense_is_refused_in_every_round(run, header):
    def alter(client, answer):
        return Packet(header) if client == "1" and answer.kind != "described" else answer

    table = {"clients": {"per_round": 3}, "rounds": {"total": 2}, "method": {"name": "dense"}}
    found = run(exchange=lambda task: Damaging(task, alter), **table).document
    assert found["traffic"]["refused"] == {"malformed": 2}
    assert found["fairness"]["clients"] == 2


def test_whoever_does_not_say_who_it_is_takes_no_part(run):
    def alter(client, answer):
        return Packet({"kind": "described"}) if client == "1" else answer

    table = {"clients": {"per_round": 3}, "rounds": {"total": 2}, "method": {"name": "dense"}}
    with pytest.warns(UserWarning, match="client 1 takes no part: a packet's 'client' must be str"):
        found = run(exchange=lambda task: Damaging(task, alter), **table).document
    assert [record["asked"] for record in found["rounds"]] == [0, 2, 2]
    assert [record["met"] for record in found["rounds"]] == [2, 2, 2]
    assert found["left out"].keys() == {"1"}


def test_two_clients_of_one_name_are_one_client_and_a_reason(run):
    def alter(client, answer):
        named = Packet({**answer.header, "client": "0"})
        return named if answer.kind == "described" else answer

    table = {"clients": {"per_round": 3}, "rounds": {"total": 1}, "method": {"name": "dense"}}
    with pytest.warns(UserWarning, match="another client is '0' already; give each node a name"):
        found = run(exchange=lambda task: Damaging(task, alter), **table).document
    assert found["left out"].keys() == {"1", "2"} and found["rounds"][-1]["met"] == 1


def test_without_any_good_update_the_network_stays_as_it_is(run, recipe):
    nothing = {"parts": {"values": lambda data: b""}}

    def alter(client, answer):
        return damaged(client, **nothing)(client, answer)

    with pytest.warns(DecisionWarning, match="nothing went"):
        found = run(exchange=lambda task: Damaging(task, alter))
    model = network_of(recipe())
    same(tensors(found, "pruned"), model.state_dict())
    assert found.document["density"] == 1.0


class Silent(InProcess):
    """Clients in this process of which nobody answers in some rounds."""

    def __init__(self, task, rounds):
        super().__init__(task, data_of(task.recipe))
        self.rounds = rounds

    def ask(self, packets):
        found = super().ask(packets)
        silent = {name for name, p in packets.items() if p.header.get("round") in self.rounds}
        return {n: "no answer" if n in silent else answer for n, answer in found.items()}


@pytest.mark.parametrize(("method", "due"), [({"method": {"name": "snip"}}, 1), ({}, 4)])
def test_a_decision_without_updates_is_taken_in_the_next_round_with_some(run, method, due):
    table = method | {"rounds": {"evidence": "all"}, "clients": {"per_round": 3}}

    def exchange(task):
        return Silent(task, {due, due + 1})

    def stop(record):
        if record["round"] == due + 1:
            raise Stopped

    whole = run("whole", exchange=exchange, **table).document["rounds"]
    assert [record["averaged"] for record in whole[due : due + 3]] == [0, 0, 3]
    assert [record["reconfigured"] for record in whole[due : due + 3]] == [False, False, True]
    assert whole[due + 2]["density"] < 1
    with pytest.raises(Stopped):
        run("stopped", exchange=exchange, tell=stop, **table)
    assert run("stopped", exchange=exchange, **table).document["rounds"] == whole


def test_a_client_that_lost_its_mask_asks_for_it_and_nothing_else_changes(run):
    table = {"clients": {"per_round": 3}}
    whole = run("whole", **table)

    def exchange(task):
        return Damaging(task, lambda client, answer: answer, forget=(5,))

    found = run("lost", exchange=exchange, **table)
    assert whole.document["traffic"]["structures asked for"] == 0
    assert found.document["traffic"]["structures asked for"] == 3
    same(tensors(found, "pruned"), tensors(whole, "pruned"))


def test_a_client_whose_training_diverges_is_refused(run):
    table = {"clients": {"per_round": 3}, "rounds": {"total": 2, "judged": 0}}
    found = run(train={"lr": 1e12}, method={"name": "dense"}, **table)
    refused = found.document["traffic"]["refused"]
    assert sum(refused.values()) == 6 and set(refused) <= {"failed", "not finite", "norm"}


def test_a_client_that_fails_leaves_nothing_on_the_network(run):
    tasks = []

    def exchange(task):
        tasks.append(task)
        return InProcess(task, data_of(task.recipe))

    table = {"rounds": {"total": 2, "judged": 0}, "target": {"density": 0.5}}
    found = run(exchange=exchange, train={"lr": 1e30}, method={"name": "random"}, **table)
    assert found.document["traffic"]["refused"]["failed"]
    assert not any(p._post_accumulate_grad_hooks for p in tasks[0].model.parameters())


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"ticket"}))  # of a mask's size
def test_every_method_prunes_a_federation_to_its_target(run, name):
    short = {
        "prunefl": {"begin": "2it", "end": "4it", "every": "2it"},
        "iterative": {"end": "4it", "prunings": 2},
        "online": {"begin": "1it", "end": "4it", "every": "1it"},
        "gradual": {"begin": "1it", "end": "4it", "every": "1it"},
        "filters": {"end": "4it", "every": "2it"},
        "synflow": {"rounds": 3},
    }
    target = {} if name in ("prunefl", "online", "dense") else {"target": {"density": 0.5}}
    found = run(method={"name": name, **short.get(name, {})}, **target).document
    if target:
        assert found["report"]["target"]["reached"] == pytest.approx(0.5, abs=0.01)
    assert found["density"] == 1.0 if name == "dense" else 0 < found["density"] < 1
    verification = found["report"]["verification"]
    assert verification is None or verification["passed"]
    if name == "filters":  # physically gone
        assert found["report"]["form"] == "original classes"


@pytest.mark.parametrize("where", ["client", "server"])
def test_one_party_prunes_first_and_only_a_client_sends(run, where):
    initial = {"where": where, "rounds": 12, "look": 2, "every": 2, "batches": 3}
    found = run(initial=initial, rounds={"total": 5}).document
    first = found["rounds"][0]
    assert 0 < first["initial_rounds"] <= 12 and first["density"] < 1
    assert (first["up"] > 0) == (first["simulated_seconds"] > 0) == (where == "client")


def test_a_first_pruning_that_cannot_be_read_is_said_so(run):
    def alter(client, answer):
        return Packet(answer.header, {}) if answer.kind == "pruned" else answer

    initial = {"rounds": 4, "look": 2, "every": 2, "batches": 3}
    with pytest.raises(TrainingError, match="cannot be read: a packet of kind 'pruned'"):
        run(exchange=lambda task: Damaging(task, alter), initial=initial)


def test_only_the_last_evaluation_is_on_all_of_the_test_split(run):
    table = {"total": 4, "evaluate_every": 2}
    whole = run("whole", rounds=table).document["rounds"]
    found = run("thinned", rounds=table | {"evaluate_one_in": 3}).document["rounds"]
    assert whole[2]["train_loss"] == found[2]["train_loss"] and whole[-1] == found[-1]
    assert whole[2]["loss"] != found[2]["loss"]


def test_what_comes_too_late_is_not_averaged_and_the_clock_stops_at_the_deadline(run):
    # 1.5 s for the bytes, and 0.24 s or 2.4 s to train
    table = {"per_round": 3, "speeds": [1.0, 0.1, 1.0], "deadline": 2.5}
    found = run(clients=table, method={"name": "dense"}, rounds={"total": 4}).document
    assert found["traffic"]["late"] == 4  # the seed deals one client the slow machine
    assert [r["averaged"] for r in found["rounds"][1:]] == [2] * 4
    assert found["simulated_seconds"] == pytest.approx(4 * 2.5)


def test_dropouts_are_counted_and_their_bytes_never_sent(run):
    table = {"per_round": 3, "dropout": 0.5, "deadline": 100.0}
    found = run(clients=table, method={"name": "dense"}).document
    lost = found["traffic"]["lost"]
    assert 0 < lost < 18 and sum(r["averaged"] for r in found["rounds"]) == 18 - lost
    whole = run("whole", clients={"per_round": 3}, method={"name": "dense"}).document
    per = whole["traffic"]["up"] / 18
    assert found["traffic"]["up"] == pytest.approx(per * (18 - lost), rel=1e-3)
    assert found["traffic"]["down"] >= whole["traffic"]["down"]  # they were sent theirs


def test_fewer_weights_fewer_bytes_and_seconds(run):
    dense = run("dense", method={"name": "dense"}).document
    few = run("few", method={"name": "random"}, target={"density": 0.1}).document
    values = 0.1 * 266_200 + 410
    structure = 266_200 * 0.469 / 8  # the entropy of one in ten
    ideal = 6 * 2 * 2 * 4 * values + 3 * structure
    got = few["traffic"]["down"] + few["traffic"]["up"]
    assert (
        0.9 * ideal < got < 1.02 * ideal < 0.2 * (dense["traffic"]["down"] + dense["traffic"]["up"])
    )
    assert few["simulated_seconds"] < 0.5 * dense["simulated_seconds"]


def test_half_precision_halves_the_bytes(run):
    single = run("single", method={"name": "dense"}).document["traffic"]
    half = run("half", method={"name": "dense"}, rounds={"precision": "fp16"}).document["traffic"]
    assert half["up"] == pytest.approx(single["up"] / 2, rel=0.01)


def test_a_share_of_the_evidence_is_enough_to_decide(run):
    table = {"evidence_share": 0.1, "precision": "fp16"}
    found = run(rounds=table).document
    assert 0 < found["density"] < 1


def test_drawing_by_samples_weighs_alike(run):
    table = {"sampling": "samples", "by": "dirichlet", "alpha": 0.3, "per_round": 4}
    found = run(clients=table).document
    assert all(r["asked"] <= 3 for r in found["rounds"]) and found["accuracy"] > 0


def test_learning_rates_fall_with_the_rounds(run):
    seen = []

    def exchange(task):
        carried = Damaging(task, lambda client, answer: answer)
        ask = carried.ask

        def noted(packets):
            seen.extend(p.header["lr"] for p in packets.values() if "lr" in p.header)
            return ask(packets)

        carried.ask = noted
        return carried

    run(exchange=exchange, rounds={"lr_every": 2, "lr_gamma": 0.1}, clients={"per_round": 1})
    assert seen == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_without_clients_there_is_no_federation(run):
    class Empty(InProcess):
        def clients(self):
            return []

    with pytest.raises(TrainingError, match="no client answered"):
        run(exchange=lambda task: Empty(task, data_of(task.recipe)))


def test_what_was_summed_up_before_a_reconfiguration_is_forgotten(recipe):
    told = recipe(rounds={"evidence": "all"})
    task, values = Task.of(told), tensors_of(network_of(told))
    client = Client("0", data_of(told)["0"], task)

    def sums(*rounds):
        memory = Memory()
        for round_, period in rounds:
            header = {"kind": "train", "version": 0, "lr": 0.1, "gathers": True, "sends": False}
            header |= {"round": round_, "period": period}
            layout = task.layout
            parts = {"values": layout.values(values, {}), "structure": layout.structure({})}
            client.answer(Packet(header, parts), memory)
        return memory.sums

    same(sums((1, 0), (2, 1)), sums((2, 1)))
    both, last = sums((1, 1), (2, 1)), sums((2, 1))
    assert all(bool((both[name] > last[name]).any()) for name in last)
