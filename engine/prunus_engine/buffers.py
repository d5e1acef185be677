"""Memory for what passes between layers and parts, used again once nothing reads it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunus_engine._engine import Program
from prunus_engine.layers import Layer
from prunus_engine.reading import Graph
from prunus_engine.rest import edges
from prunus_engine.schedule import Chain, Item


@dataclass
class _Life:
    made: int
    read: int


class Buffers:
    """Memory for what passes between layers and parts.

    What a chain that goes image by image makes and reads itself has memory for one image only.

    Attributes:
        fresh: Names whose memory is another in each run: what the network takes and returns.
    """

    def __init__(
        self, graph: Graph, program: Program, items: Sequence[Item], chains: Sequence[Chain]
    ) -> None:
        self._graph, self._program = graph, program
        self._roots: dict[str, str] = {}
        self._sums: dict[str, str] = {}  # what is made -> what is added to it
        self._numbers: dict[str, int] = {}
        self.fresh: set[str] = set(graph.inputs)
        lives = self._lives(items)
        self.fresh.update(name for name in graph.outputs if graph.is_float(name))
        self._outside = [
            name for name in sorted(self._by_kernels(items) & self.fresh) if graph.is_float(name)
        ]
        for name in self._outside:
            self._numbers[name] = program.buffer(self._size(name), outside=True)
        lives = {name: life for name, life in lives.items() if name not in self.fresh}
        self._images = self._single(lives, chains)
        self._share(lives)

    def of(self, name: str) -> int:
        """Return the number of a buffer."""
        return self._numbers[self._root(name)]

    def holds(self, name: str) -> bool:
        """Say whether a name has a buffer, rather than passing from part to part."""
        return self._root(name) in self._numbers

    def view(self, name: str) -> NDArray[np.float32]:
        """Return a buffer as an array of a name's shape."""
        array: NDArray[np.float32] = self._program.view(self.of(name))
        return array[: self._size(name)].reshape(self._graph.shapes[name])

    def apart(self, name: str, images: int) -> int:
        """Return how far apart images of a name lie in its buffer."""
        return 0 if self._root(name) in self._images else self._size(name) // images

    def outside(self) -> Iterable[tuple[str, int]]:
        """Yield the names, and the buffers, that are bound before each run."""
        return ((name, self._numbers[name]) for name in self._outside)

    def _root(self, name: str) -> str:
        while name in self._roots:
            name = self._roots[name]
        return name

    def _size(self, name: str) -> int:
        return int(np.prod(self._graph.shapes[name], dtype=np.int64))

    def _held(self, name: str) -> int:
        return self._size(name) // self._images.get(name, 1)

    def _single(self, lives: Mapping[str, _Life], chains: Sequence[Chain]) -> dict[str, int]:
        """Return what lives within one image of a chain, and of how many; mend the other lives.

        What comes in or goes out is there from the first image to the last.
        """
        within = {at: chain for chain in chains for at in range(chain.begin, chain.end)}
        single = {}
        for name, life in lives.items():
            made, read = within.get(life.made), within.get(life.read)
            if made is not None and made is read and life.read > life.made:
                single[name] = made.images
                continue
            if made is not None and made.images > 1:
                life.made = made.begin
            if read is not None and read.images > 1:
                life.read = read.end - 1
        return {name: images for name, images in single.items() if images > 1}

    def _by_kernels(self, items: Sequence[Item]) -> set[str]:
        layers = [item for item in items if isinstance(item, Layer)]
        return {self._root(name) for layer in layers for name in (*layer.reads, layer.y)}

    def _lives(self, items: Sequence[Item]) -> dict[str, _Life]:
        """Return when each name is made and last read, those that views are of for their views."""
        lives: dict[str, _Life] = {}
        for at, item in enumerate(items):
            if isinstance(item, Layer):
                if item.kind == "view":
                    self._roots[item.y] = item.x
                    continue
                given: tuple[str, ...] = item.reads
                made: tuple[str, ...] = (item.y,)
            else:
                given, made = edges(self._graph, item)
            for name in given:
                if self._root(name) in lives:
                    lives[self._root(name)].read = at
            for name in made:
                if self._graph.is_float(name):
                    lives[name] = _Life(at, at)
            if isinstance(item, Layer) and item.kind in ("conv", "depthwise") and item.residual:
                added = self._root(item.residual)
                if added != self._root(item.x):  # all of which each output may read
                    self._sums[item.y] = added
        return lives

    def _share(self, lives: Mapping[str, _Life]) -> None:
        """Give each name the smallest free buffer that holds it, or a new one.

        A sum takes the place of what is added, if nothing reads that later: memory that has just
        been read is written faster.
        """
        free: list[int] = []
        ends: list[tuple[int, int]] = []
        for name, life in sorted(lives.items(), key=lambda pair: pair[1].made):
            free += [number for end, number in ends if end < life.made]
            ends = [(end, number) for end, number in ends if end >= life.made]
            added = lives.get(self._sums.get(name, ""))
            fits = [n for n in free if self._sizes(n) >= self._held(name)]
            alike = (name in self._images) == (self._sums.get(name) in self._images)
            if added is not None and added.read == life.made and alike:
                number = self._numbers[self._sums[name]]
                ends.remove((life.made, number))
            elif fits:
                number = min(fits, key=self._sizes)
                free.remove(number)
            else:
                number = self._program.buffer(self._held(name))
            self._numbers[name] = number
            ends.append((life.read, number))

    def _sizes(self, number: int) -> int:
        return len(self._program.view(number))
