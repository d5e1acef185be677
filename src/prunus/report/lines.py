"""One line for what repeated blocks have in common."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from prunus.report.inspection import Inspection, Layer
from prunus.report.repeats import Entry, collapse, collapse_names


@dataclass(frozen=True)
class Line:
    """Layers, groups or frozen channels that differ in the number of their block only.

    Attributes:
        name: Such as "blocks.{0-11}.fc1".
        related: Of a group, what it is coupled with, without itself; else nothing.
        rows: Which ones, by position.
    """

    name: str
    related: tuple[str, ...]
    rows: tuple[int, ...]


def group_lines(found: Inspection, every: bool = False) -> list[Line]:
    """Make one line of the groups of repeated blocks, or with `every` a line of each."""
    if every:
        return [Line(g.name, g.coupled[1:], (k,)) for k, g in enumerate(found.groups)]
    entries = collapse(
        Entry(g.name, (g.coupled, g.readers), (g.units, g.positions, g.unit)) for g in found.groups
    )
    return [Line(e.name, tuple(collapse_names(e.related[0][1:])), e.rows) for e in entries]


def branch_lines(found: Inspection, every: bool = False) -> list[Line]:
    """Make one line of the branches of repeated blocks, or with `every` a line of each."""
    if every:
        return [Line(branch.name, (), (k,)) for k, branch in enumerate(found.branches)]
    return [
        Line(e.name, (), e.rows)
        for e in collapse(Entry(b.name, (), b.cost) for b in found.branches)
    ]


def frozen_lines(found: Inspection, every: bool = False) -> list[Line]:
    """Make one line of the frozen channels of repeated blocks, or with `every` a line of each."""
    if every:
        return [Line(kept.name, (), (k,)) for k, kept in enumerate(found.frozen)]
    entries = collapse(Entry(k.name, (), (k.channels, k.reason)) for k in found.frozen)
    return [Line(entry.name, (), entry.rows) for entry in entries]


def layer_lines(found: Inspection, groups: Sequence[Line]) -> list[Line]:
    """Make one line of the layers of repeated blocks, where those of the groups are `groups`."""
    line_of = {found.groups[row].name: line.name for line in groups for row in line.rows}
    kept = defaultdict(list)
    for part in found.frozen:
        kept[part.name].append((part.channels, part.reason))

    def entry(layer: Layer) -> Entry:
        made, read = (
            tuple(dict.fromkeys(line_of[name] for name in names))
            for names in (layer.makes, layer.reads)
        )
        facts = (layer.params, layer.macs, made, read, tuple(kept[layer.name]))
        return Entry(layer.name, (layer.tied,), facts)

    return [Line(e.name, (), e.rows) for e in collapse(map(entry, found.layers))]
