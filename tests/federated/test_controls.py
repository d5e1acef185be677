"""What a result is compared with: tickets and their controls, and time as clients measure it."""

import json

import pytest
import torch

from prunus.errors import CheckpointError, TrainingError
from prunus.federated import measuring
from prunus.federated.measuring import fitted, measure, schedule
from prunus.federated.packet import Packet
from prunus.federated.task import Task, data_of, network_of
from prunus.files import read_json, read_tensors, write_tensors


def masks(finished):
    return read_tensors(finished.directory / "mask.safetensors")[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_ticket_has_the_mask_of_another_run_and_its_controls_its_size(run, recipe):
    found = run("found")
    method = {"name": "ticket", "mask": str(found.directory / "mask.safetensors")}
    ticket, again = (run(name, method=method) for name in ("ticket", "again"))
    reinit = run("reinit", method=method, init=7)
    shuffled = run("shuffled", method=method | {"shuffled": True})
    assert same(masks(ticket), masks(found)) and same(masks(reinit), masks(found))
    assert ticket.document["rounds"] == again.document["rounds"]
    assert ticket.document["rounds"] != reinit.document["rounds"]
    for name, kept in masks(found).items():
        other = masks(shuffled)[name]
        assert other.sum() == kept.sum() and (kept.all() or not torch.equal(other, kept))
    first, other = (network_of(recipe(**table)) for table in ({}, {"init": 7}))
    assert not torch.equal(first.state_dict()["fc1.weight"], other.state_dict()["fc1.weight"])
    assert ticket.document["rounds"][0]["density"] == pytest.approx(found.document["density"])


def test_a_mask_of_another_network_is_refused(run, tmp_path):
    path = tmp_path / "mask.safetensors"
    write_tensors(path, {"fc1.weight": torch.ones(3, 3, dtype=torch.bool)})
    with pytest.raises(CheckpointError, match="it is of another network"):
        run(method={"name": "ticket", "mask": str(path)})


def answer(task, seconds):
    """Return what a client would say that takes `seconds(densities)`."""
    rows = schedule(len(task.layers))
    found = {"densities": rows, "seconds": [seconds(row) for row in rows]}
    return Packet({"kind": "measured"}, {"times": json.dumps(found).encode()})


def test_a_time_model_is_that_of_the_median_client(recipe):
    task = Task.of(recipe(time="measured"))
    sizes = [layer.size for layer in task.layers]
    steps, prices = task.local_steps, (3e-6, 2e-6, 1e-6)

    def takes(factor):
        def seconds(row):
            work = sum(p * d * n for p, d, n in zip(prices, row, sizes, strict=True))
            return factor * steps * (0.25 + work)

        return answer(task, seconds)

    found = fitted(task, [takes(1.0), takes(3.0), takes(2.0), takes(0.5), takes(1e4)])
    assert found.constant == pytest.approx(0.5)
    expected = {g.name: 2 * p for g, p in zip(task.layers, prices, strict=True)}
    assert found.compute == pytest.approx(expected)


@pytest.mark.parametrize(
    "times",
    [
        b"",
        b"[]",
        b"{}",
        b'{"seconds": [1, 2], "densities": []}',
        b'{"seconds": "fast"}',
        b"\xff",
        b"[" * 200_000,
        b"[" * 1_200,
        b'{"seconds": [1%s]}' % (b"0" * 400),
    ],
)
def test_a_measurement_that_is_none_is_left_out(recipe, times):
    task = Task.of(recipe(time="measured"))
    bad = Packet({"kind": "measured"}, {"times": times})
    assert fitted(task, [bad, answer(task, lambda row: 1.0 + sum(row))]).constant > 0
    for wrong in (bad, Packet({"kind": "failed"}), answer(task, lambda row: -1.0)):
        with pytest.raises(TrainingError, match="no client has measured its time"):
            fitted(task, [wrong])


def test_without_a_layer_that_saves_time_the_way_out_is_said(recipe):
    task = Task.of(recipe(time="measured"))
    with pytest.raises(TrainingError, match=r"less than 1% of a round .* 'by_macs'"):
        fitted(task, [answer(task, lambda row: 1.0)])


def test_what_a_client_measures_falls_with_the_weights_of_a_large_layer(recipe):
    told = recipe(time="measured")
    task = Task.of(told)
    found = fitted(task, [measure(task, data_of(told)["0"])])
    assert found.compute["fc1.weight"] > 0


def test_a_run_measures_once_and_reckons_with_that(run, monkeypatch):
    table = {"time": "measured", "rounds": {"total": 4}, "method": {"name": "dense"}}
    first = run(**table)
    held = read_json(first.directory / "time.json")
    assert len(held["compute"]) == 3 and held["constant"] > 0
    (first.directory / "result.json").unlink()
    monkeypatch.setattr(measuring, "fitted", lambda *given: pytest.fail("measured again"))
    assert run(**table).document["rounds"] == first.document["rounds"]


@pytest.mark.parametrize(("where", "alone"), [("client", 1), ("server", 0)])
def test_a_client_that_prunes_alone_reckons_with_its_own_time(run, monkeypatch, where, alone):
    seen = []
    monkeypatch.setattr(
        measuring, "_multiplied", lambda task, layer, d, sparse=True: seen.append(d) or 1 + d
    )
    initial = {"rounds": 4, "look": 1, "every": 1, "where": where}
    found = run(time="measured", rounds={"total": 4}, initial=initial)
    rounds = (measuring._REPEATS + 1) * 3 * 3  # of each layer dense, whole and of few weights
    assert len(seen) == rounds * (2 + alone)  # those of a round, and a client alone by itself
    assert found.document["density"] < 1
