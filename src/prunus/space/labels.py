"""Identities of channels and how they merge.

Every position of every parameter dimension that could lose channels is an *atom*. Operations join
atoms that must be kept or removed together and freeze atoms that must stay. What ends up joined is
one *class*: the smallest thing that can be removed.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Atoms: TypeAlias = NDArray[np.int64]
Label: TypeAlias = Atoms | str
"""One tensor dimension: the atom of each position, or why this dimension has a fixed size."""


class Labels:
    """A union-find over atoms, vectorised, with a reason for every atom that may not go."""

    def __init__(self) -> None:
        self._parent = np.arange(1024, dtype=np.int64)
        self._reason = np.zeros(1024, dtype=np.int32)
        self._texts: list[str] = [""]
        self._numbers: dict[str, int] = {"": 0}
        self.size = 0

    def new(self, count: int) -> Atoms:
        """Return `count` fresh atoms, each its own class."""
        while self.size + count > len(self._parent):
            self._parent = np.concatenate(
                [self._parent, np.arange(len(self._parent), 2 * len(self._parent))]
            )
            self._reason = np.concatenate([self._reason, np.zeros_like(self._reason)])
        atoms = np.arange(self.size, self.size + count)
        self.size += count
        return atoms

    def find(self, atoms: Atoms) -> Atoms:
        """Return the class of each atom: its smallest member."""
        root = self._parent[atoms]
        while True:
            above = self._parent[root]
            if np.array_equal(above, root):
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
        a, b = np.broadcast_arrays(first, second)
        a, b = self.find(a.ravel()), self.find(b.ravel())
        while (apart := a != b).any():
            a, b = a[apart], b[apart]
            self._parent[np.maximum(a, b)] = np.minimum(a, b)
            a, b = self.find(a), self.find(b)

    def freeze(self, label: Label, reason: str) -> None:
        """Keep every position of `label`; the first reason given is the one reported."""
        if isinstance(label, str):
            return
        number = self._numbers.setdefault(reason, len(self._texts))
        if number == len(self._texts):
            self._texts.append(reason)
        flat = label.ravel()
        untouched = flat[self._reason[flat] == 0]
        self._reason[untouched] = number

    def classes(self) -> tuple[Atoms, list[str]]:
        """Resolve everything.

        Returns:
            The class of each atom, shape (atoms,), and for each atom taken as a class the reason
            why it is frozen, empty where it is not.
        """
        roots = self.find(np.arange(self.size))
        earliest = np.full(self.size, len(self._texts), dtype=np.int64)
        held = np.flatnonzero(self._reason[: self.size])
        np.minimum.at(earliest, roots[held], self._reason[held])
        texts = [*self._texts, ""]
        return roots, [texts[number] for number in earliest]


def outer(labels: Sequence[Label], sizes: Sequence[int], labels_store: Labels) -> Label:
    """Return the label of several adjacent dimensions flattened into one.

    Args:
        labels: One label per dimension, outermost first.
        sizes: Their sizes.
        labels_store: Where dimensions that cannot be expressed are frozen: at most one of the
            flattened dimensions keeps its identity, the innermost.
    """
    moving = [k for k, label in enumerate(labels) if not isinstance(label, str)]
    if not moving:
        return labels[0] if labels else "has a fixed size"
    *others, kept = moving
    for k in others:
        labels_store.freeze(labels[k], "is flattened together with another dimension")
    shape = [-1 if k == kept else 1 for k in range(len(sizes))]
    return np.broadcast_to(np.reshape(labels[kept], shape), sizes).ravel()
