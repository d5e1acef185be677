"""Element-wise operations: positions that meet go together."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from labelled import Case, Input, check_brute, few, inputs, row, unnoticed, worked
from prunus.space.rules import pointwise

aten = torch.ops.aten

ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "in-place relu": lambda x: x.clone().relu_(),
    "sigmoid": torch.sigmoid,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
    "power": lambda x: x**2,
    "logarithm": lambda x: (x.abs() + 0.1).log(),
    "multiplied by a number": lambda x: 3 * x,
    "number less this": lambda x: 1 - x,
    "clamped": lambda x: x.clamp(-0.5, 0.5),
    "rounded": torch.round,
    "divided with a floor": lambda x: x.floor_divide(0.3),
    "compared": lambda x: x > 0,
    "cast": lambda x: x.float(),
    "masked by itself": lambda x: x.masked_fill(x < 0, -1.0),
    "chosen by itself": lambda x: torch.where(x > 0, x, x.exp()),
    "copied": lambda x: torch.empty_like(x).copy_(x),
    "filled": lambda x: x.clone().fill_(2.0),
    "alias": aten.alias,
    "detached": lambda x: x.detach().clone(),
    "dropout in eval mode": lambda x: F.dropout(x, 0.5, training=False),
    "native dropout": lambda x: torch.native_dropout(x, 0.0, True)[0],
}

DRAWN = (
    lambda x: x.normal_(1, 0),
    lambda x: x.uniform_(1, 1),
    lambda x: x.random_(1, 2),
    lambda x: 0 * x.exponential_(),
    lambda x: x.bernoulli_(1.0),
)

MET = [
    *(row("ab cd -> ab cd, ab cd", lambda x, draw=draw: (x, draw(x.clone()))) for draw in DRAWN),
    row("ab cde, ab cde -> ab cde", torch.add),
    row("ab cde, cde -> ab cde", torch.mul),
    row("cde, ab cde -> ab cde", torch.sub),
    row("ab 1, 1 cde -> ab cde", torch.add),
    row("ab 1 cde, ab fgh 1 -> ab fgh cde", lambda x, y: x / (1 + y.abs())),
    row("ab cde, () -> ab cde", torch.mul),
    row("!2 3, !2 !3 -> 2 3", torch.add),
    row("!2 3, 3 -> 2 3", lambda x, y: x + y + torch.arange(3.0)),
    row("ab cd, ab cd, ab cd -> ab cd", torch.addcmul),
    row("ab cd, ab cd, cd -> ab cd", torch.lerp),
    row("ab cd, ab cd -> ab cd", torch.maximum),
    row("ab cd, ab cd -> ab cd", lambda x, y: torch.where(x > y, x, y)),
    row("ab cd, ab 1 -> ab cd", lambda x, y: x.masked_fill(y > 0, 0.0)),
    row("ab cd, ab cd -> ab cd", lambda x, y: x.clone().copy_(y)),
    row("ab cd, cd -> ab cd", lambda x, y: x.clone().copy_(y)),
    row("ab cd, ab cd -> ab cd", lambda x, y: x.clone().add_(y)),
    row("!2 abc de, *abc -> 2 abc de", F.prelu),
    row("!2 abc, *1 -> 2 abc", F.prelu),
    row("!2 ~ab, !2 ab -> 2 ~ab", torch.mul),
    row("!2 ~ab, !2 ~ab -> 2 ~ab", torch.add),
    row("!2 ~ab, !2 ab -> 2 ab", torch.add),
    row("!2 ~ab -> 2 ~ab", F.gelu),
    row("!2 ~ab -> 2 ab", torch.sigmoid),
    row("*ab cd, *ab cd -> ~ab ~cd", torch.mul),
    row("!2 ~ab, !2 ab -> 2 ab", lambda x, y: torch.complex(x, y).abs()),
    row("!2 ~ab, !2 ~ab -> 2 ~ab", lambda x, y: torch.view_as_real(torch.complex(x, y)).sum(-1)),
    row("!2 ~ab -> 2 ~ab", lambda x: x.pow(2)),
    row("!2 ~ab -> 2 ab", lambda x: x.pow(0)),
    row("!2 ~ab -> 2 ~ab", lambda x: F.rrelu(x)),
    row("ab ~cd, ab cd -> ab ~cd", lambda x, y: torch.view_as_real(torch.polar(x, y)).sum(-1)),
    row("ab cd, ab ~cd -> ab cd", lambda x, y: torch.view_as_real(torch.polar(x, y)).sum(-1)),
]
ROWS = [*(row("ab cdef gh -> ab cdef gh", run) for run in ONE.values()), *MET]


@pytest.mark.parametrize(
    "case", ROWS, ids=[*ONE, *(f"{k}: {case.expected}" for k, case in enumerate(MET))]
)
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(pointwise, ROWS) == set()


UNARY = (torch.relu, torch.tanh, torch.sigmoid, torch.exp, F.silu, torch.neg, torch.square)
BINARY = (torch.add, torch.sub, torch.mul, torch.maximum, torch.hypot, torch.copysign)
TERNARY = (torch.addcmul, torch.lerp, lambda a, b, c: torch.where(a > 0, b, c))


@st.composite
def expressions(draw: Callable) -> Case:
    """An expression of up to three tensors that broadcast against each other."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    given = []
    for _ in range(draw(st.integers(1, 3))):
        ahead = draw(st.integers(0, len(shape)))
        own = tuple(1 if draw(st.integers(0, 3)) == 0 else size for size in shape[ahead:])
        fixed = tuple(d for d in range(len(own)) if draw(st.integers(0, 3)) == 0)
        given.append(draw(inputs(own, fixed)))
    steps = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), min_size=1, max_size=4))

    def run(*tensors: Tensor) -> Tensor:
        known = list(tensors)
        for count, which in steps:
            functions = (UNARY, BINARY, TERNARY)[count - 1]
            operands = [known[-1 - k % len(known)] for k in range(count)]
            known.append(functions[which % len(functions)](*operands))
        return known[-1]

    return Case(run, tuple(given))


