"""Recipes as TOML text: reading, `--set`, and mistakes said in the library's form."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from prunus.errors import RecipeError
from prunus.methods import Method
from prunus.names import did_you_mean
from prunus.recipe.tables import MethodChoice, Recipe
from prunus.recipe.writing import parts
from prunus.types import METRICS

Kind = TypeVar("Kind", bound=BaseModel)


def load(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: A TOML file.
        overrides: "table.key=value", key and value as TOML; text needs no quotes, a pattern as
            part of the key does. What `target` asks for replaces what the file asks for, since it
            is one thing.

    Raises:
        RecipeError: The file is missing or not TOML, or a key or value is wrong.
    """
    tables = read(path, overrides)
    if "study" in tables:
        raise RecipeError(
            f"{Path(path).name} has a [study] table, so it is many runs; give it to `prunus study`."
        )
    if "tune" in tables:
        raise RecipeError(
            f"{Path(path).name} has a [tune] table, so it is many runs; give it to `prunus tune`."
        )
    return parse(tables, Path(path).parent)


def read(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read the tables of a TOML file and change some keys; see `load`.

    Raises:
        RecipeError: The file is missing or not TOML, or an override cannot be applied.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"recipe must be a readable TOML file, got '{path}' ({error.strerror})."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path.name} is not valid TOML: {error}.") from error
    return override(tables, overrides)


def parse(tables: Mapping[str, Any], folder: Path = Path()) -> Recipe:
    """Check the tables of a recipe.

    Args:
        tables: By name.
        folder: Where files that it names are looked for first.

    Raises:
        RecipeError: A key is unknown or missing, or a value is of the wrong type or out of range.
    """
    recipe = checked(Recipe, tables)
    recipe._folder = folder
    return recipe


def checked(kind: type[Kind], tables: Mapping[str, Any]) -> Kind:
    """Make a `kind` of tables, with mistakes said in the library's form.

    Raises:
        RecipeError: A key is unknown or missing, or a value is of the wrong type or out of range.
    """
    try:
        return kind.model_validate(dict(tables))
    except ValidationError as error:
        said = (_phrase(dict(item), kind) for item in error.errors() if not _follows(dict(item)))
        raise RecipeError("\n".join(said)) from error


def chosen_method(name: str, assignments: Sequence[str] = ()) -> Method:
    """Return a method by name, with some of its arguments.

    Args:
        name: In the table of methods.
        assignments: "key=value", the value as TOML; text needs no quotes.

    Raises:
        RecipeError: There is no such method or argument, or a value is wrong.
    """
    return checked(MethodChoice, override({"name": name}, assignments)).build()


def override(tables: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `tables` with each "table.key=value" applied.

    Raises:
        RecipeError: An assignment has no "=", its key is none of TOML, or a key is given inside a
            value that is no table.
    """
    changed = deepcopy(dict(tables))
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not (key and equals):
            raise RecipeError(f"--set must be table.key=value, got '{assignment}'.")
        try:
            put(changed, parts(key), _value(text))
        except (RecipeError, ValueError) as error:
            raise RecipeError(f"--set {assignment}: {error}") from error
    return changed


def put(tables: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a key of tables, and make those that lead to it; `target` asks for one thing at a time.

    Raises:
        RecipeError: A table that leads to the key is a value.
    """
    *parents, last = path
    table = tables
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise RecipeError(f"'{parent}' is a value, not a table.")
    if parents == ["target"] and last in METRICS and table.keys() & METRICS.keys():
        table.clear()  # with where the file's time is measured
    table[last] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _keys(location: Sequence[Any], kind: type[BaseModel]) -> list[str]:
    """Return the keys of the table at `location`, which is inside `kind`."""
    table: Any = kind
    for part in location:
        if isinstance(part, int):  # one table of a list of them
            continue
        annotation = table.model_fields[part].annotation
        table = next(
            kind
            for kind in (annotation, *get_args(annotation))
            if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))
        )
    if is_dataclass(table):
        return [field.name for field in fields(table)]
    return list(table.model_fields)


_UNION = re.compile(r"float|int|str|bool|(dict|tuple|list|mapping)?\[.*\]")
"""What a location has beside keys: the member of a union, or that a key is meant."""

_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "dict": "a table",
    "mapping": "a table",
    "model": "a table",
    "dataclass": "a table",
}
_BOUNDS = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "literal_error": "{expected}",
    "too_short": "a list of at least {min_length}",
}


def _follows(error: Mapping[str, Any]) -> bool:
    """Whether a list is too short only for the values in it that are wrong, as was said."""
    return error["type"] == "too_short" and len(error["input"]) >= int(error["ctx"]["min_length"])


def _phrase(error: Mapping[str, Any], root: type[BaseModel]) -> str:
    """Say one of pydantic's errors in the library's form: the thing, the rule, what was got."""
    location = [part for part in error["loc"] if not _UNION.fullmatch(str(part))]
    key = ".".join(str(part) for part in location)
    noun = "argument" if root is MethodChoice else "recipe key"
    kind, got, context = str(error["type"]), error["input"], error.get("ctx", {})
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = _keys(location[:-1], root)
        return (
            f"recipe key '{key}' is unknown.{did_you_mean(str(location[-1]), known)} Known are "
            f"{', '.join(known)}."
        )
    if kind in {"missing", "missing_argument"}:
        return f"recipe key '{key}' is missing; add it."
    if kind == "value_error" and root is MethodChoice:
        return str(context["error"])
    if kind == "value_error":
        return f"recipe {f'table {key!r}' if key else 'as a whole'}: {context['error']}"
    if kind in _BOUNDS:
        rule = _BOUNDS[kind].format(**context)
    else:
        rule = _TYPES.get(kind.split("_")[0], error["msg"])
    words = rule.replace("'", " ").replace(",", " ").split()
    hint = did_you_mean(got, words) if isinstance(got, str) else ""
    return f"{noun} '{key}' must be {rule}, got {got!r}.{hint}"
