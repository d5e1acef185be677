"""Where everything goes in the drawing of a network: a row per layer, a band per group.

Like the graph of a version history: time runs down, and each group has a lane from the first layer
that makes or reads it to the last. Lanes are used again once free.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prunus.report.inspection import Group, Inspection, Layer
from prunus.report.lines import Line
from prunus.report.quantities import count

COLOURS = 6
"""Colours of the page for bands."""

_ROW, _LANE = 24, 18  # pixels
_LETTER, _BAR, _GAP = 6.8, 60, 12
_LABEL = 48  # characters of a name


@dataclass(frozen=True)
class Dot:
    """Where a layer meets a band; `made` if it makes the units, else it reads them."""

    x: int
    colour: int
    made: bool


@dataclass(frozen=True)
class Note:
    """Words behind a row in a band's colour; grey without one."""

    text: str
    colour: int | None


@dataclass(frozen=True)
class Row:
    """One line of layers.

    Attributes:
        y: Its middle.
        label: Its name, shortened in front.
        name: Its name.
        repeats: How many layers it stands for.
        bar: Its share of the multiply-accumulates of the largest row, in [0, 1].
        title: What to say of it to those who point at it.
        grey: Whether nothing that it makes can go.
        stays: Whether something that it makes cannot.
        dots: Where it meets bands.
        notes: What begins here, and what stays.
    """

    y: int
    label: str
    name: str
    repeats: int
    bar: float
    title: str
    grey: bool
    stays: bool
    dots: tuple[Dot, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Band:
    """One line of groups, from its first row to its last."""

    name: str
    x: int
    top: int
    bottom: int
    colour: int
    title: str


@dataclass(frozen=True)
class Drawing:
    """The whole, in pixels."""

    width: int
    height: int
    row: int
    bar: int
    bar_x: int
    note_x: int
    rows: tuple[Row, ...]
    bands: tuple[Band, ...]


def draw(found: Inspection, layers: Sequence[Line], groups: Sequence[Line]) -> Drawing:
    """Lay out the layers of `layers` and the groups of `groups`, lines of the same inspection."""
    line_of = {found.groups[row].name: k for k, line in enumerate(groups) for row in line.rows}
    first = [found.layers[line.rows[0]] for line in layers]
    made = [_unique(line_of[name] for name in layer.makes) for layer in first]
    read = [_unique(line_of[name] for name in layer.reads) for layer in first]
    met: dict[int, list[int]] = defaultdict(list)
    for row in range(len(layers)):
        for group in (*made[row], *read[row]):
            met[group].append(row)
    places = _places({group: (rows[0], rows[-1]) for group, rows in met.items()})
    lanes = max((lane for lane, _ in places.values()), default=-1) + 1
    bar_x = 2 * _GAP + round(_LETTER * max((_letters(line) for line in layers), default=0))
    lane_x = bar_x + _BAR + 2 * _GAP
    note_x = lane_x + _LANE * lanes + 2 * _GAP
    bands = tuple(
        Band(
            groups[group].name,
            lane_x + _LANE * places[group][0],
            _middle(rows[0]),
            _middle(rows[-1]),
            places[group][1],
            _band_title(groups[group], [found.groups[row] for row in groups[group].rows]),
        )
        for group, rows in met.items()
    )
    of_group = dict(zip(met, bands, strict=True))
    kept = defaultdict(list)
    for part in found.frozen:
        kept[part.name].append(part)
    whole = [sum(found.layers[k].macs for k in line.rows) for line in layers]
    told: set[int] = set()
    rows = []
    for k, (line, layer) in enumerate(zip(layers, first, strict=True)):
        notes = [
            Note(
                _unit_note(groups[group], found.groups[groups[group].rows[0]]),
                of_group[group].colour,
            )
            for group in made[k]
            if group not in told
        ]
        told.update(made[k])
        notes += [
            Note(f"{part.channels} stay: each {part.reason}", None)
            for part in kept.get(layer.name, ())
        ]
        dots = [
            Dot(of_group[group].x, of_group[group].colour, group in made[k])
            for group in _unique([*made[k], *read[k]])
        ]
        rows.append(
            Row(
                y=_middle(k),
                label=_shortened(line.name),
                name=line.name,
                repeats=len(line.rows),
                bar=whole[k] / max(1, *whole),
                title=_row_title(line, layer),
                grey=not made[k] and layer.name in kept,
                stays=layer.name in kept,
                dots=tuple(dots),
                notes=tuple(notes),
            )
        )
    longest = max((sum(len(n.text) + 3 for n in row.notes) for row in rows), default=0)
    width = round(note_x + _LETTER * longest) + _GAP
    return Drawing(width, _ROW * len(rows), _ROW, _BAR, bar_x, note_x, tuple(rows), bands)


def _unique(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(numbers))


def _middle(row: int) -> int:
    return _ROW * row + _ROW // 2


def _places(spans: dict[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Give each span (first row, last row) the first free lane, and a colour unlike its neighbours.

    Returns:
        Lane and colour of each.
    """
    ends: list[int] = []  # of the last span in each lane, and its colour
    colours: list[int] = []
    places: dict[int, tuple[int, int]] = {}
    # of those that begin together, the longest comes first and stays on the outside
    for key, (begin, end) in sorted(spans.items(), key=lambda one: (one[1][0], -one[1][1])):
        lane = next((k for k, last in enumerate(ends) if last < begin), len(ends))
        turn = [(len(places) + k) % COLOURS for k in range(COLOURS)]
        beside = {c for k, c in enumerate(colours) if abs(k - lane) <= 1}
        live = {c for last, c in zip(ends, colours, strict=True) if last >= begin}
        colour = min(turn, key=lambda c: (c in beside, c in live))  # the first in turn of the best
        ends[lane : lane + 1], colours[lane : lane + 1] = [end], [colour]
        places[key] = lane, colour
    return places


def _letters(line: Line) -> int:
    repeats = len(f" x {len(line.rows)}") if len(line.rows) > 1 else 0
    return len(_shortened(line.name)) + repeats + 1


def _unit_note(line: Line, group: Group) -> str:
    several = f"{len(line.rows)} groups of " if len(line.rows) > 1 else ""
    params, macs = count(group.unit.params), count(group.unit.macs)
    return f"{several}{group.units} units, each {params} parameters, {macs} MACs"


def _band_title(line: Line, groups: Sequence[Group]) -> str:
    first = groups[0]
    text = f"{line.name}: {first.units} units"
    if len(groups) > 1:
        text = f"{line.name}: {len(groups)} groups of {first.units} units"
    text += f", each {first.unit.params:,} parameters and {first.unit.macs:,} MACs"
    return f"{text}; made together with {', '.join(line.related)}" if line.related else text


def _row_title(line: Line, layer: Layer) -> str:
    several = f"{len(line.rows)} layers, each " if len(line.rows) > 1 else ""
    text = f"{line.name}: {several}{layer.params:,} parameters, {layer.macs:,} MACs"
    return f"{text}; weights shared with {', '.join(layer.tied)}" if layer.tied else text


def _shortened(name: str) -> str:
    if len(name) <= _LABEL:
        return name
    _, dot, rest = name[-_LABEL:].partition(".")
    return f"…{rest}" if dot else f"…{name[1 - _LABEL :]}"