@few
@given(case=expressions(), seed=st.integers(0, 99))
def test_expressions_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "negated": torch.neg,
    "leaky relu": lambda x: F.leaky_relu(x, 0.3),
    "elu": F.elu,
    "hardtanh": F.hardtanh,
    "root": lambda x: x.abs().sqrt(),
    "divided": lambda x: x / 3,
    "divided with a floor": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "cast": lambda x: x.float(),
    "in-place tanh": lambda x: x.clone().tanh_(),
    "cosine": torch.cos,
    "number less this": lambda x: 1 - x,
    "exponential": torch.exp,
    "softplus": F.softplus,
    "concatenated": lambda x: torch.cat([x, 2 * x], 0),
    "concatenated with ones": lambda x: torch.cat([x, torch.ones_like(x)], 0),
    "stacked": lambda x: torch.stack([x, -x]),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_said_to_be_zero_is_zero(form: str) -> None:
    check_brute(Case(FORMS[form], (Input((3, 8), zero=(1,)),)))


NOT_ZERO = {
    "in-place plus a number": (lambda x: x.clone().add_(1), [Input((3, 8), zero=(1,))]),
    "in-place sigmoid": (lambda x: x.clone().sigmoid_(), [Input((3, 8), zero=(1,))]),
    "in-place on a slice": (
        lambda x: (y := x.clone(), y[:1].sigmoid_())[0],
        [Input((3, 8), fixed=(0,), zero=(1,))],
    ),
    "copied into": (lambda x: x.clone().copy_(x.sigmoid()), [Input((3, 8), zero=(1,))]),
    "hardtanh above zero": (lambda x: F.hardtanh(x, 0.5, 1.0), [Input((3, 8), zero=(1,))]),
    "padded with ones": (
        lambda x: F.pad(x, (1, 1), value=1.0),
        [Input((3, 8, 4), fixed=(2,), zero=(1,))],
    ),
    "plus a single parameter": (torch.add, [Input((3, 8), zero=(1,)), Input((1,), True)]),
    "plus a part of another dimension": (
        torch.add,
        [Input((3, 8), zero=(1,)), Input((3, 1), zero=(1,))],
    ),
    "times a zero of another dimension": (
        torch.mul,
        [Input((8, 1), zero=(0,)), Input((1, 8))],
    ),
}


@pytest.mark.parametrize("form", NOT_ZERO)
def test_what_is_not_zero_is_not_said_to_be(form: str) -> None:
    run, given = NOT_ZERO[form]
    check_brute(Case(run, tuple(given)))
