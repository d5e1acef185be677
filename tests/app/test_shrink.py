"""`prunus shrink` with arguments and data, what is refused at once, and what is drawn meanwhile."""

import json

import pytest

import prunus.cli.delivery
import prunus.cli.networks
from prunus.cli.show import print_table
from prunus.methods import METHODS, Method
from prunus.recipe import chosen_method
from prunus.zoo import network

DATA = ("--data", "fashion-mnist-embedded")


@pytest.fixture
def report(say, monkeypatch):
    """Shrink a network, without the ONNX files; return the report."""
    monkeypatch.setattr(prunus.cli.delivery, "deliver", lambda *_: {"not_exported": ""})

    def shrunk(*arguments):
        code, out, errors = say("shrink", "lenet300", "--out", "small", "--json", *arguments)
        assert code == 0, errors
        return json.loads(out)

    return shrunk


def test_a_method_takes_its_arguments(report):
    skipped = report("--set", "round_to=1", "--set", "skip=['fc1']", "--target", "macs=0.99")
    assert {group["name"]: group["after"] for group in skipped["groups"]}["fc1"] == 300
    made = chosen_method("thinet", ["samples=3", "ratios.fc1=0.5", "skip=['a']"])
    assert made == METHODS["thinet"](samples=3, ratios={"fc1": 0.5}, skip=("a",))
    assert isinstance(chosen_method("lottery"), Method)


@pytest.mark.parametrize("method", ["thinet", "taylor", "wanda", "sparsegpt"])
def test_methods_that_look_at_data_take_a_dataset(report, method):
    found = report("--method", method, *DATA)
    assert found["target"]["reached"] == pytest.approx(0.5, abs=0.03)
    assert found["verification"]["passed"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--method taylor", "on the command line, --data NAME"),
        ("--method gate", "shrink does not train; give a recipe to `prunus run`"),
        ("--method taylor --data minst", "dataset 'minst' is unknown. Did you mean 'mnist'"),
        ("--method taylor --data folder:none", "none"),
        ("--method thinet --set sample=5", "has no 'sample'. Did you mean 'samples'"),
        ("--method thinet --set samples=few", "'samples' must be a whole number, got 'few'"),
        ("--method thinet --set samples=0", "samples must be at least 1, got 0"),
        ("--method thinet --set skip=fc1", "'skip' must be a list, got 'fc1'"),
        ("--method thinet --set samples", "--set must be"),
    ],
)
def test_what_a_method_cannot_take_is_refused(say, line, said):
    code, out, errors = say("shrink", "lenet300", *line.split())
    assert (code, out) == (2, "")
    assert said in errors


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--sensitivity", "name a dataset, as --data cifar10"),
        ("--data mnist", "--data is for --sensitivity"),
        ("--sensitivity --data minst", "dataset 'minst' is unknown"),
        ("--sensitivity --data mnist --samples 0", "samples must be at least 1"),
        ("--sensitivity --data mnist --method gate", "has no criterion to rank units by"),
    ],
)
def test_a_scan_that_cannot_be_is_refused_before_the_network_is_built(say, monkeypatch, line, said):
    monkeypatch.setattr(prunus.cli.networks, "build", None)
    code, _, errors = say("inspect", "resnet20", *line.split())
    assert code == 2
    assert said in errors


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--runtime onxruntime", "onnxruntime"),
        ("--rounds 3", "rounds must be 0 (no timing) or at"),
        ("--precision int8", "got int8 with none; leave it out: every precision is timed"),
        ("--precision int8 --target macs=0.5", "got int8 with macs=0.5"),
    ],
)
def test_a_timing_that_cannot_be_is_refused_before_the_network_is_built(
    say, monkeypatch, line, said
):
    monkeypatch.setattr(prunus.cli.networks, "build", None)
    code, _, errors = say("shrink", "lenet300", *line.split())
    assert code == 2
    assert said in errors


def test_tables_fit_into_80_columns(say, tmp_path):
    code, out, _ = say("methods")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for name in METHODS:
        assert f" {name} " in out
    out = say("methods", "thinet")[1]
    assert max(len(line) for line in out.partition("A recipe")[0].splitlines()) <= 80
    assert "Outputs of the next layer that are drawn of each sample." in " ".join(out.split())
    prunus.save(network("lenet300"), tmp_path / "net.safetensors")
    code, out, _ = say("pack", "net.safetensors", "net.prunus")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert all(f"fc{k}.weight" in out for k in (1, 2, 3))


