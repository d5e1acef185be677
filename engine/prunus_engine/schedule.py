"""What runs after what: layers in kernels, and between them parts of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from prunus_engine.layers import Layer
from prunus_engine.reading import Graph, reads

Item: TypeAlias = Layer | tuple[int, ...]
"""A layer that a kernel takes, or the nodes of one part."""


@dataclass(frozen=True)
class Chain:
    """Layers one after the other, with no part between them.

    Args:
        begin: The first item.
        end: One after the last item.
        images: Through how many times the chain goes, with one image each; 1 for all at once.
    """

    begin: int
    end: int
    images: int


def chains(items: Sequence[Item]) -> list[Chain]:
    """Return the longest chains whose layers take as many images each."""
    found: list[Chain] = []
    for at, item in enumerate(items):
        if not isinstance(item, Layer):
            continue
        last = found[-1] if found else None
        if last is not None and last.end == at and last.images == item.images:
            found[-1] = Chain(last.begin, at + 1, last.images)
        else:
            found.append(Chain(at, at + 1, item.images))
    return found


def without_loose_views(graph: Graph, layers: Sequence[Layer]) -> list[Layer]:
    """Leave out views of what no kernel makes, and those that the network returns."""
    made: set[str] = set()
    kept = []
    for layer in layers:
        if layer.kind == "view" and (layer.x not in made or layer.y in graph.outputs):
            continue
        if layer.kind == "view" and layer.x in graph.outputs:
            continue
        made.add(layer.y)
        kept.append(layer)
    return kept


def schedule(graph: Graph, layers: Sequence[Layer]) -> list[Item]:
    """Return what runs after what: layers, and between them as few parts as can be.

    Nodes of the rest are put together where no layer lies between them: they have even stages,
    layers odd ones, each as early as what it reads allows.
    """
    last = {layer.nodes[-1]: layer for layer in layers}
    covered = {index for layer in layers for index in layer.nodes}
    stages: dict[str, int] = {}
    rest: dict[int, list[int]] = {}
    kernels: dict[int, list[Layer]] = {}
    for index, node in enumerate(graph.nodes):
        if index in last:
            layer = last[index]
            before = max((stages.get(name, 0) for name in layer.reads), default=0)
            stage = before + 1 - before % 2
            stages[layer.y] = stage
            kernels.setdefault(stage, []).append(layer)
        elif index not in covered:
            before = max((stages.get(name, 0) for name in reads(node)), default=0)
            stage = before + before % 2
            stages.update(dict.fromkeys(node.output, stage))
            rest.setdefault(stage, []).append(index)
    items: list[Item] = []
    for stage in sorted({*rest, *kernels}):
        if stage in rest:
            items.append(tuple(rest[stage]))
        items += kernels.get(stage, [])
    return items
