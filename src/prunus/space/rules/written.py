"""Results that are written into a tensor given for them, `out=`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import wraps

from torch import Tensor

from prunus.space.labels import Label
from prunus.space.tracer import Call, Rule, Tracer


def written(rule: Rule) -> Rule:
    """Return the rule, also for the form with `out=`: what was in that tensor does not matter.

    The result is labelled as if it were new, and meets what the given tensor was known as before,
    because others may see the same memory. Nothing is said of its zeros.
    """

    @wraps(rule)
    def followed(tracer: Tracer, call: Call) -> None:
        given = call.arguments.get("out")
        if not isinstance(given, Tensor):
            rule(tracer, call)
            return
        before = tracer.of(given)
        filled = _fits(before, given)
        if tracer.origin(given) is not None or not (filled or _was_empty(before)):
            raise NotImplementedError  # a buffer, or memory that others may see was laid out anew
        arguments = {name: value for name, value in call.arguments.items() if name != "out"}
        rule(tracer, replace(call, arguments=arguments))
        for old, new in zip(before, tracer.of(given), strict=True) if filled else ():
            tracer.labels.join(old, new)
        tracer.overwrite(given)

    return followed


def _fits(labels: list[Label], tensor: Tensor) -> bool:
    """Say whether a tensor has the shape still that it was labelled in."""
    return len(labels) == tensor.ndim and all(
        isinstance(label, str) or len(label) == size
        for label, size in zip(labels, tensor.shape, strict=True)
    )


def _was_empty(labels: list[Label]) -> bool:
    """Say whether a tensor had no position, as `torch.empty(0)`, or one."""
    return labels == ["has a single position"]


def each_written(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Return rules that also know the form with `out=`."""
    return {name: written(rule) for name, rule in rules.items()}
