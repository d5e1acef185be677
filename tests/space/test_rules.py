"""The table of rules, and the brute force that the tests of its families rest on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelled import Case, Input, check_brute, row, traced, worked
from prunus.space import trace
from prunus.space.rules import RULES
from prunus.space.tracer import Call, Rule, Rules, Tracer


def test_every_rule_names_an_operation_that_exists() -> None:
    pytest.importorskip("torchvision")  # some are its own

    def exists(name: str) -> bool:
        space, _, operation = name.rpartition("::")
        return hasattr(getattr(torch.ops, space or "aten"), operation)

    functions = {**vars(torch), **vars(F), **vars(torch._C._nn)}

    assert [name for name in RULES.operations if name != "pointwise" and not exists(name)] == []
    assert [name for name in RULES.functions if name not in functions] == []


def test_every_family_of_rules_has_its_tests() -> None:
    rules = {**RULES.operations, **RULES.functions}.values()
    families = {rule.__module__.rpartition(".")[2] for rule in rules}
    here = Path(__file__).parent

    assert {name for name in families if not (here / f"test_rules_{name}.py").is_file()} == set()


@pytest.mark.parametrize(
    ("words", "run"),
    [
        ("ab cd -> ab cd", torch.relu),
        ("!2 ab, *cde ab -> 2 ~cde", F.linear),
        ("!2 aaaabbbb 3 3 -> 2 ab 6 6", lambda x: F.pixel_shuffle(x, 2)),
        ("ab cd, ab !3 -> ab cd...", lambda x, y: torch.cat([x, y], 1)),
        ("!2 ~abc -> 2", lambda x: x.sum(1)),
        ("2 3 -> ()", torch.sum),
    ],
)
def test_labels_are_written_as_words(words: str, run: Callable[..., Tensor]) -> None:
    case = row(words, run)

    assert worked(case) == case.expected
    assert case.expected == words.replace("!", "")


def test_an_operation_without_a_rule_is_told() -> None:
    assert worked(row("2 3 -> 4", lambda x: torch.histc(x, 4))) == "no rule for histc"


def test_a_rule_that_fails_is_told_as_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> None:
        raise IndexError("no such dimension")

    monkeypatch.setitem(RULES.operations, "relu", failing)
    monkeypatch.setitem(RULES.functions, "bilinear", failing)
    net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 3)

    with pytest.warns(RuntimeWarning, match="the rule of aten.relu failed .* bug of Prunus"):
        space = trace(net, x)
    assert space.unknown == {"relu": 1}
    with pytest.warns(RuntimeWarning, match="the rule of bilinear failed"):
        trace(nn.Bilinear(3, 3, 2), (x, x))


def passed_on(tracer: Tracer, call: Call) -> None:
    """A rule that takes its output for its first input."""
    tracer.assign(call.out, tracer.of(call.tensors[0])[: call.out.ndim])


def zero(tracer: Tracer, call: Call) -> None:
    """A rule that takes its output for zero where its input is lost."""
    passed_on(tracer, call)
    tracer.set_zero(call.out)


@pytest.mark.parametrize(
    ("name", "wrong", "run", "given", "message"),
    [
        ("flip", passed_on, lambda x: x.flip(1), [(2, 6)], "depends on what is lost"),
        ("mean", passed_on, lambda x: x.mean(1), [(2, 6)], "depends on what is lost"),
        ("transpose", passed_on, lambda x: x.transpose(0, 1), [(6, 6)], "sizes do not follow"),
        ("pointwise", zero, torch.sigmoid, [(2, 6)], "is not zero where it is lost"),
        ("pointwise", passed_on, torch.add, [(2, 6), (2, 6)], "must match"),
    ],
)
def test_the_brute_force_finds_a_rule_that_is_wrong(
    name: str,
    wrong: Rule,
    run: Callable[..., Tensor],
    given: list[tuple[int, ...]],
    message: str,
) -> None:
    rules = Rules({**RULES.operations, name: wrong}, RULES.functions, RULES.keeps_zero)
    case = Case(run, tuple(map(Input, given)))
    check_brute(case)

    with pytest.raises((AssertionError, RuntimeError), match=message):
        check_brute(case, rules=rules, trials=20)


def test_losing_something_is_what_the_brute_force_does() -> None:
    lost = [check_brute(row("ab cdef -> ab cdef", torch.relu), seed) for seed in range(5)]

    assert min(lost) > 0
    assert traced(row("2 3 -> ()", torch.sum)).tracer.labels.size == 5
