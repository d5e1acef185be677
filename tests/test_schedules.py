"""Schedules against worked values, and lengths with their units."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunus import methods
from prunus.schedules import CURVES, Schedule, iterations, lasts, repeated


def test_cubic_values_of_zhu_and_gupta():
    timeline = Schedule(curve="cubic", begin="0it", end="400it", every="100it").timeline()
    amounts = [round(timeline.amount(step, 0.875), 3) for step in (0, 100, 200, 300, 400)]
    assert amounts == [0.0, 0.506, 0.766, 0.861, 0.875]


def test_linear_and_geometric_values():
    assert [CURVES["linear"](t, 0.2, 0.6) for t in (0, 0.5, 1)] == pytest.approx([0.2, 0.4, 0.6])
    # a half of what remains at each of three updates
    steps = [CURVES["geometric"](t / 3, 0.0, 0.875) for t in range(4)]
    assert steps == pytest.approx([0, 0.5, 0.75, 0.875])


@given(
    st.sampled_from(sorted(CURVES)),
    *(st.floats(0, 0.99) for _ in range(2)),
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
)
def test_curves_rise_from_the_initial_to_the_final_amount(curve, a, b, moments):
    initial, final = sorted((a, b))
    assert CURVES[curve](1.0, initial, final) == pytest.approx(final)
    if curve not in ("one_shot", "constant"):
        assert CURVES[curve](0.0, initial, final) == pytest.approx(initial)
    amounts = [CURVES[curve](t, initial, final) for t in sorted(moments)]
    assert all(y >= x - 1e-12 for x, y in itertools.pairwise(amounts))
    assert all(initial - 1e-12 <= x <= final + 1e-12 for x in amounts)


def test_updates_are_due_every_so_often_and_at_the_end():
    timeline = Schedule(curve="linear", begin="10it", end="45it", every="10it").timeline()
    assert [step for step in range(100) if timeline.due(step)] == [10, 20, 30, 40, 45]
    assert timeline.amount(9, 0.5) == 0
    assert timeline.amount(45, 0.5) == timeline.amount(1000, 0.5) == 0.5


def test_one_shot_acts_once():
    timeline = Schedule(begin="2ep", end="9ep").timeline(steps_per_epoch=5)
    assert [step for step in range(100) if timeline.due(step)] == [10]
    assert (timeline.amount(9, 0.7), timeline.amount(10, 0.7)) == (0, 0.7)


def test_lengths_carry_their_unit():
    assert iterations("500it") == 500
    assert iterations("12ep", 390) == 4680
    assert iterations("0.5ep", 391) == 196
    assert iterations("0it") == iterations("0ep", 10) == 0
    assert iterations("0.3ep", 1) == 1  # a length that lasts is a step at least


@pytest.mark.parametrize("text", ["12", 12, "12 ep", "ep", "1.5it", "-3it", "3epochs", "", None])
def test_a_length_without_a_unit_is_refused(text):
    with pytest.raises(ValueError, match=r"number with its unit, '500it' or '12ep', got"):
        iterations(text, 10)


def test_epochs_need_the_steps_per_epoch():
    with pytest.raises(ValueError, match="counts epochs; pass steps_per_epoch"):
        iterations("3ep")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"curve": "quartic"}, "curve must be one of one_shot, constant, linear, cubic, geometric"),
        ({"initial": 1.0}, r"initial must be in \[0, 1\), got 1"),
        ({"every": "100"}, "number with its unit"),
    ],
)
def test_bad_fields_are_refused_when_the_schedule_is_made(fields, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**fields)


def test_a_schedule_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match=r"end must not be before begin \(9it\), got 3it"):
        Schedule(curve="cubic", begin="9it", end="3it").timeline()
    with pytest.raises(ValueError, match="every must be at least one step, got 0it"):
        Schedule(curve="cubic", end="9it", every="0it").timeline()


def test_a_schedule_that_sends_training_back_counts_the_steps_that_are_made():
    schedule = Schedule(curve="geometric", begin="10it", every="10it", end="30it")
    plain, late = (schedule.timeline().rewound(to, 3) for to in (0, 4))
    assert plain.updates() == [10, 20, 30]
    assert late.updates() == [10, 16, 22]
    for timeline in (plain, late):
        assert [step for step in range(40) if timeline.due(step)] == timeline.updates()
        # a half of what remains at each of three updates, none before the first
        amounts = [timeline.amount(step, 0.875) for step in (0, *timeline.updates(), 39)]
        assert amounts == pytest.approx([0, 0.5, 0.75, 0.875, 0.875])
    once = Schedule(begin="10it").timeline().rewound(4, 1)
    assert (once.updates(), once.amount(10, 0.7)) == ([10], 0.7)


def test_a_training_that_cannot_be_sent_back_is_refused():
    schedule = Schedule(curve="geometric", begin="10it", every="5it", end="30it")
    with pytest.raises(ValueError, match=r"must have every = begin, .* got every 5 and begin 10"):
        schedule.timeline().rewound(0, 5)
    with pytest.raises(ValueError, match="step before its end, 10, got 10"):
        Schedule(begin="10it").timeline().rewound(10, 1)


def test_a_length_times_a_number_keeps_its_unit():
    assert (repeated("12ep", 3), repeated("500it", 20)) == ("36ep", "10000it")
    assert repeated("0.1ep", 3) == "0.3ep"
    with pytest.raises(ValueError, match="number with its unit"):
        repeated("12", 3)


def test_part_of_an_epoch_lasts_and_makes_a_method_prune_while_it_trains():
    assert [lasts(text) for text in ("0it", "0ep", "0.0ep", "1it", "0.25ep", "0.004ep")] == [
        *(False,) * 3,
        *(True,) * 3,
    ]
    assert methods.gate(begin="0.25ep").during_training
    assert not methods.gate(begin="0.0ep").during_training
