"""A run as data: one table per choice, with TOML as its text form."""

from prunus.recipe.tables import (
    Bench,
    Dataset,
    Distil,
    Export,
    MethodChoice,
    Network,
    Recipe,
    digest,
)
from prunus.recipe.text import load, override, parse

__all__ = [
    "Bench",
    "Dataset",
    "Distil",
    "Export",
    "MethodChoice",
    "Network",
    "Recipe",
    "digest",
    "load",
    "override",
    "parse",
]
