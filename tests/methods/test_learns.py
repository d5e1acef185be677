"""On real images: what a method keeps must be worth more than what chance keeps.

How they are compared is in `benchmarks/against_random.py`; this is one seed of the three that
`benchmarks/learns.py` makes.
"""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from prunus.methods import METHODS

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # behind packages of the same names
against_random = import_module("against_random")


def test_every_method_is_judged():
    assert against_random.MEASURES.keys() == METHODS.keys()
    assert against_random.NOT_BETTER.keys() <= METHODS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_keeps_more_than_chance_does(name):
    if name in against_random.NOT_BETTER:
        pytest.skip(against_random.NOT_BETTER[name])
    row = against_random.compare(name, 0, further=False)
    assert against_random.gains(row, against_random.MEASURES[name]) > 0
