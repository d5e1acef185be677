"""A pruned network comes back from its file in another process, and trains."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import prunus
from prunus import Target, prune
from prunus.errors import CheckpointError
from prunus.methods import l1_filter
from prunus.zoo import network

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return prune(network("resnet20").eval(), X, target=Target(macs=0.6), check=False)


def test_it_comes_back_in_a_fresh_process_and_trains(small, tmp_path):
    prunus.save(small, tmp_path / "small.safetensors")
    torch.save([X, small.model(X).detach()], tmp_path / "expected.pt")
    script = """
import sys, torch, prunus
from prunus.zoo import network
inputs, expected = torch.load(sys.argv[2], weights_only=True)
model = prunus.load(sys.argv[1], network("resnet20").eval())
assert torch.equal(model(inputs), expected)
assert sum(p.numel() for p in model.parameters()) < 260_000
optimizer = torch.optim.SGD(model.train().parameters(), 0.1, momentum=0.9)
before = [p.detach().clone() for p in model.parameters()]
model(inputs).square().mean().backward()
optimizer.step()
assert all((p != b).any() for p, b in zip(model.parameters(), before))
"""
    arguments = [str(tmp_path / "small.safetensors"), str(tmp_path / "expected.pt")]
    environment = {
        "PYTHONPATH": str(Path(prunus.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_result_is_a_network_like_any_other(small, tmp_path):
    prunus.save(small.model, tmp_path / "s")
    dense = network("resnet20").train()
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    loaded = prunus.load(tmp_path / "s", dense)
    assert all(torch.equal(dense.state_dict()[name], value) for name, value in before.items())
    assert loaded.training
    for mine, other in zip(loaded.modules(), small.model.modules(), strict=True):
        if isinstance(mine, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            assert str(mine) == str(other)
    again = prune(loaded, X, target=Target(macs=0.8))
    assert again.report.verification.passed


def shared():
    """A layer used twice and a matrix used twice, after others whose tensors are replaced first."""
    layer = nn.Linear(8, 8)
    front = [nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.ReLU()]
    model = nn.Sequential(*front, layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    model.append(nn.Linear(8, 8, bias=False))
    model[10].weight = model[2].weight
    model[2].weight.requires_grad_(False)
    return model


def test_shared_layers_and_tied_weights_stay_shared(tmp_path):
    model = shared()
    prunus.save(model, tmp_path / "s")
    loaded = prunus.load(tmp_path / "s", shared())
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in model.state_dict().items())
    assert loaded[4] is loaded[6]
    assert loaded[10].weight is loaded[2].weight
    assert not loaded[2].weight.requires_grad and loaded[4].weight.requires_grad


def test_masked_single_weights_keep_their_zeros(tmp_path):
    result = prune(network("lenet300").eval(), torch.randn(1, 1, 28, 28), method="magnitude")
    prunus.save(result, tmp_path / "s")
    loaded = prunus.load(tmp_path / "s", network("lenet300"))
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter != 0, result.model.get_parameter(name) != 0)


def test_a_network_of_another_kind_is_refused(small, tmp_path):
    prunus.save(small, tmp_path / "s")
    with pytest.raises(CheckpointError, match=r"does not fit CifarResNet: \d+ tensors are in only"):
        prunus.load(tmp_path / "s", network("resnet32"))
    narrow = prune(network("resnet20").eval(), X, target=Target(macs=0.35)).model
    with pytest.raises(CheckpointError, match=r"has shape .* cannot have been pruned to"):
        prunus.load(tmp_path / "s", narrow)
    with pytest.raises(CheckpointError, match="cannot have been pruned to"):
        prunus.load(tmp_path / "s", network("resnet20").half())


def says(plan):
    return {"format": "prunus-2", "network": f'{{"plan": {plan}}}'}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, r"was not written by prunus\.save \(format None\); .*zoo\.load_weights"),
        ({"format": "prunus-2"}, "damaged header"),
        (says('{"0": {"__class__": 3}}'), "unknown attribute '__class__' of '0'"),
        (says('{"0": {"out_features": -1}}'), "damaged header"),
        (says('{"0": {"out_features": 1.5}}'), "damaged header"),
        (says("[1]"), "damaged header"),
        (says("[" * 100_000), "damaged header"),
        (says("9" * 10_000), "damaged header"),
        (says('{}, "tied": {"0.weight": "0.bias"}'), "damaged header .tied"),
        (says('{}, "tied": {"1.weight": "none"}'), "damaged header .tied"),
    ],
)
def test_a_foreign_or_tampered_header_is_refused(tmp_path, metadata, message):
    model = nn.Sequential(nn.Linear(2, 2))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "s", metadata)
    with pytest.raises(CheckpointError, match=message):
        prunus.load(tmp_path / "s", model)


class WrittenSizes(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 64, 2)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)).view(-1, 512))


def test_a_rewritten_graph_is_recorded_again(tmp_path):
    x = torch.randn(2, 3, 8, 8)
    result = prune(WrittenSizes(), x, method=l1_filter(round_to=1), target=Target(macs=0.5))
    assert result.report.form == "rewritten graph"
    prunus.save(result, tmp_path / "s")
    with pytest.raises(ValueError, match="pass example="):
        prunus.load(tmp_path / "s", WrittenSizes())

    loaded = prunus.load(tmp_path / "s", WrittenSizes().eval(), x)
    again = prune(result.model, x, method=l1_filter(round_to=1), target=Target(macs=0.8))
    prunus.save(again, tmp_path / "t")

    assert torch.equal(loaded(x), result.model.eval()(x))
    assert torch.equal(prunus.load(tmp_path / "t", WrittenSizes().eval(), x)(x), again.model(x))
    loaded.train()(torch.randn(5, 3, 8, 8)).sum().backward()
    with pytest.raises(CheckpointError, match="that are not there"):
        prunus.load(tmp_path / "s", nn.Sequential(nn.Linear(2, 2)), x)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_recurrent_layers_come_back(tmp_path):
    def build():
        return nn.LSTM(6, 8, proj_size=4)

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.cell, self.out = nn.Linear(3, 6), build(), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.cell(self.first(x))[0])

    x = torch.randn(5, 2, 3)
    result = prune(Last(), x, method=l1_filter(round_to=1), target=Target(sparsity=0.5))
    prunus.save(result, tmp_path / "s")
    loaded = prunus.load(tmp_path / "s", Last())

    assert (loaded.cell.input_size, loaded.cell.hidden_size, loaded.cell.proj_size) == (3, 4, 2)
    assert torch.equal(loaded.eval()(x), result.model.eval()(x))
