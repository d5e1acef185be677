"""Products that sum over channels: what is summed over goes with the weights that read it."""

from collections.abc import Callable
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from labelled import Case, Input, check_brute, few, inputs, row, traced, unnoticed, worked
from prunus.space.rules import contraction


def depthwise(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, groups=x.shape[1])


def grouped(groups: int) -> Callable[..., Tensor]:
    return lambda x, weight, *bias: F.conv2d(x, weight, *bias, groups=groups)


def transposed(groups: int) -> Callable[..., Tensor]:
    return lambda x, weight, *bias: F.conv_transpose2d(x, weight, *bias, groups=groups)


def experts(x: Tensor, weight: Tensor) -> Tensor:
    """The first row has an expert of its own; float64 is not known, and sizes must be even."""
    ends = torch.tensor([1, x.shape[0]], dtype=torch.int32)
    return torch._grouped_mm(x.float(), weight.float(), offs=ends)


CONVOLUTIONS = [
    row("!2 ab 5, *cde ab 3 -> 2 ~cde 3", F.conv1d),
    row("!2 ab 5, *cde ab 3, *cde -> 2 ~cde 3", F.conv1d),
    row("!2 !2 5 5, *cde 2 3 3, *cde -> 2 ~cde 3 3", F.conv2d),
    row("!2 ab 3 3 3, *cde ab 3 3 3, *cde -> 2 ~cde 1 1 1", F.conv3d),
    row("!2 ab 3 3, *ab 1 3 3 -> 2 ~ab 1 1", depthwise),
    row("!2 ab 3 3, *aabb 1 3 3 -> 2 ~aabb 1 1", depthwise),
    row("!2 abab 3 3, *cdecde ab 3 3, *cdecde -> 2 ~cdecde 1 1", grouped(2)),
    row("!2 abc 3 3, *aabbcc 1 3 3 -> 2 ~aabbcc 1 1", depthwise),
    row("!2 ab 2 2, *ab cde 2 2, *cde -> 2 ~cde 3 3", F.conv_transpose2d),
    row("!2 ab 2, *ab cde 2 -> 2 ~cde 3", F.conv_transpose1d),
    row("!2 ab 2 2 2, *ab cde 2 2 2 -> 2 ~cde 3 3 3", F.conv_transpose3d),
    row("!2 abab 2 2, *abab cde 2 2 -> 2 ~cdecde 3 3", transposed(2)),
    row(
        "!2 abc 2 2, *abc 1 2 2 -> 2 ~abc 3 3",
        lambda x, w: F.conv_transpose2d(x, w, groups=x.shape[1]),
    ),
    row(
        "!2 abc 2 2, *abc 2 2 2 -> 2 ~aabbcc 3 3",
        lambda x, w: F.conv_transpose2d(x, w, groups=x.shape[1]),
    ),
]
PRODUCTS = [
    row("!2 ab, *cde ab -> 2 ~cde", F.linear),
    row("!2 ab, *cde ab, *cde -> 2 ~cde", F.linear),
    row("!2 !3 ab, *cde ab, *cde -> 2 3 ~cde", F.linear),
    row("*ab cde, *cde fg -> ~ab ~fg", torch.mm),
    row("ab 3, 3 cd -> ab cd", torch.mm),
    row("!2 ~abc, abc !2 -> 2 2", torch.mm),
    row("!2 abc, ~abc !2 -> 2 2", torch.mm),
    row("ab cd 3, ab 3 ef -> ab cd ef", torch.bmm),
    row("!2 ab cd, *2 cd ef -> 2 ab ~ef", torch.bmm),
    row("*ab, !2 cd, *cd ab -> 2 ~ab", torch.addmm),
    row("ab cd, ab 3, 3 cd -> ab cd", torch.addmm),
    row("ab cd ef, ab cd 3, ab 3 ef -> ab cd ef", torch.baddbmm),
    row("*ab cde, ~cde -> ~ab", torch.mv),
    row("ab 3, 3 -> ab", torch.mv),
    row("3, 3 -> ()", torch.dot),
    row("abc, ~abc -> ()", torch.dot),
    row("abc, *abc -> ()", torch.vdot),
    row("!2 ~ab, *cd ab -> 2 cd", torch.cdist),
    row("ab !2 3, ab !4 3 -> ab 2 4", lambda x, y: torch.cdist(x, y, p=1.0)),
    row("ab cd, *3 ef -> ab cd ~ef", lambda x, w: F.embedding((x > 0).long(), w)),
    row("!2 !5, *3 ef -> 2 ~ef", lambda x, w: F.embedding_bag((x > 0).long(), w, mode="max")),
    row("!2 !5, *3 ef -> 2 ~ef", lambda x, w: F.embedding_bag((x > 0).long(), w.detach())),
    row("!30 ~ab, *cd ab -> 30 cd", lambda x, w: torch._euclidean_dist(x, w)),
    row("!3 abcd, *2 abcd efgh -> 3 ~efgh", experts, sized=True),
    row("!2 ab, !2 cd, *efg ab cd, *efg -> 2 ~efg", F.bilinear),
    row("!2 ab, !2 ab, *efg ab ab -> 2 ~efg", lambda x, y, w: F.bilinear(x, x + y, w)),
    row("!2 abc !3, *de abc -> 2 ~de 3", lambda x, w: torch.einsum("bct,oc->bot", x, w)),
    row("ab cd 3, ab ef 3 -> ab cd ef", lambda q, k: torch.einsum("bqd,bkd->bqk", q, k)),
]
ROWS = [*CONVOLUTIONS, *PRODUCTS]


