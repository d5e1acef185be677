"""Reductions: what is summed or compared over cannot lose a member unnoticed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from labelled import Case, check_brute, few, inputs, row, unnoticed, worked
from prunus.space.rules import reduction

ONE: dict[str, Callable[..., Any]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "nansum": torch.nansum,
    "amax": torch.amax,
    "amin": torch.amin,
    "aminmax": lambda x, dim, **options: torch.aminmax(x, dim=dim, **options),
    "var": torch.var,
    "std": torch.std,
    "var_mean": torch.var_mean,
    "std_mean": torch.std_mean,
    "prod": torch.prod,
    "max": torch.max,
    "min": torch.min,
    "argmax": torch.argmax,
    "argmin": torch.argmin,
    "any": lambda x, dim, **options: torch.any(x > 0, dim, **options),
    "all": lambda x, dim, **options: torch.all(x > 0, dim, **options),
    "logsumexp": torch.logsumexp,
    "median": torch.median,
    "mode": lambda x, dim, **options: torch.mode(x.round(), dim, **options),
    "norm": lambda x, dim, keepdim=False: torch.ops.aten.norm(x, 1.5, [dim], keepdim),
    "linalg_vector_norm": lambda x, dim, **options: torch.linalg.vector_norm(x, 2, dim, **options),
    "count_nonzero": lambda x, dim: torch.count_nonzero(x.round(), dim),
}  # fmt: skip
SEVERAL = ("mean", "sum", "nansum", "amax", "amin", "var", "std", "logsumexp", "linalg_vector_norm")
HARMLESS = ("sum", "norm", "linalg_vector_norm")


def outputs(name: str) -> int:
    return 2 if name in ("aminmax", "var_mean", "std_mean", "max", "min", "median", "mode") else 1


def rows(name: str) -> list[Case]:
    run = ONE[name]
    more = []
    if name != "count_nonzero":
        words = "ab 3 cd -> " + ", ".join(["ab 1 cd"] * outputs(name))
        more.append(row(words, lambda x: run(x, 1, keepdim=True)))
    if name in SEVERAL:
        more.append(row("2 ab 3 -> ab", lambda x: run(x, (0, -1))))
    return [row("ab 3 cd ->" + ", ".join([" ab cd"] * outputs(name)), lambda x: run(x, 1)), *more]


OTHERS = [
    row("3 3 -> 3 3", torch.linalg.matrix_exp),
    row("4 3, 2 -> 4 3", torch.linalg.householder_product),
    row("3 3, 3 2 -> 3 2", torch.linalg.solve),
    row("!2 ~abc -> 2", lambda x: x.sum(1)),
    row("!2 ~abc -> 2", lambda x: torch.linalg.vector_norm(x, dim=1)),
    row("!2 3 -> 2", lambda x: x.mean(1)),
    row("!2 3 -> 2", lambda x: x.amax(1)),
    row("2 3 -> ()", torch.sum),
    row("2 3 -> ()", torch.mean),
    row("2 3 -> ()", torch.max),
    row("!2 ~abc -> ()", torch.sum),
    row("2 3 -> ()", torch.norm),
    row("ab 3 -> ab 3", lambda x: x.softmax(1)),
    row("ab 3 -> ab 3", lambda x: x.log_softmax(-1)),
    row("3 cd -> 3 cd", lambda x: x.softmax(0)),
]
ROWS = [*(case for name in ONE for case in rows(name)), *OTHERS]


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(reduction, ROWS) == set()


@st.composite
def reductions(draw: Callable) -> Case:
    name = draw(st.sampled_from(sorted(ONE)))
    shape = tuple(draw(st.lists(st.integers(2, 4), min_size=1, max_size=4)))
    dims = [draw(st.integers(-len(shape), len(shape) - 1))]
    if name in SEVERAL:
        dims = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True))
    options = {} if name == "count_nonzero" else {"keepdim": draw(st.booleans())}

    def run(x: Tensor) -> Any:
        return ONE[name](x, tuple(dims) if name in SEVERAL else dims[0], **options)

    return Case(run, (draw(inputs(shape, or_parameter=False)),))


@few
@given(case=reductions(), seed=st.integers(0, 99))
def test_reductions_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


@pytest.mark.parametrize("order", [0, 0.5, 1, 2, 3, float("inf")])
def test_a_norm_loses_nothing_by_a_zero(order: float) -> None:
    run = lambda x: torch.linalg.vector_norm(x, order, 1)  # noqa: E731

    assert check_brute(row("!2 ~abcd -> 2", run)) > 0


@pytest.mark.parametrize("order", [-1, float("-inf")])
def test_a_norm_of_negative_order_keeps_what_it_is_taken_over(order: float) -> None:
    check_brute(row("!2 ~abcd -> 2", lambda x: torch.linalg.vector_norm(x, order, 1)), trials=6)
