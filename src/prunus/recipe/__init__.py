"""A run as data: one table per choice, with TOML as its text form."""

from prunus.recipe.arms import LEVELLED, SHAPES, Arm
from prunus.recipe.tables import (
    Bench,
    Dataset,
    Distil,
    Export,
    MethodChoice,
    Network,
    Recipe,
    Source,
    Table,
)
from prunus.recipe.text import checked, chosen_method, load, override, parse, put, read
from prunus.recipe.writing import digest, dotted, leaves, parts, to_toml

__all__ = [
    "LEVELLED",
    "SHAPES",
    "Arm",
    "Bench",
    "Dataset",
    "Distil",
    "Export",
    "MethodChoice",
    "Network",
    "Recipe",
    "Source",
    "Table",
    "checked",
    "chosen_method",
    "digest",
    "dotted",
    "leaves",
    "load",
    "override",
    "parse",
    "parts",
    "put",
    "read",
    "to_toml",
]
