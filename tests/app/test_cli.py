import dataclasses
import json
import logging
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

import prunus
import prunus.deploy
from prunus.cli import main
from prunus.cli.show import told
from prunus.methods import Method
from prunus.methods.composition import QUESTIONS
from prunus.recipe import load
from prunus.zoo import network


def test_help_teaches_with_examples(say):
    code, out, _ = say("--help")
    assert code == 0
    for command in [
        "demo",
        "run",
        "tune",
        "shrink",
        "inspect",
        "export",
        "bench",
        "pack",
        "unpack",
        "report",
        "methods",
    ]:
        assert re.search(rf"^│ {command} ", out, re.MULTILINE)
    assert "prunus run recipe.toml --set target.macs=0.3" in say("run", "--help")[1]


def test_version(say):
    assert say("--version")[:2] == (0, f"{prunus.__version__}\n")


def test_a_reader_that_has_enough_is_no_error():
    command = f"{sys.executable} -m prunus methods sss | head -n 35"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout.count("\n"), done.stderr) == (35, "")


def test_run_prints_json_alone_and_is_found_done_the_second_time(say, tiny):
    code, out, errors = say("run", tiny, "--json", "--set", "target.macs=0.6", "--seed", "3")
    document = json.loads(out)
    assert code == 0
    assert document["target"]["asked"] == 0.6
    assert document["recipe"]["seed"] == 3
    assert [arm["name"] for arm in document["arms"]] == ["dense", "fine-tuned", "not fine-tuned"]
    assert document["verification"]["passed"]
    assert "done before" not in errors
    again = say("run", tiny, "--json", "--set", "target.macs=0.6", "--seed", "3")
    assert json.loads(again[1]) == document
    assert again[2].count("done before") == 4


def test_run_prints_a_table_and_the_report_which_report_draws_again(say, tiny, tmp_path):
    code, out, _ = say("run", tiny)
    assert code == 0
    page = tmp_path / re.search(r"report: (.*)", out)[1]
    first = page.read_text(encoding="utf-8")
    page.unlink()
    code, out, _ = say("report", page.parent)
    assert code == 0
    assert "fine-tuned" in out
    assert page.read_text(encoding="utf-8") == first


def test_shrink_export_and_bench(say, tmp_path):
    code, out, _ = say(
        "shrink", "lenet300", "--target", "macs=0.5", "--out", "small", "--rounds", "6", "--json"
    )
    assert code == 0
    report = json.loads(out)
    assert report["target"]["reached"] == pytest.approx(0.5, abs=0.02)
    assert report["verification"]["passed"]
    small = prunus.load(tmp_path / "small" / "pruned.safetensors")
    params = sum(parameter.numel() for parameter in small.parameters())
    assert params == report["costs"]["params"]["pruned"]
    assert say("export", "lenet300", "dense.onnx")[0] == 0
    small_again = ("--weights", "small/pruned.safetensors")
    assert say("export", "lenet300", "small.pt2", *small_again)[0] == 0
    x = torch.randn(3, 1, 28, 28)
    assert torch.allclose(torch.export.load("small.pt2").module()(x), small.eval()(x), atol=1e-5)
    assert "must end in .onnx or .pt2, got 'dense.pb'" in say("export", "lenet300", "dense.pb")[2]
    assert (tmp_path / "dense.onnx").stat().st_size > 1e6
    exported = say(
        "export", "lenet300", "again.onnx", "--weights", "small/pruned.safetensors", "--json"
    )
    assert json.loads(exported[1])["bytes"] < 0.6 * (tmp_path / "dense.onnx").stat().st_size
    assert [(row["network"], row["precision"]) for row in report["delivered"]] == [
        ("dense", "fp32"), ("dense", "int8"), ("pruned", "fp32"), ("pruned", "int8")
    ]  # fmt: skip
    names = {path.name for path in (tmp_path / "small").glob("*.onnx")}
    assert names == {"dense.onnx", "pruned.onnx"}, "int8 files without data are for timing"
    line = ("bench", "dense.onnx", "small", "--rounds", "6", "--no-memory")
    code, out, _ = say(*line, "--batch", "1", "3", "--precision", "fp32", "int8", "--json")
    assert code == 0
    found = json.loads(out)
    names = ["dense.onnx", "small dense", "small pruned"]
    assert [row["name"] for row in found["rows"]] == 4 * names
    assert [row["batch"] for row in found["rows"]] == 6 * [1] + 6 * [3]
    assert found["rows"][0]["speedup"] is None
    assert found["machine"]["cores"] >= 1
    code, out, _ = say(*line, "--html", "bench.html")
    assert code == 0
    assert "Speed-up" in out
    assert (tmp_path / "bench.html").stat().st_size


