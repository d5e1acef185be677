"""A federation that runs in a second: tiny data, LeNet-300-100, three clients."""

from copy import deepcopy

import pytest

from prunus import zoo
from prunus.federated import execute, federate, parse
from tiny import build_tiny_data

TABLES = {
    "name": "small",
    "model": {"name": "lenet300"},
    "clients": {
        "data": "fashion-mnist-embedded",
        "count": 3,
        "batch_size": 16,
        "held_out": 0.1,
        "per_round": 2,
    },
    "train": {"length": "2it", "lr": 0.1, "momentum": 0.0},
    "rounds": {"total": 6, "evaluate_every": 3},
    "method": {"name": "prunefl", "begin": "2it", "end": "4it", "every": "2it"},
}


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    """Runs see little data and draw no page."""
    monkeypatch.setattr(zoo, "dataset", lambda name, **given: build_tiny_data(**given))
    monkeypatch.setattr(execute, "write_federation", lambda document, path: None)


@pytest.fixture
def recipe():
    """Make the small recipe, with tables changed."""

    def make(**tables):
        changed = deepcopy(TABLES)
        for name, table in tables.items():
            merged = name in changed and name != "method" and isinstance(table, dict)
            changed[name] = changed[name] | table if merged else table
        return parse(changed)

    return make


@pytest.fixture
def run(recipe, tmp_path):
    """Run the small recipe with tables changed; return what came out."""

    def go(folder="runs", exchange=None, tell=lambda record: None, **tables):
        return federate(recipe(**tables), tmp_path / folder, exchange=exchange, tell=tell)

    return go
