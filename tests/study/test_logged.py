"""A study that is logged: a run per network, and one for the report."""

import pytest

from prunus.study import study
from remembered import Memory


def test_each_network_is_a_run_of_its_own_once(small, tmp_path):
    memory = Memory()
    done = study(small(seeds=1), tmp_path, workers=1, sinks=[memory])
    study(small(seeds=1), tmp_path, workers=1, sinks=[memory])
    found = {one.tracked.name: one for one in memory.runs.values()}
    assert sorted(found) == [
        "l1_filter macs 0.5 fine-tuned seed 0",
        "l1_filter macs 0.5 pruned only seed 0",
        "l1_filter macs 0.5 scratch-E seed 0",
        "study",
        "unpruned seed 0",
    ]
    assert len(memory.runs) == len(found)
    tuned = found["l1_filter macs 0.5 fine-tuned seed 0"]
    (cell,) = (cell for cell in done.document["cells"] if cell["arm"] == "fine_tuned")
    assert tuned.curves("final/test") == [(0, cell["test"])]
    assert tuned.curves("final/macs") == [(0, cell["macs"])]
    assert [step for step, _ in tuned.curves("training/train_loss")] == [4]
    assert tuned.tracked.parameters == {
        "method": "l1_filter", "target": "macs 0.5", "arm": "fine-tuned", "seed": "0",
    }  # fmt: skip
    assert {one.tracked.group for one in memory.runs.values()} == {"small"}
    assert found["study"].pages == 2 * [done.directory / "report.html"]


def test_several_processes_of_torchrun_are_refused(small, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="start it without torchrun"):
        study(small(), tmp_path)
    assert not list(tmp_path.iterdir())
