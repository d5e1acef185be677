"""Selection by rank equals sorting, for every count, with ties settled by index."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prunus.selectors import lowest, rank

# few distinct values, so that ties are the rule
VALUES = st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.5, float("inf"), -2.0])


@st.composite
def ranked(draw):
    scores = draw(st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=4))
    count = draw(st.integers(0, sum(map(len, scores))))
    return [torch.tensor(values, dtype=torch.float32) for values in scores], count


def by_sorting(scores, count):
    """Of equal scores the later ones go first."""
    values = torch.cat([s.ravel() for s in scores]).tolist()
    order = sorted(range(len(values)), key=lambda k: (values[k], -k))
    marked = torch.zeros(len(values), dtype=torch.bool)
    marked[order[:count]] = True
    return list(marked.split([s.numel() for s in scores]))


@given(ranked())
def test_equals_a_sort(case):
    scores, count = case
    before = [s.clone() for s in scores]
    marked = lowest(scores, count)
    assert [m.tolist() for m in marked] == [m.tolist() for m in by_sorting(scores, count)]
    assert all(torch.equal(s, b) for s, b in zip(scores, before, strict=True))


@given(ranked(), st.integers(0, 12))
def test_more_removed_means_no_other_removed(case, more):
    scores, count = case
    total = sum(s.numel() for s in scores)
    few, many = lowest(scores, count), lowest(scores, min(total, count + more))
    assert all(bool((~a | b).all()) for a, b in zip(few, many, strict=True))


@pytest.mark.parametrize("count", [1, 70_000, 199_999])
def test_ties_are_settled_by_index_beyond_one_block(monkeypatch, count):
    scores = [torch.ones(150_000), torch.zeros(10), torch.ones(49_990).reshape(10, -1)]
    assert rank._BLOCK < 150_000
    marked = lowest(scores, count)
    assert [m.shape for m in marked] == [s.shape for s in scores]
    for mark, expected in zip(marked, by_sorting_two_values(scores, count), strict=True):
        assert torch.equal(mark.ravel(), expected)


def by_sorting_two_values(scores, count):
    values = torch.cat([s.ravel() for s in scores]).flip(0)
    order = len(values) - 1 - values.argsort(stable=True)
    marked = torch.zeros(len(values), dtype=torch.bool)
    marked[order[:count]] = True
    return marked.split([s.numel() for s in scores])


def test_transposed_scores_keep_their_places():
    scores = torch.arange(6.0).reshape(2, 3).t()
    assert lowest([scores], 2)[0].tolist() == [[True, False], [True, False], [False, False]]


@pytest.mark.parametrize("count", [-1, 4])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(ValueError, match=rf"count must be in \[0, 3\], got {count}"):
        lowest([torch.zeros(3)], count)


@pytest.mark.parametrize("place", [0, 20, 39])
@pytest.mark.parametrize("count", [1, 39])
def test_nan_is_refused_wherever_it_is(place, count):
    scores = torch.rand(40)
    scores[place] = float("nan")
    with pytest.raises(ValueError, match="scores contain NaN"):
        lowest([scores], count)
