"""Results written into a tensor that is given for them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from labelled import Case, Input, check_brute, few, inputs, row, worked


def empty(*sizes: int) -> Tensor:
    return torch.empty(sizes, dtype=torch.float64)


def zeros(x: Tensor) -> Tensor:
    return torch.zeros(x.shape, dtype=x.dtype)


def into(place: Tensor, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
    """Return what the tensor holds after it was given as `out`."""
    run(*args, **kwargs, out=place)
    return place


def side_by_side(x: Tensor, *weights: Tensor) -> Tensor:
    """Return products written into parts of one tensor."""
    made, start = empty(len(x), sum(w.shape[1] for w in weights)), 0
    for w in weights:
        torch.mm(x, w, out=made[:, start : start + w.shape[1]])
        start += w.shape[1]
    return made


ROWS = [
    row("ab cd, ab cd -> ab cd", lambda x, y: torch.add(x, y, out=empty(0))),
    row("ab cd, ab cd -> ab cd", lambda x, y: torch.add(x, y, out=torch.empty_like(x))),
    row("ab cd, ab cd -> ab cd", lambda x, y: into(empty(*x.shape), torch.add, x, y)),
    row("ab cd, ab cd -> ab cd", lambda x, y: torch.mul(x, y, out=zeros(x))),
    row("ab ~cd, ab ~cd -> ab cd", lambda x, y: torch.add(x, y, out=zeros(x))),
    row("ab cd -> ab cd", lambda x: into(zeros(x), torch.sigmoid, x)),
    row("ab ~cd -> ab cd", lambda x: into(x * 1, torch.cos, x)),
    row("ab cd, *cd ef -> ab ef", lambda x, w: into(empty(len(x), w.shape[1]), torch.mm, x, w)),
    row("ab cd, *cd ef, *cd gh -> ab efgh", side_by_side),
    row("ab cd, ef cd -> abef cd", lambda x, y: torch.cat([x, y], out=empty(0))),
    row("ab 3 -> ab", lambda x: torch.sum(x, 1, out=empty(len(x)))),
    row("*ab 2, ef 2 -> ef ab", lambda w, x: x @ into(empty(*w.shape), torch.mul, w, 2).t()),
]


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case, trials=10)


def test_memory_whose_layout_changes_is_not_followed() -> None:
    case = row("2 3, 2 3 -> 2 3", lambda x, y: torch.add(x, y, out=torch.ones_like(x[:, 1:])))

    with pytest.warns(UserWarning, match="was resized"):
        assert worked(case) == "no rule for add"


@st.composite
def writings(draw: Callable) -> Case:
    """An operation whose result is written somewhere, where others see it as well."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=3)))
    dim = draw(st.integers(0, len(shape) - 1))
    kind = draw(st.sampled_from(["sum of two", "product", "function", "joined"]))
    before = draw(st.sampled_from([torch.zeros_like, torch.empty_like, torch.clone]))
    again = draw(st.booleans())

    def run(x: Tensor, y: Tensor) -> Any:
        place = before(x)
        seen = place.transpose(0, 1)
        if kind == "joined":
            half = x.shape[dim]
            place = before(torch.cat([x, y], dim))
            seen = place.narrow(dim, 0, half)
            torch.cat([x, y], dim, out=place)
        elif kind == "function":
            torch.cos(x, out=place)
        else:
            (torch.add if kind == "sum of two" else torch.mul)(x, y, out=place)
        return (place.relu_() if again else place), seen.tanh()

    return Case(run, (draw(inputs(shape)), draw(inputs(shape))))


@few
@given(case=writings(), seed=st.integers(0, 99))
def test_writings_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


def test_zeros_that_are_partly_written_over_are_none() -> None:
    def partly(x: Tensor) -> Tensor:
        made = zeros(x)
        made[:2].copy_(x[:2])
        return made.sum(0)

    for seed in range(4):
        check_brute(Case(partly, (Input((3, 8), zero=(1,)),)), seed, trials=6)
