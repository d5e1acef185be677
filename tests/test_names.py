"""A wrong argument is named, with those that there are."""

import inspect
import re

import pytest
import torch

from prunus import Calibration, Target, methods
from prunus.methods import METHODS
from prunus.names import naming


def test_a_target_says_its_fields():
    with pytest.raises(TypeError, match=r"Target has no 'latency'. Did you mean 'latency_ms'"):
        Target(latency=5)
    with pytest.raises(TypeError, match=r"Calibration has no 'batch'. Did you mean 'batches'"):
        Calibration(batch=[torch.ones(1)])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_its_arguments(name):
    make = METHODS[name]
    assert getattr(methods, make.__name__) is make
    known = ", ".join(inspect.signature(make).parameters)
    said = re.escape(f"{make.__name__} has no 'trainin'.") + f".* It has {re.escape(known)}"
    with pytest.raises(TypeError, match=said):
        getattr(methods, make.__name__)(trainin=1)


def test_all_else_is_as_it_was():
    @naming
    def add(a: int, *, b: int = 1) -> int:
        """Add."""
        return a + b

    assert (add(1), add(1, b=2), add.__doc__, add.__name__) == (2, 3, "Add.", "add")
    with pytest.raises(TypeError, match="missing 1 required"):
        add()
    assert Target(macs=0.5) == Target(macs=0.5)
