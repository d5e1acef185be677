"""A damaged or hostile file of a pruned network is refused by one error."""

import random

import pytest
import torch
from torch import nn

import prunus
from damage import damaged, renumbered
from prunus import Target, prune
from prunus.errors import CheckpointError
from prunus.files import read_tensors, write_tensors
from prunus.methods import l1_filter

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Reshaped(nn.Module):
    """Sizes written in the forward make its pruned form a rewritten graph."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.linear = nn.Linear(8 * 36, 4)

    def forward(self, x):
        return self.linear(self.conv(x).reshape(2, 8, 36).reshape(2, 8 * 36))


def plain():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
    ).eval()


def reshaped():
    torch.manual_seed(0)
    return Reshaped().eval()


@pytest.mark.parametrize(
    "positions", [torch.ones(4, dtype=torch.float64), torch.ones(2, 2).long(), torch.ones(0).long()]
)
def test_positions_that_are_none_are_refused(tmp_path, positions):
    result = prune(reshaped(), X, method=l1_filter(round_to=1), target=Target(macs=0.6))
    prunus.save(result, tmp_path / "s")
    tensors, metadata = read_tensors(tmp_path / "s")
    name = next(name for name in tensors if name.startswith("kept positions"))
    write_tensors(tmp_path / "s", tensors | {name: positions}, metadata)
    with pytest.raises(CheckpointError, match=r"positions of dimension 0 of 'conv.* not there"):
        prunus.load(tmp_path / "s", reshaped(), X)


def mutated(data, rng):
    """Return a safetensors file damaged as it lies, or in its header, whose length stays right."""
    if rng.random() < 0.3:
        return damaged(data, rng)
    end = 8 + int.from_bytes(data[:8], "little")
    header = data[8:end]
    # The plan and the graph are JSON within text: their quotes are escaped.
    header = rng.choice([damaged, renumbered, renumbered])(header, rng)
    return len(header).to_bytes(8, "little") + header + data[end:]


@pytest.mark.parametrize(
    ("build", "first", "count"),
    [
        (plain, 0, 300),
        (reshaped, 0, 30),
        pytest.param(plain, 300, 10_000, marks=pytest.mark.slow),
        pytest.param(reshaped, 30, 1_000, marks=pytest.mark.slow),
    ],
)
def test_mutations_are_refused_or_loaded_but_nothing_else(tmp_path, build, first, count):
    method = l1_filter(round_to=1)
    result = prune(build(), X, method=method, target=Target(macs=0.6), check=False)
    assert result.report.form == ("rewritten graph" if build is reshaped else "original classes")
    path, dense = tmp_path / "small.safetensors", build()
    prunus.save(result, path)
    data, refused = path.read_bytes(), 0
    for seed in range(first, first + count):
        path.write_bytes(mutated(data, random.Random(seed)))
        try:
            prunus.load(path, dense, X)
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error), seed
    assert count / 2 < refused < count
