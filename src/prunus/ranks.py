"""Processes that work on one thing together: ranks, as torchrun starts them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import distributed

from prunus.errors import RankError

T = TypeVar("T")


def alone() -> bool:
    """Whether there are no other ranks."""
    there = distributed.is_available() and distributed.is_initialized()
    return not there or distributed.get_world_size() == 1


def first() -> bool:
    """Whether this is the first rank, which alone writes, measures and speaks."""
    return alone() or distributed.get_rank() == 0


def from_first(do: Callable[[], T]) -> T:
    """Let the first rank do something, and return what came of it on every rank.

    All ranks must call it. What is done must not wait for other ranks.

    Args:
        do: Returns what pickle can send to the other processes; called on the first rank only.

    Raises:
        RankError: It failed, on the other ranks; on the first, its own error.
    """
    if alone():
        return do()
    failed: Exception | None = None
    sent: list[Any] = [None, ""]
    if first():
        try:
            sent[0] = do()
        except Exception as error:
            failed, sent[1] = error, f"{type(error).__name__}: {error}"
    distributed.broadcast_object_list(sent, 0)
    if failed is not None:
        raise failed
    if sent[1]:
        raise RankError(f"the first rank failed with {sent[1]}")
    return cast(T, sent[0])
