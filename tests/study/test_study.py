"""Studies of seconds: what is trained, once; what it costs; and the result."""

import csv
import json
import sys

import pytest
from torch import nn

from prunus import zoo
from prunus.cli import main
from prunus.errors import RecipeError
from prunus.files import write_tensors
from prunus.methods import METHODS, l1_filter
from prunus.pruning import prune
from prunus.recovery import scratch_settings
from prunus.run import plan, workshop
from prunus.study import parse_study, study
from prunus.study.measure import known_in_advance
from prunus.training import TrainSettings
from prunus.training.evaluation import Metrics
from tiny import STUDY, build_perplexing_data, build_tiny_data

EVERY = ["pruned", "fine_tuned", "distilled", "scratch_e", "scratch_b", "scratch_b_2x", "random",
         "reinit", "small_dense", "uniform", "guided"]  # fmt: skip

OWN = ("uniform", "guided")  # of widths of their own


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


def rows(studied):
    return {
        (row["method"], str(row["target"] and row["target"]["value"]), row["arm"]): row
        for row in studied.document["rows"]
    }


def table(studied):
    return {key: value for key, value in studied.document.items() if key != "environment"}


def test_what_is_shared_is_trained_once_and_growth_trains_what_is_new(small, tmp_path, trained):
    sizes = {"targets": {"macs": [0.5, 0.3]}, "seeds": 1}

    def counted(**changes):
        trained.clear()
        found = study(small(**changes), tmp_path, workers=1)
        return found, {name: trained.count(name) for name in trained}

    first, new = counted(**sizes)
    assert new == {"dense": 1, "recover": 2, "scratch_e": 2}
    again, new = counted(**sizes)
    assert new == {}
    assert table(again) == table(first)
    assert counted(**sizes, methods=["l1_filter", "fpgm"])[1] == {"recover": 2, "scratch_e": 2}
    assert counted(arms=["fine_tuned", "random"], seeds=1)[1] == {"random": 1}
    assert counted(seeds=2)[1] == {"dense": 1, "recover": 1, "scratch_e": 1}
    assert counted(**sizes)[1] == {}


def test_a_study_killed_at_any_moment_ends_with_the_same_table(
    small, tmp_path, before_step, trained
):
    whole = study(small(), tmp_path / "whole", workers=1)

    def die():
        raise KeyboardInterrupt

    for step in (5, 2, 7, 3):  # of whichever training gets there first
        before_step[step] = die
        with pytest.raises(KeyboardInterrupt):
            study(small(), tmp_path / "killed", workers=1)
        before_step.clear()
    trained.clear()
    again = study(small(), tmp_path / "killed", workers=1)
    assert "dense" not in trained[1:]
    assert table(again) == table(whole)
    for row in again.document["rows"]:
        mean, margin = (100 * row["test"][key] for key in ("mean", "margin"))
        assert f"{mean:.2f} ± {margin:.2f} %" in (again.directory / "study.md").read_text("utf-8")
        latex = (again.directory / "study.tex").read_text("utf-8")
        assert rf"{mean:.2f} $\pm$ {margin:.2f} \%" in latex


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    gradual = {"name": "gradual", "end": "3it", "every": "1it", "targets": {"sparsity": [0.75]}}
    grid = STUDY["study"] | {"methods": ["l1_filter", gradual], "arms": EVERY, "seeds": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "dataset", build_tiny_data)
        return study(
            parse_study(STUDY | {"study": grid}), tmp_path_factory.mktemp("full"), workers=1
        )


def test_every_arm_of_methods_of_every_kind(full):
    found = rows(full)
    assert not any(row["failed"] for row in found.values())
    filters = {arm: found["l1_filter", "0.5", arm] for arm in EVERY}
    weights = {arm: found["gradual", "0.75", arm] for arm in EVERY if arm != "pruned"}
    assert ("gradual", "0.75", "pruned") not in found
    assert any("gradual prunes while it trains" in note for note in full.document["notes"])
    assert filters["small_dense"]["title"] == "equal-size dense, uniform channels"

    # Arms of one pruning have its cost; the equal-size network nearly so.
    dense = full.document["dense"]
    for arms, share in ((filters, 0.5), (weights, 0.25)):
        costs = {
            row["macs"]
            for arm, row in arms.items()
            if arm not in ("small_dense", "distilled", *OWN)
        }
        assert len(costs) == 1
        assert costs.pop() == pytest.approx(share * dense["macs"], rel=0.02)
        for arm in OWN:
            assert arms[arm]["macs"] == pytest.approx(arms["random"]["macs"], rel=0.02)
        assert arms["small_dense"]["macs"] == pytest.approx(arms["random"]["macs"], rel=0.1)
    assert weights["random"]["params"] == weights["fine_tuned"]["params"]

    assert {one["arm"] for one in full.document["layers"]} == {"", *OWN}
    kinds = {one["method"]: one["unit"] for one in full.document["layers"]}
    assert kinds == {"l1_filter": "channels", "gradual": "share of weights"}