@pytest.fixture
def sparse(tmp_path):
    """The network of a run: a mask that multiplied has left -0.0 in half of its places."""
    torch.manual_seed(0)
    model = network("lenet300")
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            weight.mul_(weight.abs() > weight.abs().quantile(0.9))
    path = tmp_path / "run" / "export" / "pruned.safetensors"
    prunus.save(model, path)
    return path


def test_unpack_counts_a_tensor_as_often_as_it_is_named(say, tmp_path):
    one = torch.zeros(1 << 18)
    prunus.deploy.pack({f"n{k}": one for k in range(1100)}, tmp_path / "tied.prunus")
    code, _, errors = say("unpack", "tied.prunus", "out.safetensors", "--limit", "1")
    assert code == 2
    assert "1,153,433,600 bytes" in errors
    assert not (tmp_path / "out.safetensors").exists()


def test_pack_and_unpack_give_back_a_network_to_the_bit(say, sparse, tmp_path):
    code, out, errors = say("pack", sparse, "net.prunus")
    assert code == 0
    assert "of the nonzeros are -0.0, as masks that multiply leave them" in errors
    assert re.search(r"the file +\d+\.\d %", out)
    assert say("unpack", "net.prunus", "back/net.safetensors")[0] == 0
    loaded = prunus.load(tmp_path / "back" / "net.safetensors", network("lenet300"))
    expected = prunus.load(sparse, network("lenet300"))
    for ours, theirs in zip(loaded.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32))


def test_pack_takes_a_run_and_says_what_each_tensor_takes(say, sparse, tmp_path):
    code, out, errors = say("pack", "run", "net.prunus", "--plain-zeros", "--json")
    assert code == 0 and errors == ""
    document = json.loads(out)
    assert document["stored"] == (tmp_path / "net.prunus").stat().st_size
    assert document["dense"] == 4 * document["elements"] > 10 * document["stored"]
    assert document["stored"] < 0.85 * document["bound"]
    exact = {one["name"]: one for one in document["tensors"]}
    assert sum(one["nonzero"] for one in exact.values()) == document["nonzero"]
    again = say("unpack", "net.prunus", "net.safetensors", "--json")
    assert json.loads(again[1]) == document
    smaller = say("pack", sparse, "net.prunus", "--values", "int8", "--json")
    assert json.loads(smaller[1])["stored"] < 0.5 * document["stored"]
    assert smaller[2] == ""


def test_pack_takes_a_folder_of_shrink(say, sparse, tmp_path):
    (tmp_path / "shrunk").mkdir()
    sparse.rename(tmp_path / "shrunk" / "pruned.safetensors")
    assert say("pack", "shrunk", "net.prunus")[0] == 0
    code, _, errors = say("pack", "run", "other.prunus")
    assert (code, "run must be a folder of `prunus run` or" in errors) == (2, True)


def test_inspect_says_what_may_go_and_why_the_rest_may_not(say):
    code, out, _ = say("inspect", "resnet20", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["params"], found["macs"]) == (269_722, 40_551_040)
    groups = {group["name"]: group for group in found["groups"]}
    assert groups["layer1.0.conv1"]["units"] == 16
    assert "layer1.0.conv2" in groups["conv1"]["coupled"]
    assert found["frozen"] == [
        {"name": "linear", "channels": 10, "reason": "is the network's output"}
    ]
    assert groups["layer1.0.conv1"]["unit"] == {"params": 290, "macs": 294_912}
    out = say("inspect", "resnet20")[1]
    assert "layer1.{0-2}.conv1" in out
    assert "layer1.0.conv1" not in out
    assert "is the network's output" in out
    assert "layer1.0.conv1" in say("inspect", "resnet20", "--all")[1]


def test_inspect_writes_a_page_and_what_it_prints_as_json(say, tmp_path):
    code, out, _ = say("inspect", "lenet5", "--json", "--json-file", "a.json", "--html", "a.html")
    assert code == 0
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == out
    assert "<svg" in (tmp_path / "a.html").read_text(encoding="utf-8")
    out = say("inspect", "lenet5", "--html", "a.html")[1]
    assert out.endswith("page: a.html\n")


def test_inspect_measures_how_sensitive_each_layer_is(say, tmp_path):
    arguments = ["--sensitivity", "--data", "fashion-mnist-embedded", "--samples", "150"]
    code, out, _ = say("inspect", "lenet300", *arguments, "--json", "--html", "page.html")
    assert code == 0
    found = json.loads(out)["sensitivity"]
    assert [layer["name"] for layer in found["layers"]] == [
        "fc1.weight",
        "fc2.weight",
        "fc3.weight",
    ]
    assert all(len(layer["values"]) == len(found["sparsities"]) == 10 for layer in found["layers"])
    assert found["dense"] * 150 == pytest.approx(round(found["dense"] * 150))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('<polyline class="course"') == 3
    code, out, _ = say("inspect", "lenet300", *arguments, "--method", "l1_filter")
    assert "Accuracy in % with one layer pruned" in out and " limit " in out


