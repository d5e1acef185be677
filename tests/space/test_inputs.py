"""The inputs that networks are compared on."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from prunus.space.inputs import resized


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.lists(st.floats(-1, 40), max_size=3),
)
def test_other_sizes_are_positive_and_not_much_larger(shape, ratios):
    for other in resized(torch.ones(shape), ratios):
        assert min(other.shape) >= 1
        assert other.shape != torch.Size(shape)
        assert other.numel() <= 32 * torch.Size(shape).numel()
