"""Identities of channels and how they merge.

Every position of every parameter dimension that could lose channels is an *atom*. Operations join
atoms that must be kept or removed together and freeze atoms that must stay. What ends up joined is
one *class*: the smallest thing that can be removed.

A dimension cut into several (the channels of a layer seen as heads times width) is a *grid*: its
cells can go row by row or column by column, not both. Which one is settled when everything that
meets the grid is known.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Atoms: TypeAlias = NDArray[np.int64]
Label: TypeAlias = Atoms | str
"""One tensor dimension: the atom of each position, or why this dimension has a fixed size."""

_FREE = np.iinfo(np.int32).max  # the reason of what is not frozen; smaller ones came earlier


@dataclass(frozen=True)
class Grid:
    """Positions laid out over several dimensions: one stays where all its coordinates do.

    Attributes:
        cells: The atom of each position, shape (a, b, ...).
        sides: The atoms of each dimension, shapes (a,), (b,), ...
    """

    cells: Atoms
    sides: tuple[Atoms, ...]

    def rows(self, dim: int) -> Atoms:
        """Return the cells as (size of `dim`, everything else)."""
        return np.moveaxis(self.cells, dim, 0).reshape(self.cells.shape[dim], -1)


class Labels:
    """A union-find over atoms, vectorised, with a reason for every class that may not go.

    Args:
        inside: Let grids rather move along those sides that yield to others otherwise.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self.inside = inside
        self._parent = np.arange(1024, dtype=np.int64)
        self._reason = np.full(1024, _FREE, dtype=np.int32)
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._yielding: list[Atoms] = []
        self._repeated: list[Atoms] = []
        self._moving: list[int] = []
        self._unsettled: list[Grid] = []
        self._by_cell: dict[int, Grid] = {}
        self._by_side: dict[int, Grid] = {}
        self.grids: list[Grid] = []
        self.size = 0

    def new(self, count: int) -> Atoms:
        """Return `count` fresh atoms, each its own class."""
        while self.size + count > len(self._parent):
            self._parent = np.concatenate(
                [self._parent, np.arange(len(self._parent), 2 * len(self._parent))]
            )
            self._reason = np.concatenate([self._reason, np.full_like(self._reason, _FREE)])
        atoms = np.arange(self.size, self.size + count)
        self.size += count
        return atoms

    def find(self, atoms: Atoms) -> Atoms:
        """Return the class of each atom: its smallest member."""
        root = self._parent[atoms]
        while True:
            above = self._parent[root]
            if (above == root).all():
                self._parent[atoms] = root
                return root
            root = above

    def join(self, first: Label, second: Label) -> None:
        """Let the two dimensions live and die together, position by position.

        Arrays may broadcast against each other. A dimension of fixed size freezes the other one.
        """
        if isinstance(first, str) or isinstance(second, str):
            for label, other in ((first, second), (second, first)):
                if isinstance(other, str):
                    self.freeze(label, other)
            return
        if first is second:
            return
        a, b = np.broadcast_arrays(first, second)
        a, b = self.find(a.ravel()), self.find(b.ravel())
        while (apart := a != b).any():
            a, b = a[apart], b[apart]
            kept, lost = np.minimum(a, b), np.maximum(a, b)
            self._parent[lost] = kept
            np.minimum.at(self._reason, kept, self._reason[lost])
            a, b = self.find(a), self.find(b)
            np.minimum.at(self._reason, a, self._reason[kept])

    def freeze(self, label: Label, reason: str) -> None:
        """Keep every position of `label`; the first reason given is the one reported."""
        if isinstance(label, str):
            return
        number = self._numbers.setdefault(reason, len(self._texts))
        if number == len(self._texts):
            self._texts.append(reason)
        roots = self.find(label.ravel())
        self._reason[roots] = np.minimum(self._reason[roots], number)

    def cut(self, cells: Atoms) -> list[Atoms]:
        """Return the labels of the dimensions into which one is cut.

        Args:
            cells: The dimension's atoms in their new shape, all sizes above one.
        """
        known = self._by_cell.get(int(cells.flat[0]))
        if known is not None and np.array_equal(known.cells, cells):
            return list(known.sides)
        grid = Grid(cells, tuple(self.new(size) for size in cells.shape))
        self._note(grid)
        return list(grid.sides)

    def flatten(self, sides: Sequence[Atoms]) -> Atoms:
        """Return the label of several moving dimensions flattened into one."""
        known = self._by_side.get(int(sides[0][0]))
        if (
            known is not None
            and len(known.sides) == len(sides)
            and all(map(np.array_equal, known.sides, sides))
        ):
            return known.cells.ravel()
        shape = [len(side) for side in sides]
        grid = Grid(self.new(prod(shape)).reshape(shape), tuple(sides))
        self._note(grid)
        return grid.cells.ravel()

    def yield_to_others(self, label: Label) -> None:
        """Let grids rather move along another side than this one, where both would do."""
        if not isinstance(label, str):
            self._yielding.append(label.ravel())

    def any_yielding_free(self) -> bool:
        """Say whether anything that yields to others, such as the width of a head, may go."""
        return any(bool(self.free(label).any()) for label in self._yielding)

    def repeated(self, count: int) -> Atoms:
        """Return atoms of equal repetitions: grids move along them where nothing else tells."""
        atoms = self.new(count)
        self._repeated.append(atoms)
        return atoms

    def _note(self, grid: Grid) -> None:
        self._by_cell[int(grid.cells.flat[0])] = grid
        self._by_side[int(grid.sides[0][0])] = grid
        self._unsettled.append(grid)
        self.grids.append(grid)

    def settle(self) -> None:
        """Decide along which of its sides each grid may lose positions; the others stay.

        A grid with one side left takes that. Of several it takes one along which others move
        already, then the one that most grids share (a head is seen by queries, keys, values and
        outputs), rather none of mere repetitions, then the longest, then the innermost.
        """
        waiting, self._unsettled = self._unsettled, []
        for grids in self._related(waiting):
            self._settle(grids)

    def _settle(self, waiting: list[Grid]) -> None:
        firsts = np.array([side[0] for grid in waiting for side in grid.sides], dtype=np.int64)
        while waiting:
            left = []
            for grid in waiting:
                sides = self._open(grid)
                if len(sides) > 1:
                    left.append(grid)
                else:
                    self._move_along(grid, sides)
            if len(left) == len(waiting):  # nothing was forced: choose for one
                shared = Counter(self.find(firsts).tolist())
                moving = set(self.find(np.array(self._moving, dtype=np.int64)).tolist())
                ranks = [(max(self._ranked(grid, moving, shared)), grid) for grid in left]
                best, chosen = max(ranks, key=lambda ranked: ranked[0][:2])
                left = [grid for grid in left if grid is not chosen]
                self._move_along(chosen, [best[-1]])
            waiting = left

    def _related(self, grids: list[Grid]) -> list[list[Grid]]:
        """Sort grids into sets that share no class which may go, so that each decides alone."""
        if not grids:
            return []
        parts = [np.concatenate([g.cells.ravel(), *g.sides]) for g in grids]
        roots = self.find(np.concatenate(parts))
        number = np.repeat(np.arange(len(grids)), [len(part) for part in parts])
        free = self._reason[roots] == _FREE
        roots, number = roots[free], number[free]
        of_grid = np.arange(len(grids))
        of_root = np.full(self.size, len(grids))
        while True:  # the smallest number among all that are related spreads
            np.minimum.at(of_root, roots, of_grid[number])
            smallest = of_grid.copy()
            np.minimum.at(smallest, number, of_root[roots])
            smallest = smallest[smallest]
            if (smallest == of_grid).all():
                break
            of_grid = smallest
        related: dict[int, list[Grid]] = {}
        for grid, first in zip(grids, of_grid.tolist(), strict=True):
            related.setdefault(first, []).append(grid)
        return list(related.values())

    def _ranked(
        self, grid: Grid, moving: set[int], shared: Counter[int]
    ) -> list[tuple[bool, bool, int, bool, int, int]]:
        """Return how well the grid could move along each of its open sides, the side last."""
        ranks = []
        for dim in self._open(grid):
            root = int(self.find(grid.sides[dim][:1])[0])
            yields = self._has(self._yielding, root)
            moves, repeats = root in moving, self._has(self._repeated, root)
            first = (yields, moves) if self.inside else (moves, not yields)
            ranks.append((*first, shared[root], not repeats, len(grid.sides[dim]), dim))
        return ranks

    def _has(self, marked: list[Atoms], root: int) -> bool:
        """Say whether a class holds one of the atoms marked."""
        return bool(marked) and bool((self.find(np.concatenate(marked)) == root).any())

    def _open(self, grid: Grid) -> list[int]:
        """Return the sides along which the grid could lose positions."""
        dims = range(grid.cells.ndim)
        if not self.free(grid.cells).any():
            return []
        for dim in dims:  # along this one it already moves: nothing is lost by taking it
            rows = self.find(grid.rows(dim))
            if (rows == rows[:, :1]).all():
                return [dim]
        return [dim for dim in dims if self.free(grid.sides[dim]).any()]

    def _move_along(self, grid: Grid, sides: list[int]) -> None:
        if not sides:
            self.freeze(grid.cells, "is cut into dimensions that are all fixed")
        for dim, side in enumerate(grid.sides):
            if dim in sides:
                self.join(grid.rows(dim), side[:, None])
                self._moving.append(int(side[0]))
            else:
                self.freeze(side, "is one of the dimensions that another was cut into")

    def free(self, atoms: Atoms) -> NDArray[np.bool_]:
        """Say of each atom whether its class may go."""
        found: NDArray[np.bool_] = self._reason[self.find(atoms)] == _FREE
        return found

    def classes(self) -> tuple[Atoms, Atoms, list[str]]:
        """Resolve everything.

        Returns:
            The class of each atom, shape (atoms,); for each atom taken as a class the number of the
            reason why it is frozen, -1 where it is not, shape (atoms,); and the reasons.
        """
        self.settle()
        roots = self.find(np.arange(self.size))
        reasons = self._reason[: self.size].astype(np.int64)
        reasons[reasons == _FREE] = -1
        return roots, reasons, list(self._texts)

    def followers(self, gone: Atoms) -> NDArray[np.bool_]:
        """Return for each atom whether it goes when the classes of `gone` do.

        A cell goes with any of its coordinates, a coordinate when all its cells are gone.
        """
        lost = np.zeros(self.size, dtype=bool)
        lost[self.find(gone)] = True
        while True:
            before = int(lost.sum())
            for grid in self.grids:
                cells, sides = self.find(grid.cells), [self.find(side) for side in grid.sides]
                for dim, side in enumerate(sides):
                    rows = lost[np.moveaxis(cells, dim, 0).reshape(len(side), -1)]
                    lost[side[rows.all(axis=1)]] = True
                    lost[np.moveaxis(cells, dim, 0)[lost[side]]] = True
            if int(lost.sum()) == before:
                return lost[self.find(np.arange(self.size))]
