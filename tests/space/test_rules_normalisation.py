"""Normalisations: batch norm takes each channel alone, the others divide by what they sum over."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from labelled import Case, Input, check_brute, few, inputs, row, unnoticed, worked
from prunus.space.rules import normalisation

aten = torch.ops.aten


def batch_norm(x: Tensor, mean: Tensor, var: Tensor, *affine: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var.abs() + 0.5, *affine)


def group_norm(width: int) -> Callable[..., Tensor]:
    return lambda x, *affine: F.group_norm(x, x.shape[1] // width, *affine)


def legit(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Any:
    found = aten._native_batch_norm_legit(x, w, b, mean.clone(), var.abs(), True, 0.1, 1e-5)
    return found[0]


def inference(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Any:
    return aten._native_batch_norm_legit_no_training(x, w, b, mean, var.abs(), 0.1, 1e-5)[0]


def weight_norm(dim: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda v, g: torch._weight_norm(v, g, dim)


ROWS = [
    row("!2 abc de, *abc, *abc -> 2 abc de", batch_norm),
    row("!2 abc, *abc, *abc, *abc, *abc -> 2 ~abc", batch_norm),
    row("!2 ~abc, *abc, *abc -> 2 ~abc", batch_norm),
    row("4 abc 2 -> 4 abc 2", lambda x: F.batch_norm(x, None, None, training=True)),
    row("4 abc, *abc, *abc -> 4 ~abc", lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
    row("4 abc, *abc, *abc, abc, abc -> 4 ~abc", legit),
    row("!4 abc, *abc, *abc, *abc, *abc -> 4 ~abc", inference),
    row("2 abc 4 -> 2 abc 4", lambda x: F.instance_norm(x)),
    row("ab 3 -> ab 3", lambda x: F.layer_norm(x, [x.shape[-1]])),
    row("ab 3, *3, *3 -> ab 3", lambda x, w, b: F.layer_norm(x, [x.shape[-1]], w, b)),
    row("ab 3 2, *3 2 -> ab 3 2", lambda x, w: F.layer_norm(x, [3, 2], w)),
    row("!2 ccdd !2 -> 2 ccdd 2", group_norm(2)),
    row("!2 ccdd !2, *ccdd, *ccdd -> 2 ccdd 2", group_norm(2)),
    row("!2 cdef !2, *cdef, *cdef -> 2 cdef 2", group_norm(1)),
    row("!2 cccc !2 -> 2 cccc 2", lambda x: F.group_norm(x, 1)),
    row("ab 3 -> ab 3", lambda x: F.rms_norm(x, [x.shape[-1]])),
    row("ab 3, *3 -> ab 3", lambda x, w: F.rms_norm(x, [x.shape[-1]], w)),
    row("*ab cd ef, *ab 1 1 -> ab ~cd ~ef", weight_norm(0)),
    row("*ab cd, *1 cd -> ~ab cd", weight_norm(1)),
    row("*ab cd, *() -> ~ab ~cd", lambda v, g: torch._weight_norm(v, g, -1)),
    row("*ab cd ef, *1 cd 1 -> ~ab cd ~ef", weight_norm(1)),
    row("*ab cd ef gh, *1 1 ef 1 -> ~ab ~cd ef ~gh", weight_norm(-2)),
    row("ab 3, *ab 1 -> ~ab 3", weight_norm(0)),
    row("ab ~cd, *ab 1 -> ~ab ~cd", weight_norm(0)),
    row("*ab cd, *ab 1 -> ab ~cd, ab 1", lambda v, g: torch._weight_norm_interface(v, g, 0)),
    row("*ab cd ef -> ~ab ~cd ~ef", lambda x: torch.renorm(x, 2, 0, 0.5)),
    row("2 ab 2 -> 2 ab 2", lambda x: torch.renorm(x, 1, -2, 0.5)),
    row("!2 ab ~cd -> 2 ab ~cd", lambda x: torch.renorm(x, 3, 1, 0.5)),
    row("*3 ab -> 3 ~ab", lambda v: v / v.norm(dim=1, keepdim=True)),
]


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(normalisation, ROWS) == set()


@st.composite
def norms(draw: Callable) -> Case:
    """A norm of a (batch, channels, ...) or (..., channels) tensor, with and without weights."""
    number = st.integers
    kind = draw(st.sampled_from(["batch", "instance", "group", "layer", "rms", "weight", "renorm"]))
    rest = tuple(draw(st.lists(number(1, 3), max_size=2)))
    affine = draw(st.booleans())
    if kind == "weight":
        shape = (draw(number(1, 4)), draw(number(1, 4)), *rest)
        dim = draw(number(-1, len(shape) - 1))
        own = tuple(size if d == dim else 1 for d, size in enumerate(shape)) if dim >= 0 else ()
        return Case(weight_norm(dim), (draw(inputs(shape)), Input(own, True)))
    if kind == "renorm":
        shape = (draw(number(1, 4)), draw(number(1, 4)), *rest)
        dim, power = draw(number(0, len(shape) - 1)), draw(st.sampled_from([0.5, 1, 2]))
        return Case(lambda x: torch.renorm(x, power, dim, 0.7), (draw(inputs(shape)),))
    if kind in ("layer", "rms"):
        shape = (*rest, draw(number(1, 3)), draw(number(2, 4)))
        over = draw(number(1, len(shape)))
        function = F.layer_norm if kind == "layer" else F.rms_norm
        weights = (Input(shape[-over:], True),) * (affine * (2 if kind == "layer" else 1))
        run = lambda x, *w: function(x, x.shape[x.ndim - over :], *w)  # noqa: E731
        return Case(run, (Input(shape), *weights))
    batch, width = draw(number(2, 4)), draw(number(1, 3))
    channels = width * draw(number(1, 3))
    own = draw(st.booleans())  # a batch norm with the statistics of its input
    x = draw(inputs((batch, channels, 2, *rest), or_parameter=False))
    weights = (Input((channels,), True),) * (2 * affine)
    if kind == "group":
        run = group_norm(width)
    elif kind == "instance":
        run = lambda x, *w: F.instance_norm(x, None, None, *w)  # noqa: E731
    elif own:
        run = lambda x, *w: F.batch_norm(x, None, None, *w, training=True)  # noqa: E731
    else:
        run, weights = batch_norm, (*weights, Input((channels,), True), Input((channels,), True))
    return Case(run, (x, *weights))


@few
@given(case=norms(), seed=st.integers(0, 99))
def test_norms_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


def test_a_group_norm_keeps_the_positions_that_its_statistics_are_taken_over() -> None:
    check_brute(row("!2 ccdd 4 -> 1", group_norm(2)), trials=6)


def test_a_weight_norm_of_what_is_zero_divides_by_no_zero() -> None:
    check_brute(Case(weight_norm(0), (Input((4, 3), zero=(0, 1)), Input((4, 1), True))), trials=6)
