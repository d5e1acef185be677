import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prunus.study.statistics import difference, holm, mean


def test_the_t_interval_by_hand():
    found = mean([0.90, 0.91, 0.95])
    assert found.mean == pytest.approx(0.92)
    assert found.sd == pytest.approx(math.sqrt((0.02**2 + 0.01**2 + 0.03**2) / 2))
    assert found.margin == pytest.approx(4.302653 * found.sd / math.sqrt(3), rel=1e-6)
    assert (found.low, found.high) == (found.mean - found.margin, found.mean + found.margin)


def test_one_seed_has_no_interval():
    found = mean([0.9])
    assert (found.mean, found.sd, found.margin, found.low, found.high) == (0.9, *[None] * 4)
    apart, p = difference([0.9], [0.8])
    assert (apart.mean, apart.margin, p) == (pytest.approx(0.1), None, None)


def test_differences_are_paired_by_seed():
    # Seeds differ by ten points, the arms always by about one: only pairs show it.
    ours, theirs = [0.80, 0.90, 0.70, 0.85], [0.790, 0.888, 0.691, 0.839]
    found, p = difference(ours, theirs)
    assert found.mean == pytest.approx(0.0105)
    assert found.margin == pytest.approx(3.182446 * found.sd / 2, rel=1e-6)
    assert p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert p < 0.01
    assert stats.ttest_ind(ours, theirs).pvalue > 0.8


def test_equal_differences_of_rounded_values_do_not_prove_anything():
    # Two seeds of 1,000 samples, 3 more right each time: chance, though there is no spread.
    found, p = difference([0.903, 0.893], [0.900, 0.890], resolution=0.001)
    assert found.mean == pytest.approx(0.003)
    assert p > 0.05
    assert difference([0.5, 0.5], [0.5, 0.5])[1] == 1.0


@pytest.mark.parametrize(
    ("ps", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.02], [0.02]),
        ([0.5, 0.6, 0.001], [1.0, 1.0, 0.003]),
        ([], []),
    ],
)
def test_holm_by_hand(ps, adjusted):
    assert holm(ps) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_never_helps(ps):
    found = holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, found, strict=True))
    by_p = [q for _, q in sorted(zip(ps, found, strict=True))]
    assert by_p == sorted(found)
    assert min(found) == pytest.approx(min(1, len(ps) * min(ps)))
