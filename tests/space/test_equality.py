"""The removed network computes what the masked one did, on networks nobody chose by hand."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from networks import networks
from prunus.space import trace, verify
from prunus.space.shrink import shrink

EXAMPLE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def check(model: nn.Module, seed: int) -> int:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    space = trace(model, EXAMPLE)
    generator = torch.Generator().manual_seed(seed)
    keep = {}
    for group in space.groups:
        kept = torch.rand(group.size, generator=generator) > 0.5
        kept[int(torch.randint(group.size, (1,), generator=generator))] = True
        keep[group.name] = kept

    shrunk = shrink(model, space, keep, EXAMPLE)

    proof = verify(space.mask(keep), shrunk.model, EXAMPLE, model=model)
    assert proof.passed and proof.max_relative_difference <= 1e-10
    widths = space.widths(keep)
    assert round(float(space.params.at(widths))) == sum(
        p.numel() for p in shrunk.model.parameters()
    )
    assert trace(shrunk.model, EXAMPLE).macs.dense == round(float(space.macs.at(widths)))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    return sum(int((~k).sum()) for k in keep.values())


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=networks(), seed=st.integers(0, 1000))
def test_masked_and_shrunk_agree_on_random_networks(model: nn.Module, seed: int) -> None:
    check(model, seed)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(model=networks(), seed=st.integers(0, 1000))
def test_masked_and_shrunk_agree_on_500_random_networks(model: nn.Module, seed: int) -> None:
    check(model, seed)
