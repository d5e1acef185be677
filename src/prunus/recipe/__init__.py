"""A run as data: one table per choice, with TOML as its text form."""

from prunus.recipe.tables import (
    Arm,
    Bench,
    Dataset,
    Distil,
    Export,
    MethodChoice,
    Network,
    Recipe,
    Table,
)
from prunus.recipe.text import checked, chosen_method, load, override, parse, put, read
from prunus.recipe.writing import digest, dotted, leaves, to_toml

__all__ = [
    "Arm",
    "Bench",
    "Dataset",
    "Distil",
    "Export",
    "MethodChoice",
    "Network",
    "Recipe",
    "Table",
    "checked",
    "chosen_method",
    "digest",
    "dotted",
    "leaves",
    "load",
    "override",
    "parse",
    "put",
    "read",
    "to_toml",
]
