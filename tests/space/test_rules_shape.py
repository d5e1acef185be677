"""Views, slices and concatenations: positions keep their labels wherever they go."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from labelled import Case, check_brute, few, inputs, row, unnoticed, worked
from prunus.space.rules import shape

ROWS = [
    row("ab cd !2 -> ab ccdd", lambda x: x.flatten(1)),
    row("ab !2 cd -> ab cdcd", lambda x: x.flatten(1)),
    row("!2 ab -> abab", lambda x: x.reshape(-1)),
    row("!2 abab -> 2 2 ab", lambda x: x.view(2, 2, -1), sized=True),
    row("!2 abab, !2 !2 ab -> 2 2 ab", lambda x, y: x.view(2, 2, 2) + y, sized=True),
    row("!2 aabb, !2 ab !2 -> 2 ab 2", lambda x, y: x.view(2, 2, 2) + y, sized=True),
    row("!2 ab cd -> 2 cd ab", lambda x: x.transpose(1, 2)),
    row("ab cd -> cd ab", torch.t),
    row("ab cd ef -> ef ab cd", lambda x: x.permute(2, 0, 1)),
    row("ab cd -> ab 1 cd", lambda x: x.unsqueeze(1)),
    row("ab 1 cd -> ab cd", lambda x: x.squeeze(1)),
    row("ab cd -> cd ab", lambda x: (x * 2).t_()),
    row("ab cd -> ab 1 cd", lambda x: (x * 2).unsqueeze_(1)),
    row("ab 1 cd -> ab cd", lambda x: (x * 2).squeeze_(1)),
    row("ab cd ef -> ab ef cd", lambda x: (x * 2).transpose_(1, 2)),
    row("ab 1 cd -> jk ab ghi cd", lambda x: x.expand(2, *x.shape[:1], 3, -1), sized=True),
    row("ab 1 cd, !3 -> ab 3 cd", lambda x, y: x.expand(-1, 3, -1) + y[:, None], sized=True),
    row("ab cd -> ab cd 2", lambda x: torch.view_as_real(torch.complex(x, -x))),
    row("ab 2 -> ab", lambda x: torch.view_as_complex(x * 2).real),
    row("ab cd -> 1 ab cdcd", lambda x: x.repeat(1, 1, 2)),
    row("ab cd -> ababab cd", lambda x: x.repeat(3, 1)),
    row("ab cde -> ab ccddee", lambda x: x.repeat_interleave(2, 1)),
    row("ab cd, ab efg -> ab cdefg", lambda x, y: torch.cat([x, y], 1)),
    row("ab cd, ab !3 -> ab cd...", lambda x, y: torch.cat([x, y], 1)),
    row("ab cd, ab cd -> 2 ab cd", lambda x, y: torch.stack([x, y])),
    row("ab cd, ab cd -> ab cd 2", lambda x, y: torch.stack([x, y], -1)),
    row("ab cd, ab cd -> ab ccdd", lambda x, y: torch.stack([x, y], -1).flatten(1)),
    row("ab cdefg -> ab cd, ab efg", lambda x: x.split([2, 3], 1), sized=True),
    row("ab cdefg -> ab cd, ab ef, ab g", lambda x: x.split(2, 1), sized=True),
    row("ab cdefgh -> ab cde, ab fgh", lambda x: x.chunk(2, 1)),
    row("ab 2 -> ab, ab", lambda x: x.unbind(1)),
    row("ab 3 -> ab", lambda x: x[:, 1]),
    row("ab 3 -> ab", lambda x: x[:, -1]),
    row("ab cdefg -> ab def", lambda x: x[:, 1:4], sized=True),
    row("ab cdefg -> ab ef", lambda x: x[:, -3:-1], sized=True),
    row("ab ccdd -> ab cd", lambda x: x[:, ::2]),
    row("ab cccddd -> ab cd", lambda x: x[:, 2::3]),
    row("ab 5 -> ab 3", lambda x: x[:, ::2]),
    row("ab 6 -> ab 2", lambda x: x[:, 2::2]),
    row("ab cd -> ab cd", lambda x: x[:, :]),
    row("ab cd -> ab efcdg", lambda x: F.pad(x, (2, 1)), sized=True),
    row("!2 ~ab -> 2 ~cabd", lambda x: F.pad(x, (1, 1)), sized=True),
    row("ab 2, ab !4 -> ab 4", lambda x, y: F.pad(x, (1, 1)) + y, sized=True),
    row("ab 4 -> ab 2", lambda x: F.pad(x, (-1, -1))),
    row("ab cd efg -> ab cd hefgi", lambda x: F.pad(x, (1, 1)), sized=True),
    row("ab cdcd -> ab cd", F.glu),
    row("ab cdcd ef -> ab cd ef", lambda x: F.glu(x, 1)),
    row("!2 aaaabbbb 3 3 -> 2 ab 6 6", lambda x: F.pixel_shuffle(x, 2)),
    row("!2 ab 4 4 -> 2 aaaabbbb 2 2", lambda x: F.pixel_unshuffle(x, 2)),
    row("!2 abab -> 2 aabb", lambda x: x.view(2, 2, -1).transpose(1, 2).reshape(2, -1)),
    row("!2 abab cd -> 2 aabb cd", lambda x: F.channel_shuffle(x, 2)),
    row("ef ~ababab cd !2 -> ef ~aaabbb cd 2", lambda x: torch.native_channel_shuffle(x, 3)),
    row("!2 6 cd -> 2 6 cd", lambda x: F.channel_shuffle(x, 2) + torch.arange(6.0)[:, None]),
    row("ab cd -> ab cd", lambda x: x.as_strided(x.shape, (x.shape[1], 1))),
    row("*ab cd -> ~cd ~ab", lambda x: x.t().contiguous()),
]


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(shape, ROWS) == set()


MOVES = (
    *("view", "view", "permute", "unsqueeze", "squeeze", "repeat", "pick", "cat"),
    *("stack", "slice", "stride", "pad", "interleave", "flip"),
)


@st.composite
def moves(draw: Callable) -> Case:
    """A few moves one after the other; at the end the result may meet a tensor of its shape."""
    number, choose = st.integers, st.sampled_from
    first = tuple(draw(st.lists(choose([1, 2, 2, 3, 4, 6]), min_size=1, max_size=4)))
    fixed = tuple(d for d in range(len(first)) if draw(number(0, 2)) == 0)
    steps: list[Callable[[Tensor], Tensor]] = []
    now = torch.empty(first)
    for _ in range(draw(number(1, 5))):
        kind = draw(choose(MOVES))
        dim = draw(number(0, max(0, now.ndim - 1)))
        size = now.shape[dim] if now.ndim else 1
        if kind == "view":
            sizes = tuple(_factors(draw, now.numel()))
            step = lambda x, sizes=sizes: x.reshape(sizes)  # noqa: E731
        elif kind == "permute":
            order = tuple(draw(st.permutations(range(now.ndim))))
            step = lambda x, order=order: x.permute(order)  # noqa: E731
        elif kind == "unsqueeze":
            step = lambda x, dim=dim: x.unsqueeze(dim)  # noqa: E731
        elif kind == "squeeze":
            step = torch.squeeze
        elif now.ndim == 0 or now.numel() > 300:
            continue
        elif kind == "repeat":
            times = [2 if d == dim else 1 for d in range(now.ndim)]
            step = lambda x, times=times: x.repeat(times)  # noqa: E731
        elif kind == "pick":
            k = draw(number(0, size - 1))
            step = lambda x, dim=dim, k=k: x.select(dim, k)  # noqa: E731
        elif kind == "cat":
            step = lambda x, dim=dim: torch.cat([x, -x], dim)  # noqa: E731
        elif kind == "stack":
            step = lambda x, dim=dim: torch.stack([x, x.exp()], dim)  # noqa: E731
        elif kind == "slice":
            start = draw(number(0, size - 1))
            stop = draw(number(start + 1, size))
            step = lambda x, d=dim, a=start, b=stop: x.narrow(d, a, b - a)  # noqa: E731
        elif kind == "stride":
            jump, start = draw(number(2, 3)), draw(number(0, size - 1))
            index = (slice(None),) * dim + (slice(start, None, jump),)
            step = lambda x, index=index: x[index]  # noqa: E731
        elif kind == "pad":
            widths = [0] * (2 * (now.ndim - 1 - dim)) + [draw(number(0, 2)), draw(number(0, 2))]
            step = lambda x, widths=widths: F.pad(x, widths)  # noqa: E731
        elif kind == "interleave":
            step = lambda x, dim=dim: x.repeat_interleave(2, dim)  # noqa: E731
        else:
            step = lambda x, dim=dim: x.flip(dim)  # noqa: E731
        steps.append(step)
        now = step(now)

    def run(x: Tensor, *others: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        for other in others:
            x = x * other
        return x

    given = [draw(inputs(first, fixed))]
    if draw(st.booleans()) and now.numel() <= 300:
        held = tuple(d for d in range(now.ndim) if draw(number(0, 2)) == 0)
        given.append(draw(inputs(tuple(now.shape), held)))
    return Case(run, tuple(given), sized=True)


def _factors(draw: Callable, total: int) -> list[int]:
    found = []
    while total > 1 and draw(st.integers(0, 4)):
        size = draw(st.sampled_from([k for k in range(1, total + 1) if total % k == 0]))
        found.append(size)
        total //= size
    return [*found, total] if total > 1 or not found else found


@few
@given(case=moves(), seed=st.integers(0, 99))
def test_moves_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


@st.composite
def shuffles(draw: Callable) -> Case:
    """A channel shuffle, or two of them, between which the channels may meet a weight."""
    number = st.integers
    groups, width = draw(number(1, 4)), draw(number(1, 4))
    shape = (draw(number(1, 3)), groups * width, *draw(st.sampled_from([(2,), (1, 2)])))
    twice = draw(st.booleans())

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        x = F.channel_shuffle(x, groups)
        for weight in weights:
            x = x * weight
        return torch.native_channel_shuffle(x, groups) if twice else x

    weights = (draw(inputs((1, *shape[1:]))),) * draw(number(0, 1))
    return Case(run, (draw(inputs(shape)), *weights))


@few
@given(case=shuffles(), seed=st.integers(0, 99))
def test_channel_shuffles_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)
