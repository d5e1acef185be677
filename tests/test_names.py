"""A wrong argument is named, with those that there are."""

import inspect

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


def test_methods_say_their_arguments_by_whatever_name_they_are_called():
    assert all(getattr(methods, name) is make for name, make in METHODS.items())
    with pytest.raises(
        TypeError, match=r"lottery has no 'trainin'. Did you mean 'training'"
    ) as one:
        methods.lottery(trainin="1ep")
    known = ", ".join(inspect.signature(methods.lottery).parameters)
    assert str(one.value).endswith(f" It has {known}.")


def test_all_else_is_as_it_was():
    @naming
    def add(a: int, *, b: int = 1) -> int:
        """Add."""
        return a + b

    assert (add(1), add(1, b=2), add.__doc__, add.__name__) == (2, 3, "Add.", "add")
    with pytest.raises(TypeError, match="missing 1 required"):
        add()
    assert Target(macs=0.5) == Target(macs=0.5)