@pytest.mark.parametrize("case", ROWS, ids=[case.expected for case in ROWS])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(contraction, ROWS) == set()


def test_products_count_their_multiplications() -> None:
    def spent(
        words: str, run: Callable[..., Tensor], *, sized: bool = False
    ) -> list[tuple[str, int]]:
        products = traced(row(words, run, sized=sized)).tracer.products
        return [(p.name, p.factor * prod(len(x) for x in p.dims)) for p in products]

    assert spent("!2 ab 5, *cde ab 3 ->", F.conv1d) == [("p1", 2 * 3 * 3 * 2 * 3)]
    assert spent("!2 ab 3 3, *ab 1 3 3 ->", depthwise) == [("p1", 2 * 2 * 9)]
    assert spent("!2 abab 3 3, *cdecde ab 3 3 ->", grouped(2)) == [("p1", 2 * 6 * 2 * 9)]
    assert spent("!2 ab 2 2, *ab cde 2 2 ->", F.conv_transpose2d) == [("p1", 2 * 2 * 3 * 4 * 4)]
    assert spent("!2 3 ab, *cde ab, *cde ->", F.linear) == [("p1", 2 * 3 * 3 * 2)]
    assert spent("ab cd 3, ab 3 ef ->", torch.bmm) == [("matrix product", 2 * 2 * 3 * 2)]
    assert spent("!2 ab, !2 cd, *efg ab cd ->", F.bilinear) == [("p2", 2 * 3 * 2 * 2)]
    assert spent("!3 abcd, *2 abcd efgh ->", experts) == [("p1", 3 * 4 * 4)]


@st.composite
def convolutions(draw: Callable) -> Case:
    """Any convolution of one to three dimensions, its weight a parameter or not."""
    number = st.integers
    dims, groups, width = draw(number(1, 3)), draw(number(1, 3)), draw(number(1, 3))
    out, kernel, batch = draw(number(1, 3)), draw(number(1, 2)), draw(number(1, 2))
    backward = draw(st.booleans())
    options = {"stride": draw(number(1, 2)), "padding": draw(number(0, 1))}
    options["dilation"] = draw(number(1, 2))
    function = getattr(F, f"conv{'_transpose' if backward else ''}{dims}d")
    channels = groups * width
    first, second = (channels, out) if backward else (groups * out, width)
    x = draw(inputs((batch, channels, *[4] * dims), or_parameter=False))
    weight = draw(inputs((first, second, *[kernel] * dims)))
    given = [x, weight, Input((groups * out,), True)][: draw(number(2, 3))]

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        own = x.shape[1] if width == 1 and groups > 1 else groups
        return function(x, weight, bias, groups=own, **options)

    return Case(run, tuple(given))


