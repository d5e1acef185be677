"""Tensors made inside forward: filled ones take the size they meet, ordered ones have one."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from labelled import Case, check_brute, few, inputs, row, traced, unnoticed, worked
from prunus.space.rules import constant

FILLED = {
    "empty": lambda n: torch.empty(n).fill_(2.0),
    "zeros": torch.zeros,
    "ones": torch.ones,
    "full": lambda n: torch.full((n,), 0.5),
}
NEW = {
    "new_zeros": lambda x, n: x.new_zeros(n),
    "new_ones": lambda x, n: x.new_ones(n),
    "new_full": lambda x, n: x.new_full((n,), 0.5),
    "new_empty": lambda x, n: x.new_empty(n).fill_(1.0),
    "new_empty_strided": lambda x, n: x.new_empty_strided((n,), (1,)).fill_(1.0),
    "empty_strided": lambda x, n: torch.empty_strided((n,), (1,)).fill_(1.0),
}
LIKE = (torch.zeros_like, torch.ones_like, lambda x: torch.full_like(x, 0.5),
        lambda x: torch.empty_like(x).fill_(1.0), lambda x: 0 * torch.rand_like(x),
        lambda x: 0 * torch.randn_like(x))  # fmt: skip
ORDERED = {
    "arange": lambda n: torch.arange(n),
    "linspace": lambda n: torch.linspace(0, 1, n),
    "eye": lambda n: torch.eye(n)[0],
    "tensor": lambda n: torch.tensor([0.5] * n),
    "rand": lambda n: 0 * torch.rand(n),
    "randn": lambda n: 0 * torch.randn(n),
    "randint": lambda n: 0 * torch.randint(4, (n,)),
}

ROWS = [
    *(row(f"ab cd -> ab {'~' * (name == 'zeros')}cd",
          lambda x, make=make: x * make(x.shape[1])) for name, make in FILLED.items()),
    *(row(f"ab cd -> ab {'~' * (name == 'new_zeros')}cd",
          lambda x, make=make: x * make(x, x.shape[1])) for name, make in NEW.items()),
    *(row("ab cd -> ab cd, ab cd", lambda x, like=like: (x, like(x))) for like in LIKE),
    *(row("ab 3 -> ab 3", lambda x, make=make: x * make(3)) for make in ORDERED.values()),
    row("ab cd -> ab cd", lambda x: x * torch.scalar_tensor(2.0)),
    row("ab cd -> ab cd", lambda x: torch.ops.aten.lift_fresh_copy(torch.tensor(2.0)) * x),
    row("ab cd -> ab cdefg", lambda x: torch.cat([x, torch.zeros(len(x), 3)], 1), sized=True),
    row("ab 2, !5 -> ab 5", lambda x, y: torch.cat([x, torch.zeros(len(x), 3)], 1) + y, sized=True),
]  # fmt: skip


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(constant, ROWS) <= {*constant.FILLED, "lift_fresh_copy"}  # new labels anyway


def test_a_filled_tensor_that_is_written_into_takes_the_labels_of_what_is_written() -> None:
    def run(x: Tensor, y: Tensor) -> Tensor:
        out = x.new_zeros(x.shape[0], x.shape[1] + y.shape[1])
        out[:, : x.shape[1]] = x
        out[:, x.shape[1] :] = y
        return out

    case = row("ab cd, ab efg -> ab cdefg", run)

    assert worked(case) == case.expected
    assert check_brute(case) > 0
    assert not traced(case).zero[0]


@st.composite
def made(draw: Callable) -> Case:
    """A tensor made to the sizes of another, in some of its last dimensions, or written down."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    ahead = draw(st.integers(0, len(shape)))
    makers = [torch.zeros, torch.ones, lambda *n: torch.full(n, 0.5)]
    maker = draw(st.sampled_from(makers))
    written = draw(st.booleans())

    def run(x: Tensor, *others: Tensor) -> Tensor:
        sizes = shape[ahead:] if written else x.shape[ahead:]
        found = x * maker(*sizes) if sizes else x * 1
        for other in others:
            found = found + other
        return found

    others = (draw(inputs(shape)),) * draw(st.integers(0, 1))
    return Case(run, (draw(inputs(shape, or_parameter=False)), *others), sized=written)


@few
@given(case=made(), seed=st.integers(0, 99))
def test_made_tensors_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)
