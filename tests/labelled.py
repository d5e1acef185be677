"""Single operations: labels worked out by hand, and the brute force that checks them.

A row writes every dimension of every tensor as a word, one letter for a position: equal letters go
together. A dot is a position that must stay; a number is a dimension of that size, all of which
stays. `*` marks a parameter and `~` a dimension along which an activation is zero where the masked
network has lost something, so a linear layer is `ab cde, *fg cde -> ab ~fg`. A dimension `!3` is
fixed from outside.

Brute force asks what the labels promise: without the lost positions the operation gives what it
gave, whatever the lost positions hold.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunus.space.labels import Label
from prunus.space.recorder import Functions, Recorder
from prunus.space.rules import RULES
from prunus.space.tracer import Call, Rules, Tracer

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + "".join(
    map(chr, range(945, 1500))
)

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
"""For one family of operations with drawn shapes and arguments."""


@dataclass(frozen=True)
class Input:
    """A tensor that is given to an operation.

    Attributes:
        shape: Its shape.
        parameter: Whether it is a parameter, which the masked network has zeros in.
        fixed: Dimensions whose size is fixed from outside.
        zero: Dimensions along which an activation is zero where it is lost.
    """

    shape: tuple[int, ...]
    parameter: bool = False
    fixed: tuple[int, ...] = ()
    zero: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    """An operation and what it is given.

    Attributes:
        run: Called with the inputs. It reads every size from them, unless `sized` is set.
        inputs: What it is given.
        sized: Whether sizes are written in it, so that it does not take smaller inputs.
        expected: The row that it must give, empty if it was not worked out.
    """

    run: Callable[..., Any]
    inputs: tuple[Input, ...]
    sized: bool = False
    expected: str = ""


@st.composite
def inputs(
    draw: Callable[..., Any],
    shape: tuple[int, ...],
    fixed: tuple[int, ...] = (),
    *,
    or_parameter: bool = True,
) -> Input:
    """An activation that is zero along some dimensions, or (with `or_parameter`) a parameter."""
    if or_parameter and draw(st.integers(0, 2)) == 0:
        return Input(shape, True)
    zero = tuple(dim for dim in range(len(shape)) if draw(st.booleans()))
    return Input(shape, fixed=fixed, zero=zero)


def row(words: str, run: Callable[..., Any], *, sized: bool = False) -> Case:
    """Return a case with its labels worked out."""
    left, _ = words.split("->")
    inputs = []
    for tensor in left.split(","):
        star, dims = _split(tensor)
        fixed, zero = (
            tuple(dim for dim, word in enumerate(dims) if word.startswith(mark)) for mark in "!~"
        )
        inputs.append(Input(tuple(_size(word) for word in dims), bool(star), fixed, zero))
    return Case(run, tuple(inputs), sized, _canonical(words))


def _split(tensor: str) -> tuple[str, list[str]]:
    tensor = tensor.strip()
    star = "*" if tensor.startswith("*") else ""
    dims = tensor.removeprefix("*").split()
    return star, [] if dims == ["()"] else dims


def _size(word: str) -> int:
    word = word.lstrip("!~")
    return int(word) if word.isdigit() else len(word)


def _canonical(words: str) -> str:
    """Name the letters in order of appearance."""
    names: dict[str, str] = {".": "."}
    sides = []
    for side in words.split("->"):
        tensors = []
        for star, dims in map(_split, side.split(",")):
            known = []
            for word in dims:
                plain = word.lstrip("!~")
                if not plain.isdigit():
                    known.append(word[: -len(plain)])
                    plain = _word([names.setdefault(x, LETTERS[len(names) - 1]) for x in plain])
                    plain = known.pop() + plain
                known.append(plain)
            tensors.append(star + (" ".join(known) or "()"))
        sides.append(", ".join(tensors))
    return " -> ".join(sides)


def _word(letters: Sequence[str]) -> str:
    return str(len(letters)) if set(letters) <= {"."} else "".join(letters)


@dataclass
class Traced:
    """What tracing a case has found.

    Attributes:
        case: The case.
        tracer: The tracer.
        inputs: Labels of each input, as it was given.
        outputs: Labels of each tensor that came out.
        shapes: Their shapes.
        zero: Along which of their dimensions they were said to be zero where they are lost.
    """

    case: Case
    tracer: Tracer
    inputs: list[list[Label]]
    outputs: list[list[Label]]
    shapes: list[tuple[int, ...]]
    zero: list[frozenset[int]]

    def __str__(self) -> str:
        roots, reasons, _ = self.tracer.labels.classes()
        names: dict[int, str] = {}

        def word(label: Label, size: int, zero: bool) -> str:
            if isinstance(label, str):
                return str(size)
            own = [int(root) for root in roots[label]]
            found = _word(
                ["." if reasons[x] >= 0 else names.setdefault(x, LETTERS[len(names)]) for x in own]
            )
            return "~" + found if zero and not found.isdigit() else found

        def tensor(labels: list[Label], shape: Sequence[int], zero: Iterable[int]) -> str:
            dims = [word(label, shape[k], k in zero) for k, label in enumerate(labels)]
            return " ".join(dims) or "()"

        left = [
            "*" * given.parameter + tensor(labels, given.shape, given.zero)
            for given, labels in zip(self.case.inputs, self.inputs, strict=True)
        ]
        right = map(tensor, self.outputs, self.shapes, self.zero)
        return f"{', '.join(left)} -> {', '.join(right)}"


def values(case: Case, generator: torch.Generator) -> list[Tensor]:
    """Draw the inputs of a case."""
    return [
        torch.randn(given.shape, generator=generator, dtype=torch.float64) for given in case.inputs
    ]


def tensors_of(out: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def traced(case: Case, rules: Rules = RULES) -> Traced:
    """Run a case under the tracer."""
    tracer, model = Tracer(), nn.Module()
    given = values(case, torch.Generator().manual_seed(1))
    for k, spec in enumerate(case.inputs):
        if spec.parameter:
            given[k] = nn.Parameter(given[k])
            model.register_parameter(f"p{k}", given[k])
    tracer.adopt(model)
    for tensor, spec in zip(given, case.inputs, strict=True):
        if spec.parameter:
            continue
        tracer.assign(
            tensor,
            [
                "is fixed"
                if dim in spec.fixed
                else tracer.labels.new(size)
                if size > 1
                else "has a single position"
                for dim, size in enumerate(spec.shape)
            ],
        )
        tracer.set_zero(tensor, spec.zero)
    before = [tracer.of(tensor) for tensor in given]
    with torch.no_grad(), Functions(tracer, rules.functions), Recorder(tracer, rules):
        out = case.run(*given)
    leaves = tensors_of(out)
    after = [tracer.of(leaf) for leaf in leaves]
    zero = [tracer.zero(leaf) for leaf in leaves]
    tracer.labels.settle()
    return Traced(case, tracer, before, after, [tuple(leaf.shape) for leaf in leaves], zero)


def worked(case: Case) -> str:
    """Return the labels that tracing a case gives, to be compared with those expected."""
    found = traced(case)
    names = ", ".join(found.tracer.unknown)
    return f"no rule for {names}" if names else str(found)


def check_brute(case: Case, seed: int = 0, *, rules: Rules = RULES, trials: int = 3) -> int:
    """Lose positions at random and compare what is left; return how many were lost."""
    found = traced(case, rules)
    labels = found.tracer.labels
    roots, reasons, _ = labels.classes()
    random = np.random.default_rng(seed)
    every = [label for x in (*found.inputs, *found.outputs) for label in x]
    moving = [label for label in every if not isinstance(label, str)]
    free = [int(r) for r in np.unique(roots[np.concatenate([[], *moving]).astype(int)])]
    free = [root for root in free if reasons[root] < 0]
    total = 0
    for trial in range(trials if free else 0):
        lost = np.zeros(labels.size, dtype=bool)
        for root in random.permutation(free)[: 1 if trial == 0 else None]:
            more = labels.followers(np.append(np.flatnonzero(lost), root))
            if random.random() < 0.6 and all(not more[label].all() for label in moving):
                lost = more
        total += int(lost.sum())
        generator = torch.Generator().manual_seed(int(random.integers(1 << 30)))
        compare(case, found, lost, generator)
    return total


def compare(case: Case, found: Traced, lost: np.ndarray, generator: torch.Generator) -> None:
    """Compare the operation without what is lost to the operation with anything there."""

    def stays(labels: list[Label], shape: Sequence[int]) -> list[Tensor]:
        return [
            torch.ones(size, dtype=torch.bool)
            if isinstance(label, str)
            else torch.from_numpy(~lost[label])
            for label, size in zip(labels, shape, strict=True)
        ]

    def inside(kept: list[Tensor], dims: Iterable[int]) -> Tensor:
        mask = torch.ones([len(k) for k in kept], dtype=torch.bool)
        for dim in dims:
            mask &= kept[dim].view([-1 if d == dim else 1 for d in range(len(kept))])
        return mask

    def without(tensor: Tensor, kept: list[Tensor]) -> Tensor:
        for dim, k in enumerate(kept):
            tensor = tensor.index_select(dim, k.nonzero().ravel())
        return tensor

    drawn = values(case, generator)
    kept = [stays(x, given.shape) for x, given in zip(found.inputs, case.inputs, strict=True)]
    outcomes = []
    for _ in range(2):
        given = []
        for k, (value, keep, spec) in enumerate(zip(drawn, kept, case.inputs, strict=True)):
            every, unmasked = range(value.ndim), found.tracer.unmasked
            noise = 2 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
            zero = (
                [d for d in every if (f"p{k}", d) not in unmasked] if spec.parameter else spec.zero
            )
            value = torch.where(inside(keep, every), value, noise)
            given.append(torch.where(inside(keep, zero), value, 0.0))
        with torch.no_grad():
            outcomes.append([x.double().clone() for x in tensors_of(case.run(*given))])
    first, second = outcomes
    left = [stays(x, shape) for x, shape in zip(found.outputs, found.shapes, strict=True)]
    if case.sized:
        small = [without(x, keep) for x, keep in zip(first, left, strict=True)]
    else:
        parts = [without(x, keep) for x, keep in zip(drawn, kept, strict=True)]
        with torch.no_grad():
            small = [x.double() for x in tensors_of(case.run(*parts))]
    for a, b, c, keep, zero in zip(first, second, small, left, found.zero, strict=True):
        own = without(a, keep)
        assert own.shape == c.shape, "sizes do not follow the labels"
        assert torch.allclose(own, without(b, keep), **CLOSE), "depends on what is lost"
        assert torch.allclose(own, c, **CLOSE), "differs without what is lost"
        gone = a[~inside(keep, zero)]
        assert not (gone.isnan() | gone.ne(0)).any(), "is not zero where it is lost"


CLOSE = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}


def rules_of(family: ModuleType) -> set[str]:
    """Return the operations and functions that have their rule in a module."""
    every = {**RULES.operations, **RULES.functions}
    return {name for name, rule in every.items() if rule.__module__ == family.__name__}


def met(
    cases: Iterable[Case], change: Callable[[str, Any], Any] = lambda name, rule: rule
) -> set[str]:
    """Return the rules that the cases have called."""
    names: set[str] = set()

    def noted(name: str, rule: Any, *args: Any, **kwargs: Any) -> None:
        names.add(name)
        rule(*args, **kwargs)

    rules = Rules(
        {name: partial(noted, name, rule) for name, rule in RULES.operations.items()},
        {name: partial(noted, name, rule) for name, rule in RULES.functions.items()},
        RULES.keeps_zero,
    )
    for case in cases:
        traced(case, rules)
    return names


def unreachable(name: str) -> bool:
    """Say whether an operation is taken apart before it could be seen, or needs a GPU."""
    if name.startswith("cudnn"):
        return True
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    packet = getattr(torch.ops.aten, name, None)
    return packet is not None and all(
        has(
            getattr(packet, overload)._schema.name + f".{overload}" * (overload != "default"),
            "CompositeImplicitAutograd",
        )
        for overload in packet.overloads()
    )


def unnoticed(family: ModuleType, cases: Sequence[Case]) -> set[str]:
    """Return the rules of a family whose every flaw the brute force overlooks on these cases.

    The flaws: it forgets what the output's dimensions are, it joins nothing, it freezes nothing.
    """
    left = set()
    for name in sorted(rules_of(family)):
        own = [case for case in cases if name in met([case])]
        if not unreachable(name) and not any(_notices(own, name, flaw) for flaw in FLAWS.values()):
            left.add(name)
    return left


def _notices(cases: Iterable[Case], name: str, flaw: Callable[[Any], Any]) -> bool:
    def changed(rules: Any) -> dict[str, Any]:
        return {key: flaw(rule) if key == name else rule for key, rule in rules.items()}

    rules = Rules(changed(RULES.operations), changed(RULES.functions), RULES.keeps_zero)
    for case in cases:
        try:
            check_brute(case, rules=rules, trials=10)
        except (AssertionError, RuntimeError, IndexError, ValueError):
            return True
    return False


def _forgetful(rule: Any) -> Any:
    def flawed(tracer: Tracer, *args: Any, **kwargs: Any) -> None:
        rule(tracer, *args, **kwargs)
        for leaf in tensors_of(args[0].out if isinstance(args[0], Call) else args[0]):
            tracer.assign(leaf, [tracer.labels.new(n) if n > 1 else "is one" for n in leaf.shape])

    return flawed


def _without(method: str) -> Callable[[Any], Any]:
    def flaw(rule: Any) -> Any:
        def flawed(tracer: Tracer, *args: Any, **kwargs: Any) -> None:
            with mock.patch.object(tracer.labels, method, lambda *_: None):
                rule(tracer, *args, **kwargs)

        return flawed

    return flaw


FLAWS = {
    "forgets": _forgetful,
    "joins nothing": _without("join"),
    "freezes nothing": _without("freeze"),
}