def test_inspect_coverage(say):
    code, out, _ = say("inspect", "lenet300", "--coverage")
    assert code == 0
    # 784 + 1, 1 + 1 and 10 + 10 of 266,610 parameters; 784 + 1 + 10 of 266,200 MACs
    assert re.search(r"parameters +267 k +807 +99\.70 %", out)
    assert re.search(r"MACs +266 k +795 +99\.70 %", out)
    assert re.search(r"is the network's output +1 +10 +10 \(0\.0 %\)", out)
    assert "cost(one unit in every group) / cost(dense)" in out
    assert "cost(one unit in every" in say("inspect", "--help")[1]


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm = nn.Embedding(9, 6), nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, 9)

    def forward(self, x):
        return self.head(self.lstm(self.embed(x))[0])


def words():
    return Words()


def test_a_network_that_reads_tokens(say, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_cli", sys.modules[__name__])
    code, out, _ = say("inspect", "test_cli:words", "--input", "12:below=9", "--json")
    assert code == 0
    groups = {group["name"]: group["units"] for group in json.loads(out)["groups"]}
    assert groups == {"embed": 6, "lstm": 8}


class Compared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other, self.out = nn.Linear(6, 16), nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x, y):
        return self.out((self.one(x) * self.other(y)).relu())


def by_name():
    return Compared(), {"x": torch.randn(1, 6), "y": torch.randn(1, 4)}


def in_order():
    return Compared(), (torch.randn(3, 6), torch.randn(3, 4))


@pytest.mark.parametrize("name", ["by_name", "in_order"])
def test_a_network_that_brings_its_inputs(say, monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, "test_cli", sys.modules[__name__])

    code, out, _ = say("inspect", f"test_cli:{name}", "--json")
    assert code == 0
    assert [group["name"] for group in json.loads(out)["groups"]] == ["one"]
    code, _, errors = say("export", f"test_cli:{name}", "net.onnx")
    assert code == 0, errors
    line = ("shrink", f"test_cli:{name}", "--method", "fpgm", "--target", "params=0.6")
    assert say(*line, "--rounds", "0", "--out", "small")[0] == 0
    assert (tmp_path / "small" / "pruned.onnx").stat().st_size


