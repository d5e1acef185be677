import os
import pickle

import pytest
import torch
from torch import nn

from prunus import zoo
from prunus.errors import CheckpointError
from prunus.files import write_tensors


def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


@pytest.fixture
def source():
    torch.manual_seed(1)
    model = net()
    model(torch.randn(4, 1, 4, 4))
    return model.state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".th"])
def test_loads_what_was_saved(tmp_path, source, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        write_tensors(path, source)
    else:
        torch.save(source, path)
    model = net()
    zoo.load_weights(model, path)
    assert same(model.state_dict(), source)


def test_unwraps_state_dict_and_the_prefix_of_data_parallel(tmp_path, source):
    path = tmp_path / "old.th"
    wrapped = {f"module.{name}": tensor for name, tensor in source.items()}
    del wrapped["module.1.num_batches_tracked"]  # as before PyTorch 0.4.1
    torch.save({"state_dict": wrapped, "best_prec1": 91.7}, path)
    model = net()
    zoo.load_weights(model, path)
    expected = dict(source) | {"1.num_batches_tracked": torch.tensor(0)}
    assert same(model.state_dict(), expected)


def test_every_misfit_is_named_and_the_model_left_alone(tmp_path, source):
    path = tmp_path / "weights.pt"
    del source["3.bias"]
    source["4.weight"] = torch.zeros(1)
    source["3.weight"] = torch.zeros(5, 8)
    torch.save(source, path)
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        zoo.load_weights(model, path)
    message = str(caught.value)
    assert "1 missing: 3.bias" in message
    assert "1 unknown: 4.weight" in message
    assert "3.weight is (5, 8), the model's (3, 8)" in message
    assert same(model.state_dict(), before)


def test_long_lists_of_misfits_are_cut(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"30 missing: .* and 25 more"):
        zoo.load_weights(nn.ModuleList([nn.Linear(1, 1) for _ in range(15)]), path)


class RunsACommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, source, form):
    proof, path = tmp_path / "proof", tmp_path / "weights.pt"
    evil = {"state_dict": dict(source) | {"x": RunsACommand(f"touch {proof}")}}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps({"x": RunsACommand(f"touch {proof}")}, protocol=2))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        CheckpointError, match=r"refused: unpickling it would call .*system"
    ) as caught:
        zoo.load_weights(net(), path)
    assert "weights_only" not in str(caught.value)
    assert not proof.exists()


def test_a_pickled_model_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(net(), path)
    with pytest.raises(CheckpointError, match="refused"):
        zoo.load_weights(net(), path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".th"])
@pytest.mark.parametrize("keep", [0.0, 0.05, 0.5, 0.95])
def test_truncated_files(tmp_path, source, suffix, keep):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        write_tensors(path, source)
    else:
        torch.save(source, path, _use_new_zipfile_serialization=suffix == ".pt")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(CheckpointError, match="may be truncated"):
        zoo.load_weights(net(), path)


def test_other_contents(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(CheckpointError, match=r"must hold a state dict.*got list"):
        zoo.load_weights(net(), path)
    torch.save({"epoch": 3, "net": {"a": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="not tensors: epoch, net"):
        zoo.load_weights(net(), path)
    with pytest.raises(FileNotFoundError, match="no file"):
        zoo.load_weights(net(), tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError, match="no file"):
        zoo.load_weights(net(), tmp_path / "none.safetensors")
