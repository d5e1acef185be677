"""Row by row, and N of every M."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunus.errors import TargetError
from prunus.selectors import Rows
from prunus.selectors.rows import unfitting
from prunus.space import Structured, Unstructured, trace
from prunus.types import Target


def weights(rows, columns):
    model = nn.Sequential(nn.Linear(columns, rows))
    return Unstructured().groups(trace(model, torch.ones(1, columns)))


@given(st.integers(2, 5), st.integers(2, 9), st.floats(0, 0.99), st.randoms())
def test_every_row_loses_the_same_number_of_its_lowest(rows, columns, share, random):
    groups = weights(rows, columns)
    table = torch.tensor([[random.randint(0, 4) for _ in range(columns)] for _ in range(rows)])
    keep = Rows().select(None, groups, {"0.weight": table.float().ravel()}, Target(sparsity=share))
    kept = keep.keep["0.weight"].reshape(rows, columns)

    assert set(kept.sum(1).tolist()) == {max(1, columns - round(share * columns))}
    for row, stays in zip(table, kept, strict=True):
        assert not (~stays).any() or row[stays].min() >= row[~stays].max()


@pytest.mark.parametrize(("pattern", "count", "of"), [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8)])
def test_n_of_every_m_stay(pattern, count, of):
    groups = weights(3, 16)
    scores = {"0.weight": torch.rand(48, generator=torch.Generator().manual_seed(0))}
    keep = Rows(pattern=pattern).select(None, groups, scores, Target(density=count / of)).keep
    blocks = keep["0.weight"].reshape(-1, of)
    assert (blocks.sum(1) == count).all()
    values = scores["0.weight"].reshape(-1, of)
    assert all(v[k].min() >= v[~k].max() for v, k in zip(values, blocks, strict=True))


def kernels(inputs):
    model = nn.Sequential(nn.Conv2d(inputs, 5, 2))
    return Unstructured().groups(trace(model, torch.ones(1, inputs, 3, 3)))


def test_a_pattern_is_of_adjacent_inputs_at_each_place_of_a_kernel():
    scores = torch.rand(5, 8, 2, 2)
    keep = Rows(pattern="2:4").select(None, kernels(8), {"0.weight": scores.ravel()}, None).keep
    found = keep["0.weight"].reshape(5, 2, 4, 2, 2)
    assert (found.sum(2) == 2).all()
    values = scores.reshape(5, 2, 4, 2, 2)
    kept, gone = values.where(found, 2.0), values.where(~found, -1.0)
    assert (kept.amin(2) >= gone.amax(2)).all()


@pytest.mark.parametrize("groups", [weights(3, 6), kernels(6)])
def test_weights_that_no_pattern_fits_stay_whole(groups):
    scores = {"0.weight": torch.rand(groups[0].size)}
    keep = Rows(pattern="2:4").select(None, groups, scores, None).keep
    assert keep["0.weight"].all()
    (whole,) = unfitting(groups, "2:4")
    assert whole.reason == "has 6 inputs, no multiple of the 4 of the pattern 2:4"


@pytest.mark.parametrize("pattern", ["4:2", "2:2", "half", "2/4", 2])
def test_a_pattern_is_n_of_more(pattern):
    with pytest.raises(ValueError, match="pattern must be 'N:M' with N below M"):
        Rows(pattern=pattern)


def test_what_cannot_be_met_is_said():
    groups, scores = weights(2, 4), {"0.weight": torch.rand(8)}
    with pytest.raises(TargetError, match=r"the pattern 2:4 removes 0\.5 of the weights"):
        Rows(pattern="2:4").select(None, groups, scores, Target(sparsity=0.8))
    with pytest.raises(TargetError, match="macs is a cost of channels"):
        Rows().select(None, groups, scores, Target(macs=0.5))
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    channels = Structured().groups(trace(model, torch.ones(1, 2)))
    with pytest.raises(ValueError, match="rows are of weights, but '0' has channels"):
        Rows().select(None, channels, {"0": torch.rand(3)}, None)
