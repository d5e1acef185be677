"""Workers that are really processes, and really killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from prunus.study import parse_study, study
from prunus.study.cells import cells_of
from prunus.study.schedule import perform
from prunus.study.workers import Processes
from tiny import STUDY

FRAGILE = """
import os, signal
from pathlib import Path
from torch import nn

def build(mark):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
"""


def test_a_killed_worker_is_reported_and_its_cell_done_by_another(tmp_path, monkeypatch):
    (tmp_path / "fragile_network.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    model = {"factory": "fragile_network:build", "options": {"mark": str(tmp_path / "mark")}}
    grid = STUDY["study"] | {"arms": ["fine_tuned"], "seeds": 1}
    told = []
    recipe = parse_study(STUDY | {"model": model, "study": grid})
    tasks = cells_of(recipe, tmp_path / "runs").tasks

    def tell(event, task, words):
        told.append((event, task.stage, words))

    assert perform(tasks, Processes(tmp_path / "runs", 1, threads=1), tell) == {}
    assert ("died", "dense", "its process was ended by SIGKILL") in told
    assert [event for event, stage, _ in told if stage == "dense"] == [
        "waiting", "begun", "died", "begun", "done",
    ]  # fmt: skip
    assert all(task.step.recall() for task in tasks.values())


def test_a_worker_that_dies_before_it_reads_its_task_is_replaced(tmp_path):
    recipe = parse_study(STUDY | {"study": STUDY["study"] | {"arms": ["fine_tuned"], "seeds": 1}})
    key, task = next(iter(cells_of(recipe, tmp_path).tasks.items()))
    workers = Processes(tmp_path, 1, threads=1)
    try:
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGSTOP)
            workers.give(key, task)
            child.kill()
        (ended,) = workers.wait()
        assert (ended.key, ended.died) == (key, True)
        assert ended.error == "its process was ended by SIGKILL"
        assert workers.free() == 1
    finally:
        workers.close()


def test_workers_must_be_at_least_one(tables, tmp_path):
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        study(parse_study(tables()), tmp_path, workers=0)


DRIVER = """
import sys
from prunus.study import load, study
if __name__ == "__main__":
    study(load(sys.argv[1]), sys.argv[2], workers=2)
"""


@pytest.mark.slow
def test_a_study_whose_driver_is_killed_at_random_ends_with_the_same_table(tmp_path):
    import random

    grid = {
        "methods": ["l1_filter", "fpgm", {"name": "taylor", "round_to": 8}],
        "targets": {"macs": [0.5, 0.3]},
        "seeds": 3,
        "arms": ["pruned", "fine_tuned", "scratch_e", "random", "small_dense"],
    }
    recipe = tmp_path / "study.toml"
    recipe.write_text(parse_study(STUDY | {"study": grid}).to_toml())
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)

    def start(root):
        return subprocess.Popen([sys.executable, str(driver), str(recipe), str(tmp_path / root)])

    begin = time.monotonic()
    assert start("whole").wait() == 0
    duration = time.monotonic() - begin
    moments = random.Random(0)
    for _ in range(5):
        process = start("killed")
        try:
            process.wait(moments.uniform(0.15, 0.35) * duration)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    assert start("killed").wait() == 0
    for name in ("study.csv", "study.md", "study.tex"):
        whole, killed = (tmp_path / root / "small" / name for root in ("whole", "killed"))
        assert whole.read_bytes() == killed.read_bytes()
    assert not list((tmp_path / "killed").rglob(".*.tmp"))


@pytest.mark.slow
def test_a_dask_cluster_with_a_killed_worker(tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install .[study]")
    recipe = parse_study(STUDY | {"study": STUDY["study"] | {"arms": ["fine_tuned"]}})
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        killed = []

        def tell(event, task, words):
            if event == "done" and task.stage == "dense" and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        found = study(recipe, tmp_path, cluster=cluster.scheduler_address, tell=tell)
    assert killed
    assert [row["done"] for row in found.document["rows"]] == [2, 2]
