"""What leaves the recorded operations is frozen and named: values read, ways decided by them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunus.errors import UntraceableError
from prunus.space import Space, trace

X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


class Calls(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.between = between
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(h).mean() + self.c(self.between(h))


def traced(between: Callable[[Tensor], Tensor]) -> Space:
    return trace(Calls(between), X)


def reasons(space: Space) -> list[str]:
    return [frozen.reason for frozen in space.frozen if frozen.name == "a"]


def asked_one_by_one(h: Tensor) -> Tensor:
    y = h.detach().clone()
    y.apply_(lambda value: max(value, -1.0))
    return y.new_ones(len(y), 1)


@pytest.mark.parametrize(
    ("read", "how"),
    [
        (lambda h: torch.from_numpy(h.detach().numpy().max(-1, keepdims=True)), "numpy"),
        (lambda h: torch.tensor([[max(row)] for row in h.tolist()]), "tolist"),
        (lambda h: torch.from_numpy(np.asarray(h.T).max(0)[:, None]), "__array__"),
        (lambda h: torch.from_numpy(np.from_dlpack(h.detach()).max(1)[:, None]), "__dlpack__"),
        (asked_one_by_one, "apply_"),
    ],
)
def test_what_is_read_as_a_whole_is_frozen(read: Callable[[Tensor], Any], how: str) -> None:
    assert reasons(traced(read)) == [f"is read by {how}"]


def test_an_entry_that_is_read_freezes_nothing_else() -> None:
    space = traced(lambda h: h.new_full((len(h), 1), float(h.sum(-1).max())))
    assert [group.name for group in space.groups] == ["a"]


@torch.library.custom_op("prunus_tests::largest", mutates_args={"out"})
def largest(h: Tensor, out: list[Tensor]) -> None:
    """Write the largest entry of each row."""
    out[0].copy_(h.amax(-1, keepdim=True))


@torch.library.custom_op("prunus_tests::total", mutates_args=())
def total(h: Tensor) -> float:
    """Return a number made of all entries."""
    return float(h.square().sum())


def written_by_another(h: Tensor) -> Tensor:
    out = torch.zeros(len(h), 1)
    largest(h, [out])
    return out


def written_together(h: Tensor) -> Tensor:
    first, second = h * 1, h * 2
    torch._foreach_add_([first, second], 1.0)
    return (first + second).sum(-1, keepdim=True)


@pytest.mark.parametrize(
    ("between", "name"),
    [
        (written_by_another, "prunus_tests::largest"),
        (lambda h: h.new_full((len(h), 1), total(h)), "prunus_tests::total"),
        (written_together, "_foreach_add_"),
    ],
)
def test_an_operation_that_returns_no_tensor_freezes_what_it_is_given(
    between: Callable[[Tensor], Tensor], name: str
) -> None:
    space = traced(between)
    assert reasons(space) == [f"meets aten.{name}, which has no rule"]
    assert dict(space.unknown) == {name: 1}


def test_a_parameter_in_a_list_is_not_written_into() -> None:
    net = Calls(lambda h: h[:, :1])
    net.between = lambda h: torch._foreach_mul_([net.c.weight], 1.0) or h[:, :1]
    with pytest.raises(UntraceableError, match=r"writes into the parameter 'c\.weight'"):
        trace(net, X)
