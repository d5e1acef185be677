"""The removed network computes what the masked one did, on networks nobody chose by hand."""

from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from comparison import difference, same, state, tensors_in
from networks import networks, sized
from prunus.errors import EquivalenceError
from prunus.space import Space, trace
from prunus.space.shrink import shrink
from prunus.types import Keep

EXAMPLE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

REFUSED = 0.05
"""Share of networks that may be refused: a refusal is no wrong result, but no result either."""

UNCOUNTED = (nn.RNNBase, nn.Bilinear)
"""Layers of which PyTorch's counter sees no multiplication."""


def check(model: nn.Module, seed: int) -> str:
    """Remove random units of every group, compare, and say what came of it."""
    example, before = EXAMPLE.clone(), state(model)
    space = trace(model, example)
    keep = decision(space, seed)
    outcome = removed(model, space, keep, example)
    assert same(before, state(model))
    assert torch.equal(example, EXAMPLE)
    return outcome


def decision(space: Space, seed: int) -> Keep:
    generator = torch.Generator().manual_seed(seed)
    keep = {}
    for group in space.groups:
        keep[group.name] = torch.rand(group.size, generator=generator) > 0.5
        keep[group.name][int(torch.randint(group.size, (1,), generator=generator))] = True
    return keep


def removed(model: nn.Module, space: Space, keep: Keep, example: torch.Tensor) -> str:
    try:  # what Prunus compares itself is needed only where the user's class may run wrongly
        small = shrink(model, space, keep, example, check=sized(model)).model
    except EquivalenceError:
        return "refused"

    assert difference(model, small, space.mask(keep), example) <= 1e-9
    assert small.state_dict().keys() == model.state_dict().keys()
    widths = space.widths(keep)
    assert sum(p.numel() for p in small.parameters()) == round(float(space.params.at(widths)))
    if counted(model) and not space.unknown and widths.min() > 1:  # einsum sums one product itself
        assert macs(small, example) == round(float(space.macs.at(widths)))
    loss = sum(x.square().sum() for x in tensors_in(small.train()(example)))
    loss.backward()
    assert all(p.grad is None or p.grad.shape == p.shape for p in small.parameters())
    assert any(p.grad is not None for p in small.parameters())
    return "removed" if any(not kept.all() for kept in keep.values()) else "nothing to remove"


def counted(model: nn.Module) -> bool:
    return not any(isinstance(module, UNCOUNTED) for module in model.modules())


def macs(model: nn.Module, example: torch.Tensor) -> int:
    """Count with PyTorch's own counter."""
    with FlopCounterMode(display=False) as counter:
        model.eval()(example)
    return int(counter.get_total_flops()) // 2


def run(examples: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(model=networks(), seed=st.integers(0, 1000))
    def each(model: nn.Module, seed: int) -> None:
        outcomes[check(model, seed)] += 1

    each()
    return outcomes


def test_masked_and_shrunk_agree_on_random_networks() -> None:
    outcomes = run(60)

    assert outcomes["refused"] < REFUSED * outcomes.total()
    assert outcomes["removed"] > outcomes.total() / 2


@pytest.mark.slow
def test_masked_and_shrunk_agree_on_2000_random_networks() -> None:
    outcomes = run(2000)

    assert outcomes["refused"] < REFUSED * outcomes.total()
    assert outcomes["removed"] > outcomes.total() / 2
