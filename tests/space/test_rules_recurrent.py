"""Recurrent layers and cells: a hidden unit goes from all gates, layers and directions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils import rnn

from labelled import (
    Case,
    Input,
    check_brute,
    few,
    row,
    traced,
    unnoticed,
    worked,
)  # fmt: skip
from prunus.space.rules import recurrent

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def layer(kind: str, depth: int = 1, *, both: bool = False, bias: bool = False,
          batch_first: bool = True, states: int = 0) -> Callable[..., Any]:  # fmt: skip
    """Return `torch.lstm` and the like, called with data, `states` start states and weights."""

    def run(x: Tensor, *rest: Tensor) -> Any:
        starts, weights = list(rest[:states]), list(rest[states:])
        if not starts:
            per = len(weights) // (depth * (2 if both else 1))
            widths = [weights[1].shape[1], weights[0].shape[0] // GATES[kind]]
            assert per in (2, 3, 4, 5)
            batch = x.shape[0 if batch_first else 1]
            starts = [x.new_zeros(depth * (2 if both else 1), batch, n) for n in widths]
        start = starts[:2] if kind == "lstm" else starts[0]
        return getattr(torch, kind)(x, start, weights, bias, depth, 0.0, False, both, batch_first)

    return run


def cell(kind: str) -> Callable[..., Any]:
    def run(x: Tensor, *rest: Tensor) -> Any:
        if kind == "lstm":
            return torch.lstm_cell(x, list(rest[:2]), *rest[2:])
        return getattr(torch, f"{kind}_cell")(x, rest[0], *rest[1:])

    return run


def packed(x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """The second sentence is one word shorter."""
    lengths = torch.tensor([x.shape[1], x.shape[1] - 1])
    given = rnn.pack_padded_sequence(x, lengths, batch_first=True)
    start = x.new_zeros(1, 2, weights[1].shape[1])
    sizes = given.batch_sizes
    data, hidden = torch.gru(given.data, sizes, start, weights, False, 1, 0.0, False, False)
    return rnn.pad_packed_sequence(rnn.PackedSequence(data, sizes), batch_first=True)[0], hidden


ROWS = [
    row("!2 !3 ab, *cdcdcdcd ab, *cdcdcdcd cd -> 2 3 ~cd, 1 2 ~cd, 1 2 ~cd", layer("lstm")),
    row("!2 !3 ab, *cdcdcd ab, *cdcdcd cd -> 2 3 ~cd, 1 2 ~cd", layer("gru")),
    row("!2 !3 ab, *cd ab, *cd cd -> 2 3 ~cd, 1 2 ~cd", layer("rnn_tanh")),
    row("!2 !3 ab, *cd ab, *cd cd, *cd, *cd -> 2 3 ~cd, 1 2 ~cd", layer("rnn_relu", bias=True)),
    row("!2 !3 ab, !1 !2 cd, *cd ab, *cd cd -> 2 3 cd, 1 2 cd", layer("rnn_tanh", states=1)),
    row("!2 !3 ab, !1 !2 !2, *2 ab, *2 2 -> 2 3 2, 1 2 2", layer("rnn_tanh", states=1)),
    row("!2 !3 ab, *cd ab, *cd cd, *cd cd, *cd cd -> 2 3 ~cd, 2 2 ~cd", layer("rnn_tanh", 2)),
    row(
        "!2 !3 ab, *cd ab, *cd cd, *cd ab, *cd cd -> 2 3 ~cdcd, 2 2 ~cd",
        layer("rnn_tanh", both=True),
    ),
    row(
        "!2 !3 ab, *cd ab, *cd cd, *cd ab, *cd cd, *cd cdcd, *cd cd, *cd cdcd, *cd cd"
        "  -> 2 3 ~cdcd, 4 2 ~cd",
        layer("rnn_tanh", 2, both=True),
    ),
    row(
        "!2 !3 ab, *cdecdecdecde ab, *cdecdecdecde fg, *fg cde -> 2 3 ~fg, 1 2 ~fg, 1 2 ~cde",
        layer("lstm"),
        sized=True,  # PyTorch knows a projection by sizes that differ
    ),
    row(
        "!2 ab, !2 cd, !2 cd, *cdcdcdcd ab, *cdcdcdcd cd, *cdcdcdcd, *cdcdcdcd -> 2 cd, 2 cd",
        cell("lstm"),
    ),
    row("!2 ab, !2 cd, *cdcdcd ab, *cdcdcd cd -> 2 cd", cell("gru")),
    row("!2 ab, !2 cd, *cd ab, *cd cd, *cd, *cd -> 2 cd", cell("rnn_tanh")),
    row("!2 ab, !2 cd, *cd ab, *cd cd -> 2 cd", cell("rnn_relu")),
    row("!2 !3 ab, *cdcdcd ab, *cdcdcd cd -> 2 3 cd, 1 2 ~cd", packed),
]


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(recurrent, ROWS) == set()


def test_a_recurrent_layer_counts_its_multiplications_at_every_step() -> None:
    case = row("!2 !3 ab, *cdcdcd ab, *cdcdcd cd -> 1", layer("gru"))
    products = traced(case).tracer.products

    assert [p.factor * len(p.dims[0]) * len(p.dims[1]) for p in products] == [6 * 6 * 2, 6 * 6 * 2]


@st.composite
def recurrences(draw: Callable) -> Case:
    """A recurrent layer with all its options, or a cell."""
    number, truth = st.integers, st.booleans()
    kind = draw(st.sampled_from(sorted(GATES)))
    width, hidden, batch = draw(number(1, 3)), draw(number(1, 4)), draw(number(1, 2))
    gates, bias = GATES[kind], draw(truth)
    if draw(truth):  # a cell
        starts = [Input((batch, hidden), fixed=(0,))] * (2 if kind == "lstm" else 1)
        weights = [Input((gates * hidden, n), True) for n in (width, hidden)]
        weights += [Input((gates * hidden,), True)] * (2 * bias)
        return Case(cell(kind), (Input((batch, width), fixed=(0,)), *starts, *weights))
    depth, both, first = draw(number(1, 2)), draw(truth), draw(truth)
    seen = draw(number(1, hidden)) if kind == "lstm" and draw(truth) else hidden
    sweeps = depth * (2 if both else 1)
    weights = []
    for k in range(sweeps):
        reads = width if k < (2 if both else 1) else seen * (2 if both else 1)
        weights += [Input((gates * hidden, reads), True), Input((gates * hidden, seen), True)]
        weights += [Input((gates * hidden,), True)] * (2 * bias)
        weights += [Input((seen, hidden), True)] * (seen != hidden)
    starts = []
    if draw(truth):
        sizes = [seen, hidden] if kind == "lstm" else [hidden]
        starts = [Input((sweeps, batch, n), fixed=(0, 1)) for n in sizes]
    shape = (batch, 3, width) if first else (3, batch, width)
    options = {"both": both, "bias": bias, "batch_first": first, "states": len(starts)}
    run = layer(kind, depth, **options)
    return Case(run, (Input(shape, fixed=(0, 1)), *starts, *weights), sized=seen != hidden)


@few
@given(case=recurrences(), seed=st.integers(0, 99))
def test_recurrences_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)
