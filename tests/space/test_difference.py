"""How far two outputs are apart: no large entry hides an error, and rounding is none."""

import pytest
import torch
from torch import Tensor

from prunus.space.difference import difference
from prunus.space.inputs import random_inputs


def numbers(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator, dtype=torch.float64)


def filled(values: Tensor, share: float, *fills: float) -> Tensor:
    filled = values.clone()
    for k in range(int(share * len(values))):
        filled[k] = fills[k % len(fills)]
    return filled


LEAST = torch.finfo(torch.float32).min


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 0.998])
@pytest.mark.parametrize(
    "fills", [(-1e4,), (-1e9,), (LEAST,), (-1e9, LEAST), (float("-inf"), -1e9)]
)
def test_values_that_are_filled_in_hide_no_error(share: float, fills: tuple[float, ...]) -> None:
    a = filled(numbers(4000), share, *fills)
    b = a.clone()
    b[-1] += 1e-6
    assert difference([a], [b]) > 1e-8
    assert difference([a], [a * (1 + 1e-15)]) < 1e-13


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 0.998])
def test_values_that_are_added_hide_no_error(share: float) -> None:
    a = numbers(4000)
    a[: int(share * len(a))] -= 1e9
    b = a.clone()
    b[-1] += 1e-3
    assert difference([a], [b]) > 1e-9


def sums(count: int, order: int, scale: Tensor | float = 1.0) -> Tensor:
    """The same sums of 1000 numbers, added up in another order."""
    terms = numbers(1000 * count).view(count, 1000) * scale
    return terms.roll(order, 1).cumsum(1)[:, -1]


def test_rounding_of_sums_is_no_difference() -> None:
    a, b = sums(2000, 0), sums(2000, 7)
    assert not torch.equal(a, b)
    assert difference([a], [b]) < 1e-11
    assert difference([a.float()], [b.float()]) < 1e-5
    for k in (1, 20, 200, 900):  # some sums come out as zero, but for rounding
        a[:k] = numbers(k, 1) * 1e-16
        b[:k] = numbers(k, 2) * 1e-16
        assert difference([a], [b]) < 1e-11


def test_tiny_entries_are_compared_with_their_own_kind() -> None:
    far = 10.0 ** -torch.linspace(0, 250, 2000, dtype=torch.float64)  # as a softmax gives
    assert difference([far], [far * (1 + 1e-13)]) < 1e-12
    assert difference([far], [far.roll(1)]) > 0.1
    assert difference([far * 1e-60], [far * 1e-60 + 5e-324]) < 1e-10


def test_equal_entries_are_compared_with_each_other() -> None:
    a = torch.tensor([0.5, 0.5, 2.0, 2.0], dtype=torch.float64).repeat(10)
    assert difference([a], [a + 1e-9]) > 1e-10
    assert difference([torch.zeros(3)], [torch.zeros(3)]) == 0
    assert difference([torch.zeros(3)], [torch.full((3,), 1e-3)]) > 1e-4


def test_random_inputs_keep_to_the_range_of_the_example():
    example = {"ids": torch.tensor([[3, 5], [4, 9]]), "x": 2 + torch.rand(2, 50), "flag": True}

    same, more = random_inputs(example)

    assert {*same["ids"].flatten().tolist()} <= {3, 4, 5, 9}
    assert more["ids"].shape == (3, 2)
    assert more["ids"].min() >= 3 and more["ids"].max() <= 9
    assert more["x"].min() >= 0 and abs(more["x"].mean() - 2.5) < 0.3
    assert more["flag"] is True
