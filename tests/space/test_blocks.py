"""Blocks of adjacent output channels by one input as the unit of weight pruning."""

import pytest
import torch
from torch import nn

from prunus import Target, methods, prune
from prunus.space import Unstructured, trace
from prunus.space.unit_groups import WeightGroup


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)
    )


X = torch.ones(1, 3, 6, 6)


def groups(network, unit):
    return Unstructured(unit=unit).groups(trace(network, X))


def test_the_largest_mean_of_adjacent_rows_stays_by_hand():
    layer = nn.Linear(2, 4, bias=False)
    weight = torch.tensor([[1.0, 4.0], [2.0, 0.0], [5.0, 0.5], [0.0, 0.5]])
    layer.weight.data.copy_(weight)  # means of two rows: 1.5, 2.0 and below 2.5, 0.5
    method = methods.magnitude(unit="2x1")
    mask = prune(layer, torch.ones(1, 2), method=method, target=Target(sparsity=0.5)).mask
    assert mask["weight"].tolist() == [[False, True], [False, True], [True, False], [True, False]]


def test_blocks_are_as_high_as_divides_the_outputs(network):
    assert [g.entries for g in groups(network, "4x1")] == [4, 2]
    assert [g.entries for g in groups(network, "16x1")] == [4, 2]
    assert [g.entries for g in groups(network, "weight")] == [1, 1]


def test_what_is_gathered_is_what_is_masked(network):
    for group in groups(network, "4x1"):
        assert isinstance(group, WeightGroup)
        values = torch.randn(group.weight.shape)
        keep = torch.rand(group.size) < 0.3
        assert group.gather({group.name: values}).shape == (group.size, group.entries)
        entries = group.gather({group.name: values * group.expand(keep)})
        assert torch.equal((entries != 0).all(dim=1), keep)
        assert torch.equal((entries != 0).any(dim=1), keep)
        scaled = {group.name: values.clone()}
        group.scale(scaled, keep.float())
        assert torch.equal(scaled[group.name], values * group.expand(keep))


@pytest.mark.parametrize("unit", ["2x1", "4x1", "8x1", "16x1"])
def test_zeros_come_in_whole_blocks(network, unit):
    result = prune(network, X, method=methods.magnitude(unit=unit), target=Target(sparsity=0.75))
    weight = result.model[0].weight
    height = min(int(unit[:-2]), 4)
    blocks = (weight != 0).reshape(12 // height, height, -1)
    assert torch.equal(blocks.any(dim=1), blocks.all(dim=1))
    assert float((weight == 0).float().mean()) > 0.5


def test_the_entries_of_an_embedding_are_single():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(8, 4)
            self.out = nn.Linear(4, 8)

        def forward(self, x):
            return self.out(self.words(x))

    space = trace(Reader(), torch.zeros(1, 2).long())
    blocks = Unstructured(unit="4x1", embeddings=True)
    assert [g.entries for g in blocks.groups(space)] == [1, 4]
    assert blocks.mask(space, {"words.weight": torch.ones(32).bool()})["words.weight"].all()


def test_other_units_are_refused():
    with pytest.raises(ValueError, match=r"unit must be one of 'weight', .*'16x1', got '3x1'"):
        Unstructured(unit="3x1")
