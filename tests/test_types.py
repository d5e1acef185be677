"""Targets say one thing, in range; examples become call arguments."""

import pytest
import torch

from prunus import Target
from prunus.types import call_arguments


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("sparsity", 0.0), ("sparsity", 0.99), ("density", 1.0), ("params", 0.5), ("macs", 1)],
        *[("bytes", 0.01), ("latency_ms", 2.5), ("speedup", 1.0)],
    ],
)
def test_a_target_knows_its_metric_and_value(field, value):
    target = Target(**{field: value})
    assert (target.metric, target.value) == (field, float(value))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sparsity", 90, r"sparsity must be in \[0, 1\), got 90\. Did you mean 0\.9\?"),
        ("sparsity", 1.0, r"sparsity must be in \[0, 1\), got 1\.$"),
        ("sparsity", -0.1, r"got -0\.1"),
        ("density", 0, r"density must be in \(0, 1\], got 0"),
        ("macs", 50, r"Did you mean 0\.5\?"),
        ("params", float("nan"), "got nan"),
        ("bytes", 1.5, r"bytes must be in \(0, 1\]"),
        ("latency_ms", 0, r"latency_ms must be in \(0, inf\)"),
        ("speedup", 0.9, r"speedup must be in \[1, inf\)"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_way_out(field, value, message):
    with pytest.raises(ValueError, match=message):
        Target(**{field: value})


def test_exactly_one_field_is_set():
    with pytest.raises(ValueError, match=r"exactly one of .*; got none"):
        Target()
    with pytest.raises(ValueError, match="got params, macs"):
        Target(macs=0.5, params=0.5)


@pytest.mark.parametrize("value", ["0.5", True])
def test_a_target_must_be_a_number(value):
    with pytest.raises(TypeError, match="sparsity must be a number"):
        Target(sparsity=value)


def test_examples_become_call_arguments():
    x = torch.zeros(1)
    assert call_arguments(x) == ((x,), {})
    assert call_arguments((x, 2)) == ((x, 2), {})
    assert call_arguments({"ids": x}) == ((), {"ids": x})
    with pytest.raises(TypeError, match=r"example must be a tensor, .* got int"):
        call_arguments(3)
