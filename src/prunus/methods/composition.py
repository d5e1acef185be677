"""A method in words: its answer to each of the six questions."""

from dataclasses import fields, is_dataclass
from typing import Any

from prunus.methods.base import Method
from prunus.schedules import Schedule
from prunus.space import Branches, Structured, WholeGroups
from prunus.types import Target

QUESTIONS: dict[str, tuple[str, ...]] = {
    "what can go": ("granularity",),
    "how important": ("criterion", "rounds"),
    "which stay": ("selector", "target"),
    "when": ("schedule", "before_training"),
    "what a mask does": ("masking", "penalty", "temporary"),
    "how accuracy comes back": ("distillation", "recalibrates", "rewind"),
}
"""Question -> the fields of `Method` that answer it."""

_ALWAYS = ("granularity", "criterion", "selector", "schedule", "masking")


def composition(method: Method) -> dict[str, str]:
    """Return question -> the choices that answer it, each as one would write it in Python."""
    defaults = {field.name: field.default for field in fields(Method)}
    answers = {}
    for question, names in QUESTIONS.items():
        said = []
        for name in names:
            value = getattr(method, name)
            if name in _ALWAYS:
                said.append(written(value))
            elif value != defaults[name]:
                words = name.replace("_", " ")
                said.append(words if value is True else f"{words} = {written(value)}")
        answers[question] = ", ".join(said) or "fine-tuning"
    return answers


def removes(method: Method) -> str:
    """Return what goes, in the plural: weights, kernels, channels, groups or branches."""
    named = {Structured: "channels", WholeGroups: "groups", Branches: "branches"}
    granularity = method.granularity
    return named.get(type(granularity)) or f"{getattr(granularity, 'unit', 'unit')}s"


def written(value: Any) -> str:
    """Return a choice as one would write it: its class, and the fields that are not defaults."""
    if value is None:
        return "-"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Schedule):
        return _when(value)
    if not is_dataclass(value) or isinstance(value, Target):
        plain = type(value).__repr__ is not object.__repr__ and not callable(value)
        return repr(value) if plain else getattr(value, "__name__", type(value).__name__)
    said = [
        f"{field.name}={written(getattr(value, field.name))}"
        for field in fields(value)
        if not _is_default(field, getattr(value, field.name))
    ]
    return f"{type(value).__name__}({', '.join(said)})"


def _when(schedule: Schedule) -> str:
    if schedule.curve == "one_shot":
        return "once" if schedule.begin == "0it" else f"once, after {schedule.begin}"
    return f"{schedule.curve} from {schedule.begin} to {schedule.end}, every {schedule.every}"


def _is_default(field: Any, value: Any) -> bool:
    if callable(field.default_factory):
        return bool(field.default_factory() == value)
    return bool(field.default == value)
