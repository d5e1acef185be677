"""Repeated blocks in one line: blocks.0.fc1 to blocks.11.fc1 become blocks.{0-11}.fc1."""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

_NUMBERED = re.compile(r"(?P<before>[^{}]*?)(?P<value>0|[1-9]\d*)(?P<after>|\[[^]]*\])")
_NUMBER = re.compile(r"(0|[1-9]\d*)(?=[.\[]|$)")
_MARK = "\0"  # encloses an offset from the block's own number; in no name


@dataclass(frozen=True)
class Entry:
    """One line, or several that differ in the number of their block only.

    Attributes:
        name: Where it is, such as "blocks.0.fc1"; of several, "blocks.{0-11}.fc1".
        related: Names it is told with; those in the same block, or one so many further, are alike.
        facts: What must be the same for lines to be one.
        rows: Which of the lines given to `collapse`, by position.
    """

    name: str
    related: tuple[tuple[str, ...], ...] = ()
    facts: Hashable = None
    rows: tuple[int, ...] = ()


def collapse(entries: Iterable[Entry]) -> list[Entry]:
    """Make one line of those that differ in a number only, each where its first was.

    The number must end a part of the name between dots. Inner blocks come first, so that stages of
    different depth, each of equal blocks, become a line per stage.
    """
    lines = [Entry(e.name, e.related, e.facts, (k,)) for k, e in enumerate(entries)]
    deepest = max((line.name.count(".") for line in lines), default=0)
    for part in reversed(range(deepest + 1)):
        lines = _merged(lines, part)
    return lines


def collapse_names(names: Iterable[str]) -> list[str]:
    """Shorten a list of names: ["a.0.b", "a.1.b", "c"] becomes ["a.{0,1}.b", "c"]."""
    return [line.name for line in collapse(map(Entry, names))]


def _merged(lines: Sequence[Entry], part: int) -> list[Entry]:
    families: dict[Hashable, dict[int, Entry]] = {}
    for k, line in enumerate(lines):
        parts = line.name.split(".")
        found = _NUMBERED.fullmatch(parts[part]) if part < len(parts) else None
        if found is None:
            families[k] = {0: line}
            continue
        before = ".".join([*parts[:part], found["before"]])
        after = ".".join([found["after"], *parts[part + 1 :]])
        value = int(found["value"])
        related = tuple(
            tuple(_relative(name, before, value) for name in names) for names in line.related
        )
        families.setdefault((before, after, related, line.facts), {})[value] = line
    merged = []
    for key, family in families.items():
        first = next(iter(family.values()))
        if len(family) == 1 or not isinstance(key, tuple):
            merged.append(first)
            continue
        before, after, related, _ = key
        values = sorted(family)
        merged.append(
            Entry(
                f"{before}{_braces(values)}{after}",
                tuple(tuple(_absolute(name, values) for name in names) for names in related),
                first.facts,
                tuple(sorted(row for line in family.values() for row in line.rows)),
            )
        )
    return merged


def _relative(name: str, before: str, value: int) -> str:
    """Write the number after `before` as its distance from `value`."""
    found = _NUMBER.match(name, len(before)) if name.startswith(before) else None
    if found is None:
        return name
    return f"{before}{_MARK}{int(found[1]) - value}{_MARK}{name[found.end() :]}"


def _absolute(name: str, values: Sequence[int]) -> str:
    before, mark, rest = name.partition(_MARK)
    if not mark:
        return name
    offset, _, after = rest.partition(_MARK)
    return f"{before}{_braces([value + int(offset) for value in values])}{after}"


def _braces(values: Sequence[int]) -> str:
    """Write sorted numbers as in a shell: [0, 1, 2, 5] is "{0-2,5}"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs]
    return f"{{{','.join(texts)}}}"
