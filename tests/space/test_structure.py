"""The user's classes are returned only where they make the dense network's calls on what is left.

Numbers show no difference here: what the networks do wrongly happens for large inputs only.
"""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comparison import difference
from prunus.errors import EquivalenceError
from prunus.space import trace
from prunus.space.shrink import Shrunk, shrink

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

UNEVEN = torch.arange(32) % 16 >= torch.tensor([12, 4]).repeat_interleave(16)
"""A quarter of the first half stays, and three quarters of the second."""


class Cut(nn.Module):
    """Clips large values of some channels, which are counted from the channels there are."""

    def __init__(self, clip: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.clip = clip
        self.a, self.b = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.clip(self.a(x)))


def halves(h: Tensor) -> Tensor:
    k = h.shape[1] // 2
    return torch.cat([F.relu6(h[:, :k]), F.relu(h[:, k:])], 1)


def written(h: Tensor) -> Tensor:
    h = h.clone()
    h[:, h.shape[1] // 2 :, ...] = h[:, h.shape[1] // 2 :].clamp(max=6.0)
    return h


def narrowed(h: Tensor) -> Tensor:
    k = h.size(1) // 2
    return torch.cat([h.narrow(1, 0, k).clamp(max=6.0), h.narrow(1, k, k)], 1)


def chunked(h: Tensor) -> Tensor:
    first, second = h.chunk(2, 1)
    return torch.cat([first.clamp(max=6.0), second], 1)


def wide(h: Tensor) -> Tensor:
    return h.clamp(max=6.0) if h.shape[1] > 16 else h


def scaled(h: Tensor) -> Tensor:
    return h.clamp(max=6.0 * (h.shape[1] // 32))


def by_a_share(h: Tensor) -> Tensor:
    return (h * (1 - 1 / h.shape[1])).clamp(max=6.0)


def removed(model: nn.Module) -> Shrunk:
    return shrink(model, trace(model, X), {"a": UNEVEN}, X)


@pytest.mark.parametrize("clip", [halves, written, narrowed, chunked, wide, scaled, by_a_share])
def test_what_is_counted_anew_needs_a_graph(clip: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Cut(clip)
    shrunk = removed(model)

    assert shrunk.form == "rewritten graph"
    mask = trace(model, X).mask({"a": UNEVEN})
    assert difference(model, shrunk.model, mask, 100 * X) <= 1e-9


def gated(h: Tensor) -> Tensor:
    grid = F.affine_grid(h.new_ones(len(h), 2, 3), h.shape, align_corners=False)
    return grid.mean() + h * h.sigmoid()[:, :, 1:, 1:].mean((2, 3), keepdim=True)


def reshaped(h: Tensor) -> Tensor:
    b, c, *image = h.shape
    return h.view(b, c, -1).split(c, 1)[0].softmax(-1).reshape(b, c, *image)[..., :]


def cut_at_a_value(h: Tensor) -> Tensor:
    return h.relu()[..., torch.tensor(h.shape[2] // 4) :, 1:]


def by_a_sum(h: Tensor) -> Tensor:
    values = h.detach().tanh().permute(0, 2, 3, 1).flatten()
    return h * float(values.sum())  # of fewer numbers it rounds otherwise


FOLLOWING = [F.relu, gated, reshaped, cut_at_a_value, by_a_sum]


@pytest.mark.parametrize("clip", FOLLOWING)
def test_what_follows_the_channels_stays_the_users_own(clip: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    assert removed(Cut(clip)).form == "original classes"


class Either(nn.Module):
    """Goes one way where it is large; without what is masked it is not, nor is the small one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 32), nn.Linear(32, 2)
        with torch.no_grad():
            self.a.bias.copy_(~UNEVEN * 10.0)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        return self.b(h.sqrt() if h.sum() > 400 else h)


class Chosen(Either):
    """How many rows there are is decided by values."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        return self.b(h)[torch.where(h.sum(1) > 100)[0]].sum(0)


@pytest.mark.parametrize("make", [Either, Chosen])
def test_a_way_that_only_the_masked_network_takes_is_followed(make: type[Either]) -> None:
    model, x = make(), X.reshape(-1, 8)[:4]
    shrunk = shrink(model, trace(model, x), {"a": UNEVEN}, x)
    assert shrunk.form == "original classes"


def by_many_numbers(h: Tensor) -> Tensor:
    shares = [x / int(h.shape[1]) for x in h.detach().sum((0, 1)).flatten().tolist()]
    return h * torch.tensor([1.0, 2.0, *shares]).sum()


def test_of_many_numbers_those_that_differ_are_shown() -> None:
    with pytest.raises(EquivalenceError) as raised:
        removed(Cut(by_many_numbers))
    shown = re.search(r"given (\[.*?\]) where the removal leaves (\[.*?\]);", str(raised.value))
    assert shown is not None
    found, wanted = (part.strip("[]").split(", ") for part in shown.groups())
    assert found[:2] == wanted[:2] == ["1.0", "2.0"]
    assert len(found) == len(wanted) == 7 and found[-1] == "'...'" and found[2] != wanted[2]
