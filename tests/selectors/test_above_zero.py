"""What training has brought to zero goes, or as much as a target asks for."""

import torch
from torch import nn

from prunus.selectors import AboveZero, TopK
from prunus.space import Structured, trace
from prunus.types import Target


def chain():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    space = trace(model, torch.ones(1, 2))
    return space, Structured().groups(space)


SCORES = {"0": torch.tensor([0.0, 0.3, -0.1, 1e-9]), "2": torch.tensor([-2.0, -1.0, 0.0])}


def test_without_a_target_what_is_above_zero_stays_and_a_layer_keeps_its_largest():
    keep = AboveZero().select(*chain(), SCORES, None).keep
    assert keep["0"].tolist() == [False, True, False, True]
    assert keep["2"].tolist() == [False, False, True]
    keep = AboveZero(TopK(min_keep=3)).select(*chain(), SCORES, None).keep
    assert keep["0"].tolist() == [True, True, False, True] and keep["2"].all()


def test_a_target_is_met_by_rank():
    space, groups = chain()
    target = Target(sparsity=3 / 7)
    keep = AboveZero(TopK(scope="global")).select(space, groups, SCORES, target).keep
    assert keep["0"].tolist() == [True, True, False, True]
    assert keep["2"].tolist() == [False, False, True]