def test_budgets_are_counted_with_what_they_rest_on(full):
    found = rows(full)
    dense = full.document["dense"]["macs"]
    step = 50 * 3  # samples of a batch, passes of a sample
    own, total = "own", "total"

    def spent(method, target, arm, part):
        row = found[method, target, arm]
        return row[part]["epochs"] * 8, row[part]["macs"] / step  # eight batches are an epoch

    small = found["l1_filter", "0.5", "fine_tuned"]["macs"]
    assert spent("", "None", "unpruned", total) == pytest.approx((8, 8 * dense))
    assert spent("l1_filter", "0.5", "pruned", own) == (0, 0)
    assert spent("l1_filter", "0.5", "pruned", total) == pytest.approx((8, 8 * dense))
    tuned = ("l1_filter", "0.5", "fine_tuned")
    assert spent(*tuned, own) == pytest.approx((4, 4 * small))
    assert spent(*tuned, total) == pytest.approx((12, 8 * dense + 4 * small))
    taught = spent("l1_filter", "0.5", "distilled", own)
    assert taught == pytest.approx((4, 4 * (small + dense / 3)))
    # Widths given in advance need no trained network; those of gradual pruning are read off one.
    assert spent("l1_filter", "0.5", "scratch_e", total) == pytest.approx((8, 8 * small))
    sparse = found["gradual", "0.75", "scratch_e"]["macs"]
    assert spent("gradual", "0.75", "scratch_e", total) == pytest.approx(
        (8 + 4 + 8, (8 + 4) * dense + 8 * sparse)
    )
    # Equal multiply-accumulates, or twice the epochs where these would be more.
    assert spent("gradual", "0.75", "scratch_b", own) == pytest.approx((32, 32 * sparse))
    assert spent("gradual", "0.75", "scratch_b_2x", own) == pytest.approx((16, 16 * sparse))


def test_a_method_that_prunes_before_training(small, tmp_path):
    grid = {"methods": ["snip"], "targets": {"sparsity": [0.75]}, "seeds": 1}
    arms = ["fine_tuned", "distilled", "scratch_e", "random"]
    found = study(small(**grid, arms=arms), tmp_path, workers=1)
    assert [row["arm"] for row in found.document["rows"]] == [
        "unpruned", "fine_tuned", "scratch_e", "random",
    ]  # fmt: skip
    assert any("no trained network to teach" in note for note in found.document["notes"])
    # As long as another method's network and its fine-tuning together: twelve batches.
    epochs = {row["arm"]: row["total"]["epochs"] * 8 for row in found.document["rows"]}
    assert epochs == {"unpruned": 8, "fine_tuned": 12, "scratch_e": 12, "random": 12}


