"""On real images: what a method keeps must be worth more than what chance keeps, in every seed.

What is compared is in `benchmarks/against_random.py`; `docs/learns.md` has the table.
"""

import sys
from pathlib import Path

import pytest

from prunus.methods import METHODS

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import against_random
    finally:
        sys.path.remove(str(BENCHMARKS))
    return against_random


@pytest.mark.parametrize("name", METHODS)
def test_it_keeps_more_than_chance_does(name, benchmark):
    if name in benchmark.NOT_BETTER:
        pytest.skip(benchmark.NOT_BETTER[name])
    further = benchmark.claim_of(name) is benchmark.FROM_THE_START
    rows = [benchmark.compare(name, seed, further=further) for seed in benchmark.SEEDS]
    assert min(map(benchmark.gain, rows)) > 0
