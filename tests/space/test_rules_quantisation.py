"""Fake quantisation: every value is rounded by itself, with the scale of all or of its channel."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.ao import quantization

from labelled import Case, Input, check_brute, few, inputs, row, unnoticed, worked
from prunus.space import trace
from prunus.space.rules import quantisation


def per_tensor(x: Tensor, point: int = 3) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, 0.1, point, -8, 7)


def with_tensors(x: Tensor, point: Any = 3) -> Tensor:
    scale, point = torch.full((1,), 0.1), torch.as_tensor([point])
    return torch.fake_quantize_per_tensor_affine(x, scale, point.int(), -8, 7)


def per_channel(x: Tensor, scale: Tensor, axis: int = 0, point: int = 0) -> Tensor:
    points = torch.full(scale.shape, point, dtype=torch.int32)
    scale = (scale.abs() + 0.1 * (scale == 0)).float()  # a buffer, which keeps what it has
    return torch.fake_quantize_per_channel_affine(x.float(), scale, points, axis, -8, 7)


def fused(x: Tensor, observes: int = 0, axis: int | None = None, point: int = 1) -> Tensor:
    count = 1 if axis is None else x.shape[axis]
    switches = torch.full((1,), observes), torch.ones(1, dtype=torch.long)
    ranges = torch.full((count,), -1.0), torch.full((count,), 1.0)
    steps = torch.full((count,), 0.1), torch.full((count,), point, dtype=torch.int32)
    wanted = (0.01, -8, 7, axis or 0, axis is not None, False)
    return torch.fused_moving_avg_obs_fake_quant(x.float(), *switches, *ranges, *steps, *wanted)


ROWS = [
    row("ab cd ef -> ab cd ef", per_tensor),
    row("ab ~cd -> ab ~cd", per_tensor),
    row("*ab cd -> ~ab ~cd", with_tensors),
    row("ab cd ef -> ab cd ef", with_tensors),
    row("ab ~cd -> ab cd", lambda x: with_tensors(x, 9)),
    row("ab cd ef, ab -> ab cd ef", per_channel),
    row("ab cd ef, cd -> ab cd ef", lambda x, s: per_channel(x, s, 1)),
    row("~ab ~cd, ab -> ~ab ~cd", per_channel),
    row("ab cd ef -> ab cd ef", fused),
    row("ab ~cd ef -> ab ~cd ef", lambda x: fused(x, axis=1)),
    row("2 2 2 -> 2 2 2", lambda x: fused(x, 1)),
    row("2 2 2 -> 2 2 2", lambda x: fused(x, 1, 0)),
]


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(quantisation, ROWS) == set()


@st.composite
def roundings(draw: Callable) -> Case:
    """A fake quantisation of any kind, with zero inside or outside of its range."""
    number = st.integers
    shape = tuple(draw(st.lists(number(1, 4), min_size=2, max_size=3)))
    axis, point = draw(number(0, len(shape) - 1)), draw(number(-8, 9))
    kind = draw(st.sampled_from(["tensor", "channel", "fused", "fused by channel"]))
    x = draw(inputs(shape))
    if kind == "channel":
        return Case(lambda x, s: per_channel(x, s, axis, min(point, 7)), (x, Input((shape[axis],))))
    if kind == "tensor":
        return Case(lambda x: with_tensors(x, point), (x,))
    over = axis if kind == "fused by channel" else None
    return Case(lambda x: fused(x, 0, over, min(point, 7)), (x,))


@few
@given(case=roundings(), seed=st.integers(0, 99))
def test_roundings_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:Please use quant_min")
def test_a_scale_of_each_channel_goes_with_it_and_an_observed_range_stays() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1)).train()
    net.qconfig = quantization.get_default_qat_qconfig("x86")
    quantization.prepare_qat(net, inplace=True)
    x = torch.randn(2, 3, 4, 4)
    net(x)

    observing = trace(net, x)
    net.apply(quantization.disable_observer)
    (group,) = trace(net, x).groups

    assert not observing.groups
    assert "range that is being observed" in observing.frozen[0].reason
    own = "0.weight_fake_quant"
    assert {f"{own}.scale", f"{own}.zero_point"} <= {m.tensor for m in group.members}