def test_files_say_the_same(full):
    stored = json.loads((full.directory / "study.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(full.document))
    with (full.directory / "study.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["test"]) for line in lines] == [cell["test"] for cell in stored["cells"]]
    markdown = (full.directory / "study.md").read_text(encoding="utf-8")
    latex = (full.directory / "study.tex").read_text(encoding="utf-8")
    for row in stored["rows"]:
        text = f"{100 * row['test']['mean']:.2f} %"
        assert text in markdown
        assert text.replace("%", r"\%") in latex
    assert r"l1\_filter & MACs 0.5 & fine-tuned" in latex
    assert latex.count(r"\\") == 1 + len(stored["rows"])


def test_networks_are_timed_alone_when_all_is_trained(small, tmp_path, monkeypatch):
    def measured(work, directory, **needed):
        ms = {("dense", "fp32"): 2.0, ("pruned", "fp32"): 0.5, ("pruned", "int8"): 0.1}
        rows = [
            {"network": network, "precision": precision, "latency_ms": {"median": value}}
            for (network, precision), value in ms.items()
        ]
        return {**work.recipe.bench.model_dump(), "runtime": "some 1.0", "delivered": rows}

    monkeypatch.setattr(plan.delivery, "export", lambda work, directory, **needed: {})
    monkeypatch.setattr(plan.delivery, "measure", measured)
    ended = []

    def tell(event, task, words):
        if event in ("done", "failed"):
            ended.append((task.stage, words))

    bench = {"bench": {"rounds": 6, "batch": 2}}
    arms = ["pruned", "scratch_e", "small_dense"]
    found = study(small(other=bench, seeds=2, arms=arms), tmp_path, workers=1, tell=tell)
    assert {stage for stage, _ in ended[:-1]} == {"dense", "prune", "scratch_e", "small_dense",
                                                  "export"}  # fmt: skip
    assert ended[-1] == ("measure", "")
    ms = {row["arm"]: row["ms"] for row in found.document["rows"]}
    assert ms == {"unpruned": 2.0, "pruned": 0.5, "scratch_e": 0.5, "small_dense": None}
    assert "in some 1.0, 1 thread, batch 2, of the network of seed 0" in found.document["timed"]
    assert 'value="ms"' in (found.directory / "report.html").read_text(encoding="utf-8")


def test_one_seed_has_no_intervals_and_says_so(small, tmp_path):
    found = study(small(seeds=1), tmp_path, workers=1)
    assert any("one seed: no intervals" in note for note in found.document["notes"])
    assert all(row["test"]["margin"] is None for row in found.document["rows"])
    assert "one seed, which tells nothing" in found.document["verdicts"]["each"][0]["text"]
    assert "±" not in (found.directory / "study.md").read_text(encoding="utf-8")


def test_one_network_for_all_seeds_has_no_interval_over_them(small, tmp_path):
    weights = tmp_path / "given.safetensors"
    write_tensors(weights, zoo.network("lenet300").state_dict())
    given = {"model": {"name": "lenet300", "weights": str(weights)}, "train": None}
    found = study(small(other=given, arms=["pruned", "fine_tuned"]), tmp_path, workers=1)
    margins = {arm: row["test"]["margin"] for (_, _, arm), row in rows(found).items()}
    assert margins["unpruned"] is margins["pruned"] is None
    assert margins["fine_tuned"] > 0
    assert any("one and the same untrained" in note for note in found.document["notes"])


def test_a_cell_that_fails_leaves_the_others(small, tmp_path):
    found = study(small(targets={"macs": [0.5, 0.0001]}), tmp_path, workers=1)
    row = rows(found)["l1_filter", "0.0001", "scratch_e"]
    assert row["done"] == 0
    assert "TargetError: macs 0.0001 cannot be reached" in row["failed"]
    assert rows(found)["l1_filter", "0.5", "scratch_e"]["done"] == 2
    assert "TargetError" in (found.directory / "report.html").read_text(encoding="utf-8")


def test_what_every_network_would_fail_at_is_refused_before_any_is_trained(
    small, tmp_path, trained, monkeypatch
):
    late = {"methods": [{"name": "gradual", "end": "9it", "every": "1it"}],
            "targets": {"sparsity": [0.5]}, "arms": ["fine_tuned"]}  # fmt: skip
    with pytest.raises(RecipeError, match="end of the method's schedule, 9 steps, got 4it"):
        study(small(**late), tmp_path, workers=1)
    narrow = {"model": {"name": "lenet300", "options": {"classes": 9}}}
    with pytest.raises(RecipeError, match="9 outputs, but tiny has 10 classes"):
        study(small(other=narrow), tmp_path, workers=1)
    recipe = small()
    monkeypatch.setattr(zoo, "dataset", lambda **given: build_tiny_data(**given | {"val_size": 0}))
    with pytest.raises(RecipeError, match=r"tiny has none; set data\.val_size"):
        study(recipe, tmp_path, workers=1)
    assert trained == []
    assert not list(tmp_path.iterdir())


def test_the_shell_says_that_networks_are_missing(small, tmp_path, capsys):
    recipe = tmp_path / "study.toml"
    recipe.write_text(small(targets={"macs": [0.5, 0.0001]}, seeds=1, arms=["pruned"]).to_toml())
    asked = ["study", str(recipe), "--workers", "1", "--dir", str(tmp_path)]
    assert main([*asked, "--set", "study.targets.macs=[0.5]"]) == 0
    assert "missing" not in capsys.readouterr().err
    assert main(asked) == 1
    shown = capsys.readouterr()
    assert "error: 1 of 3 networks are missing, as said beside them" in shown.err
    assert "TargetError" in shown.out


def of_width(width=1.0):
    units = max(1, int(64 * width))
    return nn.Sequential(nn.Flatten(), nn.Linear(784, units), nn.ReLU(), nn.Linear(units, 10))


def test_the_smaller_network_by_its_own_width(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    own = {"model": {"factory": "own_networks:of_width"}}
    found = study(small(other=own, arms=["small_dense"], seeds=1), tmp_path, workers=1)
    row = rows(found)["l1_filter", "0.5", "small_dense"]
    assert row["title"] == "equal-size dense, narrower"
    assert row["macs"] == 32 * 794


class Attending(nn.Module):
    """Every tenth multiply-accumulate is of two activations, which no weight counts."""

    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(1, 16, 4, 4)
        self.mix = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.out = nn.Linear(16, 10)

    def forward(self, images):
        return self.out(self.mix(self.cut(images).flatten(2).transpose(1, 2)).mean(1))


def test_scratch_b_spends_what_the_unpruned_network_did(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_networks", sys.modules[__name__])
    other = {
        "model": {"factory": "own_networks:Attending"},
        "data": {"name": "fashion-mnist-embedded", "batch_size": 4},
        "train": {"length": "100it", "lr": 0.01},
    }
    filters = {"name": "l1_filter", "coupled": True, "round_to": 1, "targets": {"macs": [0.7]}}
    found = rows(
        study(
            small(other=other, methods=[filters], arms=["scratch_b"], seeds=1), tmp_path, workers=1
        )
    )
    spent = found["l1_filter", "0.7", "scratch_b"]["own"]["macs"]
    assert spent == pytest.approx(found["", "None", "unpruned"]["own"]["macs"], rel=0.01)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *(("l1_filter", True), ("thinet", True), ("regression", True)),
        *(("taylor", False), ("slimming", False), ("magnitude", False)),
    ],
)
def test_widths_of_equal_shares_need_no_training_to_be_known(name, known):
    assert known_in_advance(METHODS[name]()) == known


def test_the_papers_own_widths_need_no_training_to_be_known():
    assert known_in_advance(l1_filter(preset="resnet56-a"))


def test_values_that_agree_have_the_spread_of_their_splits_rounding(small, tmp_path, monkeypatch):
    def evaluate(model, data, split="test"):
        return Metrics(loss=1.0, accuracy=0.5, count={"val": 100, "test": 400}[split])

    monkeypatch.setattr(workshop, "evaluate", evaluate)
    row = rows(study(small(arms=["pruned"]), tmp_path, workers=1))["l1_filter", "0.5", "pruned"]
    spread = {split: row[split]["sd"] * 12**0.5 for split in ("val", "test")}
    assert spread == pytest.approx({"val": 1 / 100, "test": 1 / 400})


def test_a_network_whose_perplexity_is_beyond_all_bounds_is_a_failed_one(
    small, tmp_path, monkeypatch
):
    asked = small(seeds=1)
    monkeypatch.setattr(zoo, "dataset", build_perplexing_data)
    monkeypatch.setattr(workshop, "evaluate", lambda *_: Metrics(loss=800, accuracy=0.1, count=9))
    found = study(asked, tmp_path, workers=1)
    assert found.document["rows"]
    for row in found.document["rows"]:
        assert (row["done"], row["failed"]) == (0, "its perplexity is beyond all bounds")


# Multiply-accumulates of the networks and of the papers' prunings, and the authors' epochs.
BUDGETS = [
    (313_201_664, 206_146_048, "243ep", ("121ep", "182ep")),  # VGG-16-A
    (125_485_696, 112_435_840, "178ep", ("89ep", "133ep")),  # ResNet-56-A
    (125_485_696, 90_907_264, "220ep", ("110ep", "165ep")),  # ResNet-56-B
    (252_887_680, 212_779_648, "190ep", ("95ep", "142ep")),  # ResNet-110-A
    (252_887_680, 155_124_352, "260ep", ("130ep", "195ep")),  # ResNet-110-B
]
CIFAR = TrainSettings(
    length="160ep", lr=0.1, schedule="milestones", milestones=("80ep", "120ep"), weight_decay=1e-4
)


@pytest.mark.parametrize(("dense", "pruned", "length", "milestones"), BUDGETS)
def test_scratch_b_trains_for_the_published_epochs(dense, pruned, length, milestones):
    found = scratch_settings(CIFAR, dense, pruned, "B")
    assert (found.length, found.milestones) == (length, milestones)
    capped = f"{min(int(length[:-2]), 200)}ep"
    assert scratch_settings(CIFAR, dense, pruned, "B", cap=1.25).length == capped
    assert scratch_settings(CIFAR, dense, pruned, "E").length == "160ep"


def test_these_are_the_macs_of_the_papers_pruning():
    network = zoo.network("resnet56")
    method = l1_filter(preset="resnet56-b")
    found = prune(network, zoo.example("resnet56")[:1], method=method, check=False)
    assert found.report.costs["macs"] == BUDGETS[2][:2]


def test_a_plan_names_each_stage_before_any_is_done(small, tmp_path):
    member = small().member(small().study.methods[0], None, 0, "scratch_e")
    shared = plan.Plan(member, tmp_path, shared=True)
    assert list(shared.steps)[:4] == ["dense", "prune", "recover", "scratch_e"]
    assert shared.closure("scratch_e") == ["dense", "prune", "scratch_e"]
    assert shared.steps["prune"].recall() is None
    assert not list(tmp_path.iterdir())
