"""Attention as one operation: heads go as a whole, queries with the keys they share."""

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from labelled import Case, Input, check_brute, few, inputs, row, traced, unnoticed, worked
from prunus.space.rules import attention


def attend(**options: Any) -> Callable[..., Tensor]:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


GROUPED = attend(enable_gqa=True)

ROWS = [
    row("!2 ab !3 2, !2 ab !3 2, !2 ab 3 fg -> 2 ab 3 fg", attend()),
    row("!2 ab cd 2, !2 ab 3 2, !2 ab 3 fg -> 2 ab cd fg", attend()),
    row("!2 2 !3 2, !2 2 !3 2, !2 !2 3 ~fg -> 2 2 3 ~fg", attend()),
    row("!2 ab !3 2, !2 ab !3 2, !2 ab !3 fg -> 2 ab 3 fg", attend(is_causal=True)),
    row("!2 ab !3 2, !2 ab !3 2, !2 ab !3 fg -> 2 ab 3 fg", attend(scale=0.5)),
    row("!2 !2 !3 ~de, !2 !2 !3 de, !2 !2 !3 fg -> 2 2 3 fg", attend(scale=0.5)),
    row("!2 !3 2, !2 !3 2, !2 !3 fg -> 2 3 fg", attend()),
    row("!2 aabb !3 2, !2 ab !3 2, !2 ab !3 fg -> 2 aabb 3 fg", GROUPED),
    row("!2 4 !3 2, !2 1 !3 2, !2 1 !3 fg -> 2 4 3 fg", GROUPED),
    row("!2 ab !3 2, !2 ab !3 2, !2 ab !3 fg, !3 !3 -> 2 ab 3 fg", masked),
    row("!2 ab !3 2, !2 ab !3 2, !2 ab !3 fg, ab !3 !3 -> 2 ab 3 fg", masked),
    row("!2 ab !3 2, !2 ab !3 2, !2 ab !3 fg, !2 1 1 !3 -> 2 ab 3 fg", masked),
    row("!2 2 !3 2, !2 2 !3 2, !2 2 !3 fg, !2 !2 !3 !3 -> 2 2 3 fg", masked),
]  # fmt: skip


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(attention, ROWS) == set()


def test_an_attention_counts_scores_and_sums() -> None:
    products = traced(row("!2 ab !3 4, !2 ab !5 4, !2 ab !5 cde -> 1", attend())).tracer.products

    counts = [p.factor * prod(map(len, p.dims)) for p in products]
    assert counts == [2 * 2 * 3 * 5 * 4, 2 * 2 * 3 * 5 * 3]


@st.composite
def attentions(draw: Callable) -> Case:
    """Heads or none, grouped queries, masks of every shape, a scale or the default one."""
    number, truth = st.integers, st.booleans()
    batch, heads, tokens, others = (draw(number(1, 3)) for _ in range(4))
    width, wide, shared = draw(number(1, 3)), draw(number(1, 3)), draw(number(1, 2))
    with_heads = draw(truth)
    ahead = (batch, heads) if with_heads else (batch,)
    queries = (batch, heads * shared) if with_heads else ahead
    options: dict[str, Any] = {"enable_gqa": with_heads and shared > 1}
    if draw(truth):
        options["scale"] = 0.7
    moving = draw(st.sampled_from(["heads", "width", "everything"]))
    held = {"heads": (0, 2, 3), "width": (0, 1, 2), "everything": ()}[moving]
    if not with_heads:
        held = tuple(d - 1 for d in held if d > 0) if held else held
    q = draw(inputs((*queries, tokens, width), held, or_parameter=False))
    k, v = (
        draw(inputs((*ahead, others, width), held, or_parameter=False)),
        draw(inputs((*ahead, others, wide), held, or_parameter=False)),
    )
    given = [q, k, v]
    if draw(truth):
        shape = (*queries, tokens, others)[draw(number(0, len(queries))) :]
        own = tuple(1 if d < len(shape) - 2 and draw(truth) else n for d, n in enumerate(shape))
        fixed = tuple(
            d for d in range(len(own)) if held and d + len(queries) + 2 - len(own) in held
        )
        given.append(Input(own, fixed=fixed))
    elif moving != "everything" and (not with_heads or shared == 1):
        options["is_causal"] = tokens == others and draw(truth)

    def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)

    return Case(run, tuple(given))


@few
@given(case=attentions(), seed=st.integers(0, 99))
def test_attentions_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


def test_a_causal_attention_keeps_its_queries() -> None:
    check_brute(row("!2 abcd 2, !2 !4 2, !2 !4 fg -> 1", attend(is_causal=True)), trials=6)
