import pytest

from prunus import zoo
from prunus.study import parse_search, parse_study
from tiny import SEARCH, STUDY, TinyData, build_tiny_data


@pytest.fixture
def tables():
    """The tables of a study; give keys of [study] as keyword arguments, other tables by name."""

    def make(*, other=None, **grid):
        return STUDY | (other or {}) | {"study": STUDY["study"] | grid}

    return make


@pytest.fixture
def small(tables, monkeypatch):
    """A study of seconds; keyword arguments as for `tables`."""
    monkeypatch.setattr(zoo, "dataset", build_tiny_data)
    return lambda **changes: parse_study(tables(**changes))


@pytest.fixture
def before_step(monkeypatch):
    """Training step, from 0 -> what happens before it, once."""
    monkeypatch.setattr(TinyData, "at", {})
    return TinyData.at


@pytest.fixture
def search(monkeypatch):
    """A search of seconds; give keys of [tune] as keyword arguments, other tables by name."""
    monkeypatch.setattr(zoo, "dataset", build_tiny_data)

    def make(*, other=None, **tune):
        return parse_search(SEARCH | (other or {}) | {"tune": SEARCH["tune"] | tune})

    return make