def test_a_network_of_timm(say):
    pytest.importorskip("timm")
    code, out, _ = say("inspect", "timm:test_resnet", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["model"] == "timm:test_resnet"
    assert found["groups"]
    code, _, errors = say("inspect", "timm:test_resnett")
    assert code == 2
    assert "Did you mean 'test_resnet'" in errors


def test_timm_is_optional(say, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    code, _, errors = say("inspect", "timm:resnet18")
    assert code == 2
    assert "pip install timm" in errors


def test_methods(say):
    code, out, _ = say("methods", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"l1_filter", "magnitude", "gradual"} <= found.keys()
    assert all(one["source"] and one["summary"] for one in found.values())
    assert found["l1_filter"]["arguments"]["min_keep"] == 1
    assert "l1_filter" in say("methods")[1]
    out = say("methods", "gradual")[1]
    assert "1710.01878" in out
    assert "'1000it'" in out
    assert "cubic from 0it to 1000it, every 100it" in " ".join(out.split())


def test_every_method_comes_with_a_recipe_and_an_answer_to_each_question(say, tmp_path):
    for name, one in json.loads(say("methods", "--json")[1]).items():
        (tmp_path / "one.toml").write_text(one["recipe"])
        assert load(tmp_path / "one.toml").method.name == name
        assert list(one["composition"]) == list(QUESTIONS)
    answered = {"name", *(field for names in QUESTIONS.values() for field in names)}
    assert answered == {field.name for field in dataclasses.fields(Method)}


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        raise RuntimeError("the fuse is blown")


def fails():
    return Fails()


def checkpoints(folder):
    state = network("lenet300").state_dict()
    first = next(iter(state))
    torch.save({k: v for k, v in state.items() if k != first}, folder / "missing.pt")
    torch.save({**state, "odd.weight": torch.zeros(1)}, folder / "extra.pt")
    torch.save({"weight": print}, folder / "code.pt")
    (folder / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shrink lenet5 --target sparsity=90", "sparsity must be in [0, 1), got 90. Did you mean"),
        ("shrink lenet5 --target macs=-1", "macs must be in (0, 1], got -1."),
        ("shrink lenet5 --target mac=0.5", "a target must be one of"),
        ("shrink lenet5 --target macs=half", "macs must be a number, as macs=0.5, got 'half'."),
        ("shrink lenet5 --target macs=0.00001", "macs 1e-05 cannot be reached"),
        ("shrink lenet5 --method l2_fitler", "method 'l2_fitler' is unknown"),
        ("shrink lenet5 --input 7,28,28", "lenet5"),
        ("shrink lenet5 --input big", "--input must be sizes with commas, as 3,32,32, or"),
        ("shrink lenet5 --input 1,0,28", "as 128:below=30522, got '1,0,28'."),
        ("inspect lenet5 --input 3:below=0", "as 128:below=30522, got '3:below=0'."),
        ("shrink lenet6", "network 'lenet6' is unknown. Did you mean 'lenet5'"),
        ("shrink test_cli:words", "as --input 3,32,32, or let the function return (model, ex"),
        ("shrink test_cli:fails --input 4", "the fuse is blown"),
        ("shrink test_cli:none --input 4", "has no function 'none'"),
        ("shrink nowhere:none --input 4", "there is no module 'nowhere'"),
        ("inspect lenet300 --sensitivity", "name a dataset, as --data cifar10"),
        ("inspect lenet300 --weights missing.pt", "1 missing: "),
        ("inspect lenet300 --weights extra.pt", "1 unknown: odd.weight"),
        ("inspect lenet300 --weights code.pt", "was refused: unpickling it would call"),
        ("inspect lenet300 --weights cut.safetensors", "it may be truncated"),
        ("inspect lenet300 --weights none.pt", "no file at none.pt"),
        ("run none.toml", "recipe must be a readable TOML file, got 'none.toml'"),
        ("report nowhere", "a finished run's directory has a result.json, nowhere has none"),
        ("bench", "bench needs a network, got none"),
        ("bench none.onnx", "no ONNX file at none.onnx"),
        ("bench .", "must be a folder of `prunus run` or `prunus shrink`"),
        ("bench none.onnx --precision int4", "precision must be one of fp32, bf16, int8, got"),
        ("pack none.safetensors out.prunus", "no file at none.safetensors"),
        ("pack cut.safetensors out.prunus", "it may be truncated"),
        ("pack code.pt out.prunus --values int4", "Invalid value"),
        ("unpack code.pt out.safetensors", "a .prunus file must begin with"),
        ("unpack none.prunus out.safetensors", "no file at none.prunus"),
        ("methods magntude", "Did you mean 'magnitude'?"),
        ("runn x", 'Unknown command "runn". Did you mean "run"?'),
        ("run", "requires an argument"),
        ("run x --bogus", "Unknown option: --bogus"),
    ],
)
def test_bad_input_ends_with_2_and_one_line_that_helps(say, line, said, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_cli", sys.modules[__name__])
    checkpoints(tmp_path)
    code, out, errors = say(*line.split())
    assert code == 2, errors
    assert said.lower() in errors.lower()
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
    assert out == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("method.ratios={fc1=1.0}", "would lose all 300"),
        ("target.macs=0.0001", "cannot be reached"),
        ("model.options={classes=3}", "the network has 3 outputs, but tiny has 10 classes; change"),
        ("model.name=resnet20", "the network does not take the samples (1, 1, 28, 28) of tiny"),
        ("model.weights=none.pt", "model.weights must name a file, got 'none.pt'"),
    ],
)
def test_a_recipe_that_asks_too_much(say, tiny, change, said):
    extra = ["--set", "method.min_keep=0"] if "ratios" in change else []
    code, _, errors = say("run", tiny, "--set", change, *extra)
    assert code == 2
    assert said in errors


def test_debug_shows_where_an_error_came_from(say, monkeypatch):
    monkeypatch.setenv("PRUNUS_DEBUG", "1")
    with pytest.raises(ValueError, match="lenet6"):
        main(["shrink", "lenet6"])


def test_what_is_logged_goes_to_standard_error_while_a_recipe_runs(capsys):
    logger = logging.getLogger("prunus.selectors.policy")
    for shown in (True, False):
        with told(shown=shown):
            logger.info("layer 1 of 2")
        logger.info("later")
        assert capsys.readouterr() == ("", "layer 1 of 2\n" * shown)


def test_shrink_keeps_int8_files_that_data_calibrated(say, tmp_path):
    line = ("shrink", "lenet300", "--target", "macs=0.5", "--rounds", "0", "--out", "small")
    assert say(*line, "--data", "fashion-mnist-embedded", "--json")[0] == 0
    names = {path.name for path in (tmp_path / "small").glob("*.onnx")}
    assert names == {"dense.onnx", "dense-int8.onnx", "pruned.onnx", "pruned-int8.onnx"}
