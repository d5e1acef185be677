"""Reading and writing by index: what is indexed stays, the rest passes through."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from labelled import Case, Input, check_brute, few, inputs, row, unnoticed, worked
from prunus.space.rules import indexing

I = torch.tensor  # noqa: E741

ORDER: dict[str, Callable[..., Any]] = {
    "sort": lambda x, dim: torch.sort(x, dim),
    "stable sort": lambda x, dim: torch.sort(x, dim=dim, stable=True, descending=True),
    "argsort": lambda x, dim: torch.argsort(x, dim),
    "topk": lambda x, dim: torch.topk(x, 2, dim),
    "cumsum": torch.cumsum,
    "cumprod": torch.cumprod,
    "logcumsumexp": torch.logcumsumexp,
    "cummax": torch.cummax,
    "cummin": torch.cummin,
    "rfft": lambda x, dim: torch.fft.rfft(x, 4, dim=dim).real,
    "fft": lambda x, dim: torch.fft.fft(torch.complex(x, -x), dim=dim).real,
    "irfft": lambda x, dim: torch.fft.irfft(torch.complex(x, -x), 4, dim=dim).narrow(dim, 0, 3),
}


def columns(x: Tensor, *rows: list[int]) -> Tensor:
    """Return an index of which every column of `x` has a copy."""
    return I(rows).reshape(-1, 1).expand(-1, x.shape[1])


def put(x: Tensor, values: Tensor, accumulate: bool = False) -> Tensor:
    return x.clone().index_put((I([0, 2]),), values, accumulate)


def masked_rows(x: Tensor) -> Tensor:
    x = x.clone()
    x[torch.arange(len(x)) > 0] = 0.0
    return x


def where(x: Tensor, mask: Tensor, values: Any = 0.5, ahead: int = 0) -> Tensor:
    """Write the same wherever a mask over some dimensions, after `ahead` others, is true."""
    x = x.clone()
    x[(*[slice(None)] * ahead, mask)] = values
    return x


def filled_in(x: Tensor, y: Tensor) -> Tensor:
    rows = (torch.arange(15).view(3, 5) % 4 == 0)[..., None]
    return x.masked_scatter(rows.expand_as(x), y)


READ = [
    row("3 ab -> 2 ab", lambda x: x[[0, 2]]),
    row("ab 3 cd -> ab 2 cd", lambda x: x[:, [0, 2]]),
    row("ab 3 cd -> ab 2 2 cd", lambda x: x[:, I([[0, 1], [2, 0]])]),
    row("3 ab 3 -> 2 ab", lambda x: x[[0, 1], :, [0, 2]]),
    row("ab 3 3 cd -> ab 2 cd", lambda x: x[:, [0, 1], [0, 2]]),
    row("3 ab -> 2 ab", lambda x: x[I([True, False, True])]),
    row("3 3 ab -> 2 2 ab", lambda x: x[I([[0], [1]]), I([0, 2])]),
    row("*3 ab -> 2 2 ab", lambda x: x[I([[0, 2], [1, 1]])]),
    row("ab 3 -> ab 2", lambda x: x.index_select(1, I([2, 0]))),
    row("3 ab -> 2 ab", lambda x: x.index_select(0, I([2, 0]))),
    row("3 ab -> 2 ab", lambda x: x.gather(0, columns(x, [0, 2]))),
    row("2 3 -> 2 3", lambda x: x.gather(0, I([[0, 1, 1], [1, 0, 0]]))),
    row("ab 3 -> ab 2", lambda x: x.take_along_dim(I([[0, 2]]).expand(len(x), -1), 1)),
    row("3 ab -> 3 ab", lambda x: x.take_along_dim(x.argsort(0), 0)),
]
WRITTEN = [
    row("3 ab, !2 ab -> 3 ab", put),
    row("3 ab, !2 ab -> 3 ab", lambda x, y: put(x, y, True)),
    row("3 2, !2 !2 -> 3 2", put),
    row("3 ab -> 3 ab", masked_rows),
    row("ab cd ef -> ab cd ef", lambda x: where(x, x < 0)),
    row("ab cd ef, ab cd ef -> ab cd ef", lambda x, y: where(x, y > 0)),
    row("ab cd ef, ab cd -> ab cd ef", lambda x, y: where(x, y > 0)),
    row("ab cd ef, ab cd, ef -> ab cd ef", lambda x, y, z: where(x, y > 0, z)),
    row("ab cd ef, ab cd, () -> ab cd ef", lambda x, y, z: where(x, y > 0, z)),
    row("ab cd ef, cd -> ab cd ef", lambda x, y: where(x, y > 0, ahead=1)),
    row("ab cd ef, cd, ab 1 ef -> ab cd ef", lambda x, y, z: where(x, y > 0, z, 1)),
    row("ab cd ef, cd, ab 1 1 -> ab cd ef", lambda x, y, z: where(x, y > 0, z, 1)),
    row("ab cd ef gh, cd ef, ab 1 gh -> ab cd ef gh", lambda x, y, z: where(x, y > 0, z, 1)),
    row("ab 2 cd -> ab 2 cd", lambda x: where(x, I([True, False]), ahead=1)),
    row("ab 3 cd -> ab 3 cd", lambda x: x.index_fill(1, I([0, 2]), 0.5)),
    row("ab cd 3 -> ab cd 3", lambda x: x.clone().index_fill_(-1, I([1]), I(2.0))),
    row("3 ab, 2 -> 3 ab", lambda x, y: x.index_fill(0, 1 + (y > 0), 0.5)),
    row("3 ab, 2 ab -> 3 ab", lambda x, y: x.scatter(0, columns(x, [0, 2]), y)),
    row("3 ab, 2 ab -> 3 ab", lambda x, y: x.scatter_add(0, columns(x, [0, 0]), y)),
    row("ab 3 -> ab 3", lambda x: x.scatter(1, I([[0]]).expand(len(x), -1), 1.0)),
    row("3 ab, 2 ab -> 3 ab", lambda x, y: x.index_add(0, I([0, 2]), y)),
    row("ab 3, ab 2 -> ab 3", lambda x, y: x.index_add(1, I([0, 0]), y)),
]
ORDERED = [
    row("ab 3 -> " + ", ".join([f"ab {2 if name == 'topk' else 3}"] * count),
        lambda x, run=run: run(x, 1))
    for name, run in ORDER.items()
    for count in [2 if name in ("sort", "stable sort", "topk", "cummax", "cummin") else 1]
]  # fmt: skip
MASKED = [
    row("ab cde fg -> ba edc fg", lambda x: x.flip(0, 1)),
    row("abc de -> cba de", lambda x: x.flip(-2)),
    row("abcde fg -> deabc fg", lambda x: x.roll(2, 0), sized=True),
    row("ab cde -> ba dec", lambda x: x.roll((1, -1), (0, 1)), sized=True),
    row("!3 !5 ab, !4 ab -> 3 5 ab", filled_in),
    row("ab 3 3 -> ab 3 3", torch.tril),
    row("ab 3 3 -> ab 3 3", lambda x: x.triu(1)),
    row("ab 3 3 -> ab 3", lambda x: x.diagonal(dim1=-2, dim2=-1)),
    row("3 ab 3 -> ab 3", lambda x: x.diagonal(dim1=0, dim2=2)),
    row("ab 5 cd -> ab 2 cd 3", lambda x: x.unfold(1, 3, 2)),
    row("ab 5 -> ab 3 3", lambda x: x.unfold(-1, 3, 1)),
]
ROWS = [*READ, *WRITTEN, *ORDERED, *MASKED]


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(indexing, ROWS) == set()


def test_values_that_differ_by_the_count_of_those_chosen_before_are_not_followed() -> None:
    chosen = I([[True, False], [True, True]])

    for words, run in {
        "2 2, 3 -> 2 2": lambda x, y: where(x, chosen, y),
        "3 2 2, 3 3 -> 3 2 2": lambda x, y: where(x, chosen, y, 1),
        "2 2 3, 3 3 -> 2 2 3": lambda x, y: where(x, chosen, y),
    }.items():
        assert worked(row(words, run)) == "no rule for index_put_"


@st.composite
def masks(draw: Callable) -> Case:
    """A tensor written where a mask over some of its dimensions is true."""
    number = st.integers
    shape = tuple(draw(st.lists(number(1, 4), min_size=1, max_size=4)))
    ahead = draw(number(0, len(shape) - 1))
    until = draw(number(ahead + 1, len(shape)))
    wide = (*shape[:ahead], 1, *shape[until:])
    own = tuple(n if draw(st.booleans()) else 1 for n in wide)[draw(number(0, len(wide))) :]
    given = [draw(inputs(shape)), draw(inputs(shape[ahead:until])), draw(inputs(own))]
    return Case(lambda x, y, z: where(x, y > 0, z, ahead), tuple(given))


@few
@given(case=masks(), seed=st.integers(0, 99))
def test_writing_by_a_mask_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


KINDS = (
    *("index", "two", "mask", "select", "gather", "along"),
    *("add", "scatter", "order", "diagonal", "windows", "triangle"),
)


@st.composite
def readings(draw: Callable) -> Case:
    """Rows of a tensor read or written at places that may themselves be computed."""
    number = st.integers
    shape = tuple(draw(st.lists(number(2, 4), min_size=1, max_size=4)))
    dim = draw(number(0, len(shape) - 1))
    places = draw(st.lists(number(0, shape[dim] - 1), min_size=1, max_size=4))
    second = draw(number(0, len(shape) - 1))
    kind = draw(st.sampled_from(KINDS))
    order = draw(st.sampled_from(sorted(ORDER)))

    def run(x: Tensor) -> Any:
        at = I(places)
        index: list[Any] = [slice(None)] * x.ndim
        wide = at.view([-1 if d == dim else 1 for d in range(x.ndim)])
        wide = wide.expand([len(at) if d == dim else n for d, n in enumerate(x.shape)])
        if kind == "index" or (kind == "two" and dim == second):
            index[dim] = at
            return x[tuple(index)]
        if kind == "two":
            index[dim], index[second] = at, I([0])
            return x[tuple(index)]
        if kind == "mask":
            index[dim] = torch.arange(x.shape[dim]) != places[0]
            return x[tuple(index)]
        if kind == "select":
            return x.index_select(dim, at)
        if kind == "gather":
            return x.gather(dim, wide)
        if kind == "along":
            return x.take_along_dim(x.argsort(dim), dim)
        if kind == "add":
            return x.index_add(dim, at, x.index_select(dim, at).exp())
        if kind == "scatter":
            return x.scatter_add(dim, wide, x.index_select(dim, at).exp())
        if kind == "order":
            return ORDER[order](x, dim)
        if kind == "diagonal" and dim != second:
            return x.diagonal(0, dim, second)
        if kind == "windows":
            return x.unfold(dim, 2, 1)
        return x.tril() if kind == "triangle" and x.ndim > 1 else x.flip(dim)

    return Case(run, (Input(shape),))


@few
@given(case=readings(), seed=st.integers(0, 99))
def test_readings_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


ONCE_WRONG: dict[str, tuple[Callable[..., Any], tuple[Input, ...]]] = {
    "values assigned behind a slice meet it": (
        lambda x, y: (z := x.clone(), z.__setitem__((slice(None), [0, 2]), y))[0],
        (Input((6, 3)), Input((6, 2))),
    ),
    "a roll without dimensions is over all of them": (
        lambda x: x.roll(1),
        (Input((6, 3)),),
    ),
    "a table read at places that move gives rows that move": (
        lambda x, table: table[(x > 0).long()],
        (Input((6,)), Input((2, 3), True)),
    ),
    "index_select, too": (
        lambda x, table: table.index_select(0, (x > 0).long()),
        (Input((6,)), Input((2, 3), True)),
    ),
    "gather, too": (
        lambda x, y: y.gather(1, (x > 0).long()),
        (Input((3, 6)), Input((3, 2))),
    ),
}


@pytest.mark.parametrize("form", ONCE_WRONG)
def test_what_was_wrong_once(form: str) -> None:
    run, given = ONCE_WRONG[form]
    for seed in range(4):
        check_brute(Case(run, given), seed, trials=6)


def test_a_mask_keeps_what_it_is_made_of() -> None:
    case = row("6, 6 ab -> 3 ab", lambda x, y: y[torch.arange(6) + 0 * x > 2])

    assert worked(case) == case.expected
    check_brute(case)
