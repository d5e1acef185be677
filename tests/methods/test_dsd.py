"""Dense, sparse, dense: what is gone in between, and that it starts afresh."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.errors import RecipeError, TargetError
from prunus.methods import dsd
from prunus.recipe import parse

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


def test_the_smallest_go_for_a_while_and_return_at_zero_with_fresh_momentum():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 6))
    pruner = Pruner(model, X, dsd(share=0.4, begin="3it", end="9it"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    gone = {}
    for step in range(1, 13):
        optimizer.zero_grad()
        (model(X) - X).square().mean().backward()
        optimizer.step()
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        pruner.step(optimizer)
        mask = pruner.mask
        for name in ("0.weight", "2.weight"):
            if step == 3:
                gone[name] = ~mask[name]
                assert int(gone[name].sum()) == 24  # 40 % of each layer's 60
                smallest = before[name].abs()[gone[name]].max()
                assert smallest <= before[name].abs()[~gone[name]].min()
            if 3 <= step < 9:
                assert torch.equal(~mask[name], gone[name])
            if 3 <= step <= 9:
                assert not model.get_parameter(name)[gone[name]].any()
            if step == 9:
                momentum = optimizer.state[model.get_parameter(name)]["momentum_buffer"]
                assert not momentum[gone[name]].any() and momentum[~gone[name]].all()
            if step >= 9:
                assert mask[name].all()
            if step == 12:
                assert model.get_parameter(name)[gone[name]].all()
    result = pruner.finish()
    assert result.report.nonzero == sum(p.numel() for p in model.parameters())
    assert result.report.asked is None and result.report.verification.passed
    assert str(result.report).startswith("dsd: dense again\n")


def test_it_has_no_target():
    with pytest.raises(TargetError, match="'dsd' ends with every weight there again"):
        Pruner(nn.Linear(6, 2), X, dsd(), target=Target(sparsity=0.5))
    tables = {
        "name": "x",
        "model": {"name": "lenet300"},
        "data": {"name": "mnist"},
        "method": {"name": "dsd"},
        "target": {"sparsity": 0.3},
        "train": {"length": "1ep", "lr": 0.1},
        "finetune": {"length": "1ep", "lr": 0.1},
    }
    with pytest.raises(RecipeError, match="leave sparsity out and set the method's own share"):
        parse(tables)


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 30. Did you mean 0.3"):
        dsd(share=30)
