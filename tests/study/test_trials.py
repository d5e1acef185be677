"""The book of trials: what is proposed, what falls behind, what is best, what survives."""

import sys

import pytest

from prunus.study import trials
from prunus.study.search import Tune
from prunus.study.trials import RIVALS, Outcome, Trials, behind_median

SEARCH = {"target.macs": {"low": 0.1, "high": 0.9}, "method.round_to": [1, 8]}


def tune(**changes):
    return Tune.model_validate({"search": SEARCH, "startup": 3} | changes)


def done(macs, curve, excess=0.0):
    found = {"macs": macs, "val": curve[-1], "curve": list(curve)}
    return Outcome("done", {"target.macs": macs}, found, {"macs": excess} if excess else {})


def told(book, *outcomes):
    for outcome in outcomes:
        book.end(book.begin()[0], outcome)
    return book


@pytest.fixture
def file(tmp_path):
    return tmp_path / "trials.jsonl"


def best(values):
    """Numbers of the pairs (quality, cost) that no other is better than, by the definition."""
    return [
        k
        for k, (quality, cost) in enumerate(values)
        if not any(q >= quality and c <= cost and (q, c) != (quality, cost) for q, c in values)
    ]


def test_the_front_is_what_no_other_trial_is_better_than(file):
    values = [(0.5, 30), (0.7, 50), (0.6, 60), (0.7, 70), (0.9, 90), (0.4, 20), (0.4, 30)]
    book = told(Trials(file, tune()), *(done(cost, [quality]) for quality, cost in values))
    assert book.front == best(values) == [0, 1, 4, 5]
    told(book, done(10, [1.0], excess=0.1))  # beyond a limit
    told(book, Outcome("stopped", {}, {"macs": 1, "curve": [1.0]}), Outcome("failed", {}))
    assert book.front == [0, 1, 4, 5]
    assert [one.state for one in book.ended[-3:]] == ["done", "stopped", "failed"]
    # Of equal ones the first.
    assert told(book, done(50, [0.7])).front == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("objectives", "limits", "front"),
    [(["accuracy"], {}, [2]), (["macs"], {"accuracy": 0.1}, [0]), (["perplexity"], {}, [0])],
)
def test_of_one_objective_the_best(file, objectives, limits, front):
    book = Trials(file, tune(objectives=objectives, limits=limits))
    assert told(book, done(10, [0.2]), done(20, [0.3]), done(30, [0.4])).front == front


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_proposals_depend_on_what_has_ended_alone(tmp_path, sampler, monkeypatch):
    monkeypatch.setattr(trials, "_POPULATION", 4)

    def proposed(file, *, killed):
        settings, found = tune(sampler=sampler), []
        book = Trials(file, settings)
        for k in range(12):
            if k in killed:
                book.begin()  # and never ended
                book = Trials(file, settings)
            trial, values = book.begin()
            found.append(values)
            macs = values["target", "macs"]
            book.end(trial, done(macs, [1 - abs(macs - 0.5)]))
        return found, book.front

    undisturbed = proposed(tmp_path / "a", killed=())
    assert proposed(tmp_path / "b", killed=(1, 2, 9)) == undisturbed
    assert len({str(values) for values in undisturbed[0]}) > 6


def test_what_was_ended_when_it_was_killed_is_not_lost(file, monkeypatch):
    book = told(Trials(file, tune()), done(20, [0.5]))
    monkeypatch.setattr(Trials, "_tell", lambda *given: sys.exit())
    with pytest.raises(SystemExit):
        told(book, done(10, [0.6]))
    monkeypatch.undo()
    again = Trials(file, tune())
    assert (again.front, len(again.ended)) == ([1], 2)


def test_a_process_killed_while_it_wrote_leaves_half_a_line_and_a_lock(file):
    book = told(Trials(file, tune()), done(20, [0.5]), done(30, [0.6]))
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":4,"worker')
    file.with_name("trials.jsonl.lock").symlink_to(file)
    again = Trials(file, tune())
    assert again.ended == book.ended
    assert told(again, done(10, [0.7])).front == [2]
    assert len(Trials(file, tune()).ended) == 3


@pytest.mark.parametrize(
    ("curve", "others", "sign", "behind"),
    [
        ([0.4, 0.5], [[0.3, 0.6]] * 5, 1, True),
        ([0.4, 0.5], [[0.3, 0.6]] * 4, 1, False),  # too few
        ([0.4, 0.5], [[0.3, 0.6]] * 4 + [[0.9]], 1, False),  # too few came as far
        ([0.7, 0.5], [[0.3, 0.6]] * 5, 1, False),  # it was better before
        ([0.5], [[0.1], [0.2], [0.5], [0.9], [0.9]], 1, False),  # the median
        ([0.5], [[0.1], [0.2], [0.51], [0.9], [0.9]], 1, True),
        ([9.0], [[3.0]] * 5, -1, True),  # perplexity
        ([2.0], [[3.0]] * 5, -1, False),
    ],
)
def test_the_rule_by_hand(curve, others, sign, behind):
    assert behind_median(curve, others, sign) == behind


def test_of_two_objectives_only_those_that_cost_no_more_are_rivals(file):
    book = Trials(file, tune())
    told(book, *(done(10 + k, [0.5, 0.6]) for k in range(RIVALS)))
    trial, _ = book.begin()
    bad = {"macs": 20, "curve": [0.4]}
    assert book.behind(trial, bad)
    assert not book.behind(trial, bad | {"curve": [0.5]})
    assert not book.behind(trial, bad | {"macs": 13})  # four rivals
    assert not book.behind(trial, {"curve": [0.4]})  # its cost is not known


@pytest.mark.parametrize(
    "change", [{"stop": False}, {"search": {"finetune.length": ["1it", "2it"]}}]
)
def test_none_is_stopped_where_it_would_not_be_right(file, change):
    book = Trials(file, tune(**change))
    told(book, *(done(10, [0.5]) for _ in range(RIVALS)))
    assert not book.behind(book.begin()[0], {"macs": 20, "curve": [0.1]})


@pytest.mark.parametrize(("metric", "good", "bad"), [("accuracy", 0.7, 0.3), ("perplexity", 3, 9)])
def test_of_one_objective_optuna_says_which_is_behind(file, metric, good, bad):
    book = Trials(file, tune(objectives=[metric]))
    told(book, *(done(10, [5 if metric == "perplexity" else 0.5, good]) for _ in range(RIVALS)))
    trial, _ = book.begin()
    assert not book.behind(trial, {"curve": [good]})
    trial, _ = book.begin()
    assert book.behind(trial, {"curve": [bad]})
    assert book.behind(trial, {"curve": [bad, bad]})


def test_without_optuna_it_says_how_to_get_it(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'prunus\[tune\]'"):
        Trials(file, tune())
