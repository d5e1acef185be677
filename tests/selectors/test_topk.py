"""Exact shares per layer, stage and network; least widths; fixed ratios."""

from collections import defaultdict

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from prunus import Target
from prunus.errors import EmptyLayerError, TargetError
from prunus.selectors import TopK


class Units:
    """A group of units without a network behind it."""

    def __init__(self, name, size, positions=1):
        self.name, self.size, self.positions = name, size, positions
        self.channels, self.may_vanish = 1, False


@st.composite
def pools(draw):
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    values = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])
    groups = [Units(f"layer{k}", size, positions=k // 2) for k, size in enumerate(sizes)]
    scores = {
        g.name: torch.tensor(draw(st.lists(values, min_size=g.size, max_size=g.size)))
        for g in groups
    }
    return groups, scores


def select(selector, groups, scores, target):
    return selector.select(None, groups, scores, target).keep


def removed(keep):
    return sum(int((~kept).sum()) for kept in keep.values())


@given(pools(), st.floats(0, 0.99), st.sampled_from(["layer", "stage", "global"]))
def test_the_count_is_exact_where_nothing_stops_it(case, share, scope):
    groups, scores = case
    total = defaultdict(int)
    for group in groups:
        total[{"layer": group.name, "stage": group.positions, "global": 0}[scope]] += group.size
    selector = TopK(scope=scope, min_keep=0)
    try:
        keep = select(selector, groups, scores, Target(sparsity=share))
    except EmptyLayerError:
        assume(False)
    assert removed(keep) == sum(round(share * size) for size in total.values())
    if scope == "layer":
        for group in groups:
            gone = scores[group.name][~keep[group.name]].tolist()
            assert sorted(gone) == sorted(scores[group.name].tolist())[: len(gone)]


@given(pools(), st.floats(0, 0.99), st.integers(1, 4))
def test_every_layer_keeps_its_best_units_at_least(case, share, least):
    groups, scores = case
    spare = sum(max(0, g.size - least) for g in groups)
    total = sum(g.size for g in groups)
    assume(share * total - spare < 1)
    keep = select(TopK(min_keep=least), groups, scores, Target(sparsity=share))
    for group in groups:
        kept = keep[group.name]
        order = sorted(range(group.size), key=lambda k: (-float(scores[group.name][k]), k))
        assert kept.sum() >= min(least, group.size)
        # whatever the count, what stays of a layer is the head of its ranking, ties by index
        assert sorted(order[: int(kept.sum())]) == kept.nonzero().ravel().tolist()
    assert removed(keep) == min(round(share * total), spare)


@given(pools(), st.floats(0, 0.9), st.floats(0, 0.9), st.sampled_from(["layer", "global"]))
def test_decisions_are_nested_as_sparsity_grows(case, a, b, scope):
    groups, scores = case
    assume(
        scope == "layer"
        or max(a, b) * sum(g.size for g in groups) <= sum(g.size - 1 for g in groups)
    )
    few, many = (
        select(TopK(scope=scope), groups, scores, Target(sparsity=s)) for s in sorted((a, b))
    )
    assert all(bool((few[name] | ~many[name]).all()) for name in few)


def test_density_is_the_rest_of_sparsity():
    groups, scores = [Units("a", 10)], {"a": torch.rand(10)}
    by_density = select(TopK(), groups, scores, Target(density=0.3))
    assert torch.equal(by_density["a"], select(TopK(), groups, scores, Target(sparsity=0.7))["a"])
    assert by_density["a"].sum() == 3


def test_what_least_widths_forbid_is_an_error_that_says_how_far_it_got():
    groups = [Units("a", 4), Units("b", 4)]
    scores = {"a": torch.rand(4), "b": torch.rand(4)}
    message = r"sparsity 0\.9 cannot be reached: with min_keep=2 at most 0\.500 of the units"
    for scope in ("layer", "global"):
        with pytest.raises(TargetError, match=message):
            select(TopK(scope=scope, min_keep=2), groups, scores, Target(sparsity=0.9))


def test_one_unit_always_stays_in_a_small_layer():
    scores = {"a": torch.tensor([1.0, 3.0, 2.0])}
    keep = select(TopK(scope="layer"), [Units("a", 3)], scores, Target(sparsity=0.99))
    assert keep["a"].tolist() == [False, True, False]


def test_an_emptied_layer_is_an_error_without_least_widths():
    groups = [Units("a", 2), Units("b", 6)]
    scores = {"a": torch.zeros(2), "b": torch.ones(6)}
    with pytest.raises(EmptyLayerError, match=r"'a' would lose all 2 units.*min_keep \(now 0\)"):
        select(TopK(min_keep=0), groups, scores, Target(sparsity=0.25))
    with pytest.raises(EmptyLayerError, match="'a' would lose all 2 units"):
        select(TopK(ratios={"a": 1.0}, min_keep=0), groups, scores, None)


def test_units_compete_within_a_stage():
    groups = [Units("a", 4, 64), Units("b", 4, 64), Units("c", 4, 16)]
    scores = {"a": torch.arange(4.0), "b": torch.arange(4.0) + 10, "c": torch.arange(4.0) - 10}
    keep = select(TopK(scope="stage"), groups, scores, Target(sparsity=0.25))
    assert {name: int(kept.sum()) for name, kept in keep.items()} == {"a": 2, "b": 4, "c": 3}


def test_ratios_hold_and_the_first_match_wins():
    groups = [Units(name, 10) for name in ("stem", "body.0", "body.1")]
    scores = {g.name: torch.arange(10.0) for g in groups}
    selector = TopK(scope="layer", ratios={"stem": 0.0, "body.1": 0.35, "body.*": 0.2})
    keep = select(selector, groups, scores, Target(sparsity=0.2))
    # int(10 * (1 - 0.35)) = 6, the count of Li et al.
    assert {name: int(kept.sum()) for name, kept in keep.items()} == {
        "stem": 10,
        "body.0": 8,
        "body.1": 6,
    }
    only = TopK(ratios={"stem": 0.5})
    assert select(only, groups, scores, None).keys() == {"stem"}


def test_the_rest_makes_up_for_what_the_ratios_keep():
    groups = [Units(name, 10) for name in ("stem", "body.0", "body.1")]
    scores = {g.name: torch.arange(10.0) for g in groups}
    selector = TopK(scope="layer", ratios={"stem": 0.0})
    keep = select(selector, groups, scores, Target(sparsity=0.4))
    assert [int((~kept).sum()) for kept in keep.values()] == [0, 6, 6]
    with pytest.raises(TargetError, match="the ratios remove 0 units, 24 are asked for, and 20"):
        select(selector, groups, scores, Target(sparsity=0.8))


def test_a_ratio_for_no_layer_is_refused():
    groups = [Units("stem", 10)]
    with pytest.raises(ValueError, match=r"ratios names 'stm', .* Did you mean 'stem'"):
        select(TopK(ratios={"stm": 0.5}), groups, {"stem": torch.arange(10.0)}, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scope": "block"}, "scope must be 'layer', 'stage' or 'global', got 'block'"),
        ({"ratios": {"a": 30}}, r"ratios\['a'\] must be in \[0, 1\], got 30\. Did you mean 0\.3"),
        ({"ratios": {"a": -0.1}}, r"got -0\.1"),
        ({"round_to": 0}, "round_to must be at least 1, got 0"),
        ({"min_keep": -1}, "min_keep must be at least 0, got -1"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TopK(**fields)
