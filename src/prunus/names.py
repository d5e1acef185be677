"""What to say about a name that is not in a table, or not among the arguments."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import Any, TypeVar

Make = TypeVar("Make", bound=Callable[..., Any])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'a' or 'b'?" for the names closest to `name`, or "" for none."""
    close = get_close_matches(name, list(known), n=3)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def naming(make: Make) -> Make:
    """Let a function, or a class in place, say which keyword arguments it has when given another.

    Raises:
        TypeError: When called so; naming the argument, similar ones and all there are.
    """
    call: Any = vars(make)["__init__"] if isinstance(make, type) else make
    known = [name for name in signature(call).parameters if name != "self"]

    @wraps(call)
    def called(*args: Any, **named: Any) -> Any:
        for name in named:
            if name not in known:
                raise TypeError(
                    f"{make.__name__} has no {name!r}.{did_you_mean(name, known)} It has "
                    f"{', '.join(known)}."
                )
        return call(*args, **named)

    if not isinstance(make, type):
        return called  # type: ignore[return-value]
    make.__init__ = called  # type: ignore[misc]
    return make
