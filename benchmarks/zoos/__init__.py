"""Zoos to try Prunus on: name -> builder of a network with random weights, and its input."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from torch import nn

from prunus.types import Example

Builder: TypeAlias = Callable[[], tuple[nn.Module, Example]]

ZOOS = ("torchvision", "timm", "huggingface", "handmade")


def networks(zoo: str) -> Mapping[str, Builder]:
    """Return the builders of one zoo; the hand-made one is the tests', and empty without them."""
    if zoo != "handmade":
        return import_module(f"zoos.{zoo}_zoo").NETWORKS  # type: ignore[no-any-return]
    tests = Path(__file__).resolve().parents[2] / "tests"
    if not (tests / "handmade.py").is_file():
        return {}
    if str(tests) not in sys.path:
        sys.path.append(str(tests))
    return import_module("handmade").NETWORKS  # type: ignore[no-any-return]


def alone(zoo: str) -> frozenset[str]:
    """Return the networks of one zoo that need so much memory that each is to run by itself."""
    return frozenset() if zoo == "handmade" else import_module(f"zoos.{zoo}_zoo").ALONE
