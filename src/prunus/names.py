"""What to say about a name that is not in a table."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'a' or 'b'?" for the names closest to `name`, or "" for none."""
    close = get_close_matches(name, list(known), n=3)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
