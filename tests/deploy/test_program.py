"""Programs of torch.export: checked, whole, and loaded where the model's code is not."""

import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn

import prunus.deploy.program as program_module
from prunus import Target, prune
from prunus.deploy import export_program
from prunus.errors import ExportError
from prunus.methods import l1_filter


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.head((x + self.second(x)).mean((2, 3)))


@pytest.fixture
def example():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_pruned_network_runs_in_a_process_without_its_class_at_any_batch(tmp_path, example):
    method = l1_filter(coupled=True, round_to=1)
    small = prune(Residual().double(), example.double(), method=method, target=Target(macs=0.5))
    model = small.model.train()
    path = export_program(model, example.double(), tmp_path / "small.pt2")
    assert model.training and not model.first.weight.is_meta
    x = torch.randn(5, 3, 8, 8).double()
    torch.save([x, model.eval()(x).detach()], tmp_path / "expected.pt")
    script = """
import sys, torch
x, expected = torch.load(sys.argv[2], weights_only=True)
module = torch.export.load(sys.argv[1]).module()
assert torch.allclose(module(x), expected, atol=1e-12)
assert module(x[:1]).shape == (1, 4)
assert "prunus" not in sys.modules
"""
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "expected.pt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_it_says_neither_where_it_was_made_nor_on_what(tmp_path, example):
    with zipfile.ZipFile(export_program(Residual(), example, tmp_path / "m.pt2")) as file:
        held = {name: file.read(name) for name in file.namelist()}
    assert any(name.endswith(".json") for name in held)
    for data in held.values():
        assert __file__.encode() not in data
        assert example.numpy().tobytes()[:64] not in data


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)

    def forward(self, tokens, *, scale, doubled=False):
        x = self.embed(tokens["ids"]).sum(1) * scale
        return {"sum": 2 * x if doubled else x, "best": (x.argmax(1), None)}


def test_keyword_inputs_and_nested_outputs_at_batch_one(tmp_path):
    scale = torch.tensor(2.0)
    example = {"tokens": {"ids": torch.tensor([[1, 2, 3]])}, "scale": scale, "doubled": True}
    model = Nested().bfloat16()
    path = export_program(model, example, tmp_path / "model.pt2")
    more = example | {"tokens": {"ids": torch.arange(9).reshape(3, 3)}}
    got = torch.export.load(path).module()(**more)
    assert torch.equal(got["sum"], model(**more)["sum"]) and got["best"][1] is None


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.reshape(2, 12)


def test_a_fixed_batch_size_is_refused_with_the_way_out_and_then_taken(tmp_path):
    path, example = tmp_path / "model.pt2", torch.randn(2, 3, 4)
    with pytest.raises(ExportError, match="dynamic_batch=False"):
        export_program(FixedBatch(), example, path)
    assert not list(tmp_path.iterdir())
    export_program(FixedBatch(), example, path, dynamic_batch=False)
    assert torch.export.load(path).module()(example).shape == (2, 12)


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "words"),
    [(Branch(), "values of tensors"), (nn.Linear(3, 2), "cannot be run on the example")],
)
def test_what_cannot_be_exported_says_why_and_leaves_the_old_file(tmp_path, model, words):
    path = tmp_path / "model.pt2"
    path.write_text("old")
    with pytest.raises(ExportError, match=words):
        export_program(model, torch.randn(2, 4), path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_program_that_computes_something_else_is_refused(tmp_path, example, monkeypatch):
    honest = torch.export.save

    def faulty(program, file):
        weight = program.state_dict["head.weight"].detach()
        program.state_dict["head.weight"] = nn.Parameter(weight * 1.01)
        honest(program, file)

    monkeypatch.setattr(program_module.torch.export, "save", faulty)
    with pytest.raises(ExportError, match="in the exported program differs from torch by"):
        export_program(Residual(), example, tmp_path / "model.pt2")


def test_another_ending_is_refused(tmp_path, example):
    with pytest.raises(ValueError, match=r"must end in \.pt2, got 'model\.pth'"):
        export_program(Residual(), example, tmp_path / "model.pth")


class Cache:
    """Tensors in an object that torch.export does not know, as decoders return their keys."""

    def __init__(self, keys):
        self.keys = keys


class Decoder(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        return {"logits": y, "cache": Cache(2 * y), "length": 3}


def test_tensors_in_objects_are_returned_alone(tmp_path):
    model, x = Decoder(4, 2), torch.randn(3, 4)
    found = torch.export.load(export_program(model, x, tmp_path / "m.pt2")).module()(x)
    torch.testing.assert_close(found, (model(x)["logits"], 2 * model(x)["logits"]))
