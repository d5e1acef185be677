"""Tables written down: as TOML, and as a short text that stands for them."""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def to_toml(tables: Mapping[str, Any]) -> str:
    """Return the TOML text of tables; TOML has no None, so that keys of None are left out."""
    return "\n".join(_toml(tables)) + "\n"


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name every leaf by its path, as `--set` on the command line takes it."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{_key(name)}.")
        else:
            yield f"{prefix}{_key(name)}", value


def dotted(path: Iterable[str]) -> str:
    """Return the TOML text of a key in tables: ("ratios", "layer1.*") is 'ratios."layer1.*"'."""
    return ".".join(map(_key, path))


def parts(key: str) -> tuple[str, ...]:
    """Return the parts of a key as TOML has it: 'ratios."layer1.*"' has two.

    Raises:
        ValueError: It is none.
    """
    try:
        value: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError as error:
        raise ValueError(_no_key(key)) from error
    if len(value) != 1:
        raise ValueError(_no_key(key))
    found = []
    while isinstance(value, dict):
        ((part, value),) = value.items()
        found.append(part)
    return tuple(found)


def _no_key(key: str) -> str:
    return (
        f"'{key}' is no key of TOML; quote a part that has other than letters, digits, - and _, as "
        'in ratios."layer1.*".'
    )


def digest(value: Any) -> str:
    """Return eight hexadecimal digits that stand for a value JSON can write."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _toml(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if value is not None and not isinstance(value, dict):
            yield f"{_key(key)} = {_inline(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield f"\n[{prefix}{_key(key)}]"
            yield from _toml(value, f"{prefix}{_key(key)}.")


def _inline(value: Any) -> str:
    # A JSON text or number is TOML as it stands; only tables are written differently.
    if isinstance(value, dict):
        given = (f"{_key(k)} = {_inline(v)}" for k, v in value.items() if v is not None)
        return f"{{ {', '.join(given)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
