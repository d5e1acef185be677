"""Searches of seconds: what is trained, when the test split is looked at, and what is left."""

import json

import pytest

from prunus import zoo
from prunus.cli import main
from prunus.errors import RecipeError
from prunus.recipe import load
from prunus.run import run, workshop
from prunus.study import tune
from prunus.study.trials import Trials
from prunus.training.evaluation import Metrics
from tiny import build_perplexing_data, build_tiny_data


@pytest.fixture
def trained(monkeypatch):
    """The stages whose training was begun, in order."""
    stages = []

    def fit(*args, **kwargs):
        stages.append(kwargs["name"].partition("-")[0])
        return original(*args, **kwargs)

    original = workshop.fit
    monkeypatch.setattr(workshop, "fit", fit)
    return stages


@pytest.fixture
def looks(monkeypatch):
    """The splits on which networks were evaluated after their training, in order."""
    splits = []

    def evaluate(model, data, split="test"):
        splits.append(split)
        return original(model, data, split)

    original = workshop.evaluate
    monkeypatch.setattr(workshop, "evaluate", evaluate)
    return splits


def table(tuned):
    return {key: value for key, value in tuned.document.items() if key != "environment"}


def test_a_search_trains_each_network_once_and_tests_the_best_alone(
    search, tmp_path, trained, looks
):
    found = tune(search(), tmp_path)
    assert trained == ["dense"] + 3 * ["recover"]
    trials, front = found.document["trials"], found.document["front"]
    assert [trial["state"] for trial in trials] == 3 * ["done"]
    for trial in trials:
        # Filters leave one by one, so that what was asked for is nearly met.
        assert trial["share"]["macs"] == pytest.approx(trial["values"]["target.macs"], abs=0.02)
        assert trial["curve"][-1] == trial["val"]
        assert len(trial["curve"]) == 4
    rivals = [(trial["val"], trial["macs"]) for trial in trials]
    for k, (val, macs) in enumerate(rivals):
        beaten = any(v >= val and m <= macs and (v, m) != (val, macs) for v, m in rivals)
        assert beaten == (k not in [row["number"] for row in front])
    # The unpruned network serves all runs; of the others only the best were looked at.
    assert looks.count("test") == 1 + len(front)
    assert "test" in looks[:2]
    assert looks[-len(front) :] == len(front) * ["test"]
    assert "test" not in {key for trial in trials for key in trial}

    trained.clear()
    assert table(tune(search(), tmp_path)) == table(found)
    more = tune(search(trials=4), tmp_path)
    assert trained == ["recover"]
    assert more.directory == found.directory
    assert more.document["trials"][:3] == trials

    stored = json.loads((more.directory / "tune.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(more.document))
    assert "trial" in (more.directory / "report.html").read_text(encoding="utf-8")

    # The recipe of one of the best gives the same network when it is run.
    files = sorted((more.directory / "front").glob("*.toml"))
    assert [more.directory / row["recipe"] for row in sorted(
        more.document["front"], key=lambda row: str(row["number"])
    )] == files  # fmt: skip
    row = more.document["front"][0]
    recipe = load(more.directory / row["recipe"], ["export.onnx=false"])
    arm = run(recipe, tmp_path).document["arms"][1]
    assert (arm["accuracy"], arm["macs"]) == (row["test"], row["macs"])
    assert trained == 2 * ["recover"]


def test_a_search_killed_at_any_moment_ends_alike(search, tmp_path, before_step, trained):
    whole = tune(search(), tmp_path / "whole")

    def die():
        raise KeyboardInterrupt

    for step in (5, 2, 3):  # of whichever training gets there first
        before_step[step] = die
        with pytest.raises(KeyboardInterrupt):
            tune(search(), tmp_path / "killed")
        before_step.clear()
    again = tune(search(), tmp_path / "killed")
    assert table(again) == table(whole)


def test_what_is_beyond_a_limit_is_not_trained_and_never_best(search, tmp_path, trained):
    sizes = {"search": {"target.macs": [0.3, 0.6, 0.8]}, "trials": 6}
    found = tune(search(objectives=["accuracy"], limits={"macs": 0.5}, **sizes), tmp_path)
    trials = found.document["trials"]
    assert {trial["state"] for trial in trials} == {"done", "refused"}
    for trial in trials:
        assert (trial["state"] == "done") == (trial["values"]["target.macs"] == 0.3)
        assert ("beyond 0.5 before it was trained" in trial["why"]) != trial["within"]
    assert trained == ["dense", "recover"]  # the same network is the same stage
    assert [row["values"]["target.macs"] for row in found.document["front"]] == [0.3]


@pytest.mark.slow
def test_a_limit_that_none_keeps_to_leaves_none(search, tmp_path):
    found = tune(search(objectives=["macs"], limits={"accuracy": 0.99}, trials=2), tmp_path)
    assert found.document["front"] == []
    assert not list((found.directory / "front").glob("*.toml"))
    assert "None came to its end within the limits." in found.document["summary"]
    assert [trial["within"] for trial in found.document["trials"]] == [False, False]
    assert "is beyond 0.99" in found.document["trials"][0]["why"]


def test_a_trial_that_falls_behind_is_stopped_while_it_trains(search, tmp_path, monkeypatch):
    seen = []

    def behind(self, trial, found):
        seen.append((len(self.ended), dict(found)))
        return len(self.ended) == 1 and len(found["curve"]) == 2

    monkeypatch.setattr(Trials, "behind", behind)
    found = tune(search(trials=3), tmp_path)
    trials = found.document["trials"]
    assert [trial["state"] for trial in trials] == ["done", "stopped", "done"]
    assert len(trials[1]["curve"]) == 2
    assert "val" not in trials[1]
    assert trials[1]["why"] == "behind after 2 evaluations"
    assert not list(tmp_path.rglob("*.checkpoint.safetensors"))
    assert all("macs" in one for _, one in seen)  # known before it is trained
    assert [len(one["curve"]) for number, one in seen if number == 0] == [1, 2, 3, 4]


def test_a_trial_that_fails_leaves_the_others(search, tmp_path):
    sizes = {"target.macs": [0.5, 0.0001]}
    found = tune(search(search=sizes, sampler="random", trials=6), tmp_path)
    states = {trial["values"]["target.macs"]: trial["state"] for trial in found.document["trials"]}
    assert states == {0.5: "done", 0.0001: "failed"}
    assert any("TargetError: macs 0.0001 cannot be reached" in n for n in found.document["notes"])


def test_a_trial_whose_perplexity_is_beyond_all_bounds_fails(search, tmp_path, monkeypatch):
    asked = search(objectives=["perplexity"], trials=1)
    monkeypatch.setattr(zoo, "dataset", build_perplexing_data)
    lost = Metrics(loss=800, accuracy=0.1, count=9)
    monkeypatch.setattr("prunus.training.run.evaluate", lambda *_: lost)
    found = tune(asked, tmp_path).document
    assert [trial["state"] for trial in found["trials"]] == ["failed"]
    assert "val_perplexity is beyond all bounds" in found["trials"][0]["why"]


@pytest.mark.slow
def test_what_would_meet_every_trial_ends_the_search_which_then_goes_on(
    search, tmp_path, before_step, trained
):
    def fill_disk():
        raise OSError(28, "No space left on device")

    tune(search(trials=1), tmp_path)
    before_step[2] = fill_disk
    with pytest.raises(OSError, match="No space left"):
        tune(search(trials=2), tmp_path)
    found = tune(search(trials=2), tmp_path)
    assert [trial["state"] for trial in found.document["trials"]] == ["done", "done"]


@pytest.mark.slow
def test_methods_that_prune_while_they_train(search, tmp_path):
    gradual = {"method": {"name": "gradual", "end": "3it", "every": "1it"}}
    sparse = {"target.sparsity": [0.5, 0.75]}
    found = tune(
        search(other=gradual, search=sparse, objectives=["accuracy", "params"], trials=3), tmp_path
    )
    for trial in found.document["trials"]:
        left = 1 - trial["values"]["target.sparsity"]
        assert trial["share"]["params"] == pytest.approx(left, rel=0.02)


@pytest.mark.slow
def test_milliseconds_are_measured(search, tmp_path):
    timed = {"objectives": ["accuracy", "latency_ms"], "trials": 1}
    found = tune(search(other={"bench": {"rounds": 6}}, **timed), tmp_path)
    assert found.document["trials"][0]["latency_ms"] > 0
    assert "latency_ms" in found.document["costs"]
    assert any("measured only at its end" in note for note in found.document["notes"])


def test_no_trial_is_begun_after_the_time(search, tmp_path, trained):
    found = tune(search(minutes=1e-9), tmp_path)
    assert trained == ["dense"]
    assert found.document["trials"] == []
    assert "No trial was begun" in found.document["summary"]


def test_a_metric_that_the_data_do_not_have(search, tmp_path):
    with pytest.raises(RecipeError, match="perplexity is not measured, since the metric of tiny"):
        tune(search(objectives=["perplexity", "macs"]), tmp_path)


def test_data_without_validation_samples(search, tmp_path, monkeypatch):
    found = search()
    monkeypatch.setattr(zoo, "dataset", lambda **o: build_tiny_data(**o | {"val_size": 0}))
    with pytest.raises(RecipeError, match=r"tiny has none; set data\.val_size"):
        tune(found, tmp_path)


@pytest.mark.slow
def test_two_processes_do_not_search_in_one_folder(search, tmp_path, before_step):
    def second():
        with pytest.raises(BlockingIOError, match="another process is at work"):
            tune(search(trials=1), tmp_path)

    before_step[1] = second
    tune(search(trials=1), tmp_path)
    assert not before_step


@pytest.mark.slow
def test_from_the_shell(search, tmp_path, capsys):
    path = tmp_path / "search.toml"
    path.write_text(search().to_toml())
    where = ["--dir", str(tmp_path / "runs")]
    assert main(["tune", str(path), "--trials", "2", *where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["trials"]) == 2
    assert main(["tune", str(path), "--set", "tune.trials=2", *where]) == 0
    shown = capsys.readouterr()
    assert f"{100 * found['front'][0]['test']:.2f} %" in shown.out
    assert "recipes: " in shown.out
    assert main(["tune", str(path), "--set", "tune.search={'target.mac'=[0.5]}"]) == 2
    assert "recipe key 'target.mac' is unknown" in capsys.readouterr().err
    assert main(["run", str(path)]) == 2
    assert "give it to `prunus tune`" in capsys.readouterr().err