@few
@given(case=convolutions(), seed=st.integers(0, 99))
def test_convolutions_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


@st.composite
def products(draw: Callable) -> Case:
    """mm, bmm, addmm, baddbmm, mv, dot, cdist, einsum of parameters and activations."""
    n, k, m, b = (draw(st.integers(1, 4)) for _ in range(4))
    shapes: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
        "mm": (torch.mm, ((n, k), (k, m))),
        "bmm": (torch.bmm, ((b, n, k), (b, k, m))),
        "addmm": (lambda x, y, z: torch.addmm(z, x, y), ((n, k), (k, m), (m,))),
        "baddbmm": (lambda x, y, z: torch.baddbmm(z, x, y), ((b, n, k), (b, k, m), (b, n, m))),
        "mv": (torch.mv, ((n, k), (k,))),
        "dot": (torch.dot, ((k,), (k,))),
        "matmul": (torch.matmul, ((b, 1, n, k), (m, k, n))),
        "linear": (F.linear, ((b, n, k), (m, k), (m,))),
        "cdist": (torch.cdist, ((b, n, k), (b, m, k))),
        "attention": (
            lambda q, key: torch.einsum("bqhd,bkhd->bhqk", q, key),
            ((b, n, 2, k), (b, m, 2, k)),
        ),
        "outer": (lambda x, y: torch.einsum("bi,bj->bij", x, y), ((b, k), (b, m))),
        "trace": (lambda x, y: torch.einsum("bik,bkj->ij", x, y), ((b, n, k), (b, k, m))),
    }
    run, given = shapes[draw(st.sampled_from(sorted(shapes)))]
    return Case(run, tuple(draw(inputs(shape)) for shape in given))


@few
@given(case=products(), seed=st.integers(0, 99))
def test_products_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


@st.composite
def bilinears(draw: Callable) -> Case:
    b, i, j, out = (draw(st.integers(1, 4)) for _ in range(4))
    given = tuple(draw(inputs(shape)) for shape in ((b, i), (b, j), (out, i, j), (out,)))
    return Case(F.bilinear, given[: draw(st.integers(3, 4))])


@few
@given(case=bilinears(), seed=st.integers(0, 99))
def test_bilinear_forms_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


ONCE_WRONG = {
    "a convolution whose weight is an activation sums over channels that are not zero": (
        F.conv1d,
        (Input((2, 4, 5)), Input((3, 4, 3))),
    ),
    "a bilinear form whose weight is an activation does so, too": (
        F.bilinear,
        (Input((2, 4)), Input((2, 3)), Input((3, 4, 3))),
    ),
    "the rows of the second input of a bilinear form meet those of the first": (
        F.bilinear,
        (Input((6, 4)), Input((6, 3)), Input((3, 4, 3), True)),
    ),
    "a row that is not zero stays so in a product with a parameter": (
        torch.mm,
        (Input((6, 4)), Input((4, 3), True)),
    ),
    "a row of zeros gets the bias": (
        F.linear,
        (Input((6, 4), zero=(0, 1)), Input((3, 4), True), Input((3,), True)),
    ),
    "a column that is not zero stays so in a product with zeros": (
        torch.mm,
        (Input((3, 4), zero=(0, 1)), Input((4, 5))),
    ),
    "a convolution of single channels in the batch adds its bias to each": (
        F.conv2d,
        (Input((6, 1, 3, 3), zero=(0,)), Input((1, 1, 3, 3), True), Input((1,), True)),
    ),
}


@pytest.mark.parametrize("form", ONCE_WRONG)
def test_what_was_wrong_once(form: str) -> None:
    run, given = ONCE_WRONG[form]
    for seed in range(4):
        check_brute(Case(run, given), seed, trials=6)


def test_channels_of_a_depthwise_transposed_convolution_are_as_zero_as_what_makes_them() -> None:
    case = row("!2 abc 3, abc 1 2 -> 2 abc 4", lambda x, w: F.conv_transpose1d(x, w, groups=len(w)))

    assert worked(case) == case.expected