def test_cells_that_are_short_stay_whole_and_the_others_are_folded(capsys):
    name = "features.denseblock4.denselayer16.norm2.weight"
    numbers = ("90.0 %", "1,234 kB", "123.4 kB", "124.5 kB", "10.2x", "1.2 %")
    headings = ("tensor", "zeros", "dense", "bound", "stored", "smaller", "over bound")
    print_table("Sizes", headings, [(name, *numbers)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(all(number in line for number in numbers) for line in lines)
    assert name in "".join(line.split()[0] for line in lines if line.strip())


def test_every_argument_is_explained(say):
    for name, one in json.loads(say("methods", "--json")[1]).items():
        for key in one["arguments"]:
            assert f"\n    {key}: " in one["documentation"], (name, key)
        assert one["removes"] in ("weights", "channels", "branches")
        assert one["when"] in ("once", "at the start", "in training")


OWN = """
import torch
from torch import nn

class LastStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(6, 16), nn.Linear(16, 3)

    def forward(self, x, state=None):
        return self.last(self.lstm(x, state)[0][-1])

def steps():
    return LastStep(), torch.randn(7, 2, 6)

class Total(LastStep):
    def forward(self, x):
        return super().forward(x).sum()

def total():
    return Total(), torch.randn(7, 2, 6)

def states():
    return LastStep(), (torch.randn(7, 2, 6), (torch.zeros(1, 2, 16), torch.zeros(1, 2, 16)))

def images():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2)), torch.randn(4, 3, 3, 3)

class Branches(LastStep):
    def forward(self, x):
        return super().forward(x if x.sum() > -1e9 else -x)

def branches():
    return Branches(), torch.randn(7, 2, 6)

def vector():
    return nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 2)), torch.randn(6)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "prunus_own_rows.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("steps", 7 * 2 * 4 * 16 * (6 + 16) + 2 * 16 * 3),  # rows are steps, all of which count
        ("states", 7 * 2 * 4 * 16 * (6 + 16) + 2 * 16 * 3),
        ("total", 7 * 2 * 4 * 16 * (6 + 16) + 2 * 16 * 3),  # nothing tells rows apart
        ("images", 3 * 9 * 8 + 8 * 2),  # one sample of four
        ("vector", 6 * 16 + 16 * 2),
    ],
)
def test_an_example_of_ones_own_is_cut_only_where_its_rows_are_samples(say, own, name, macs):
    code, out, said = say("inspect", f"prunus_own_rows:{name}", "--json")
    assert (code, said) == (0, "")
    assert json.loads(out)["macs"] == macs


SHRINK = ("--target", "macs=0.5", "--rounds", "6", "--set", "round_to=1", "--json")


@pytest.mark.parametrize(("name", "rows", "fixed"), [("images", 1, False), ("steps", 7, True)])
def test_rows_that_are_no_samples_are_exported_and_timed_whole(say, own, name, rows, fixed):
    code, out, errors = say("shrink", f"prunus_own_rows:{name}", *SHRINK, "--out", "small")
    assert code == 0, errors
    found = json.loads(out)
    assert found["latency"]["batch"] == rows
    assert {row["network"] for row in found["delivered"]} == {"dense", "pruned"}
    assert bool(found["fixed_batch"]) == fixed
    assert not found["not_exported"]


def test_a_time_of_rows_that_are_no_samples_is_that_of_all(say, own):
    code, _, errors = say("shrink", "prunus_own_rows:steps", "--target", "speedup=1.5")
    assert code == 2
    assert "got --batch 1, give --batch 7" in errors


def test_states_beside_rows_that_are_no_samples_run_in_pytorch_whole(say, own):
    line = "prunus_own_rows:states --runtime torch --method magnitude --target sparsity=0.5 --json"
    code, out, errors = say("shrink", *line.split(), "--rounds", "6", "--out", "small")
    assert code == 0, errors
    assert json.loads(out)["latency"]["batch"] == 7


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch-compile"])
def test_what_onnx_cannot_hold_is_written_but_for_its_files(say, own, tmp_path, runtime):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "pruned.onnx").write_text("of an earlier run")
    line = ("prunus_own_rows:branches", "--runtime", runtime, *SHRINK, "--out", "small")
    code, out, errors = say("shrink", *line)
    assert code == 1
    assert "all but the ONNX files was written to small: Branches" in errors
    written = {path.name for path in (tmp_path / "small").iterdir()}
    assert written == {"pruned.safetensors", "mask.safetensors", "report.json"}
    assert json.loads(out)["delivered"] == []
