"""What decides the way of a forward is named; a graph refuses inputs that would go another way."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import prunus
from comparison import difference
from prunus.methods import l1_filter
from prunus.pruning.result import Result
from prunus.space.masked import apply_mask
from prunus.types import Target

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Deciding(nn.Module):
    def __init__(self, decide: Callable[..., Tensor]) -> None:
        super().__init__()
        self.decide = decide
        self.a, self.b, self.h = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 4)

    def body(self, x: Tensor) -> Tensor:
        return self.b(self.decide(F.relu(self.a(x)))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.body(x))


class Constant(Deciding):
    """Needs a graph."""

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.body(x).view(-1, 16))


def pruned(model: nn.Module, example: Any = X, **further: Any) -> Result:
    method = l1_filter(coupled=True, round_to=1)
    return prunus.prune(model, example, method=method, target=Target(params=0.6), **further)


def by_value(h: Tensor) -> Tensor:
    return h.flip(1) if h.sum() > 1e4 else h


def by_size(h: Tensor) -> Tensor:
    return h.flip(2) if h.shape[2] * 2 > 20 else h


def by_width(h: Tensor) -> Tensor:
    return h * 2 if h.shape[1] * 2 > 20 else h


@pytest.mark.parametrize(
    ("decide", "ways"),
    [(by_value, ["__bool__"]), (by_size, ["relu.shape[2] * 2 > 20: False"]), (F.relu, [])],
)
@pytest.mark.parametrize("make", [Deciding, Constant])
def test_what_decides_is_named_in_every_form(
    make: type[Deciding], decide: Callable[[Tensor], Tensor], ways: list[str]
) -> None:
    report = pruned(make(decide)).report

    assert report.form == ("original classes" if make is Deciding else "rewritten graph")
    assert report.decisions == report.to_dict()["decisions"] == ways
    verb = "followed" if make is Deciding else "holds"
    line = f"{verb} only the way that the example took, decided by {', '.join(ways)}"
    assert (line in str(report)) == bool(ways)


def test_channels_that_are_counted_decide_the_same_for_every_input() -> None:
    result = pruned(Constant(by_width))
    assert result.report.decisions == []
    assert result.model(torch.randn(3, 3, 12, 9)).shape == (3, 4)


class Flagged(Deciding):
    def forward(self, x: Tensor, mask: Tensor | None = None, *, twice: bool = False) -> Tensor:
        x = super().forward(x)
        return x * (2 if twice else 1) if mask is None else x * mask


def test_plain_inputs_decide_too() -> None:
    assert pruned(Flagged(F.relu)).report.decisions == ["mask=None", "twice=False"]
    given = {"x": X, "mask": torch.ones(4), "twice": True}
    assert pruned(Flagged(F.relu), given).report.decisions == ["twice=True"]


def reversed_if_large(h: Tensor) -> Tensor:
    return h.roll(1, 1) if h.shape[-1] > 6 else h


def reversed_if_alone(h: Tensor) -> Tensor:
    return h.roll(1, 1) if len(h) == 1 else h


@pytest.mark.parametrize(
    ("decide", "right", "wrong"),
    [
        (reversed_if_large, (3, 3, 6, 8), (2, 3, 9, 9)),
        (reversed_if_alone, (3, 3, 9, 9), (1, 3, 8, 8)),
    ],
)
def test_classes_that_are_wrong_for_other_sizes_are_not_returned(
    decide: Callable[[Tensor], Tensor], right: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model = Deciding(decide)
    result = pruned(model)

    assert result.report.form == "rewritten graph"
    assert result.report.only is None
    assert difference(model, result.model, result.mask, torch.randn(right)) <= 1e-9
    with pytest.raises(ValueError, match="cannot be given: this network is a graph"):
        result.model(torch.randn(wrong))


def far_off(h: Tensor) -> Tensor:
    """Go another way from 20 pixels on, of which nobody is asked: a list takes any whole number."""
    return (lambda h: h, lambda h: h.roll(1, 1))[([0] * 20 + [1] * 20)[h.shape[-1]]](h)


@pytest.mark.parametrize("make", [Deciding, Constant])
def test_a_report_says_at_which_sizes_a_forward_that_reads_them_was_compared(
    make: type[Deciding],
) -> None:
    report = pruned(make(far_off)).report

    assert report.verification is not None
    low, high = report.verification.sizes or (1.0, 1.0)
    assert low < 1 < high <= 1.5
    assert f"its forward reads sizes: compared at {low:.2g} to {high:.2g} times" in str(report)


def test_nothing_is_said_of_sizes_that_are_not_read() -> None:
    report = pruned(Deciding(F.relu)).report
    assert report.verification is not None
    assert report.verification.sizes is None
    assert "reads sizes" not in str(report)


class Nested(Constant):
    def forward(self, xs: Any) -> Tensor:
        parts = xs.values() if isinstance(xs, dict) else xs
        return sum((super(Nested, self).forward(x) for x in parts), torch.zeros(()))


@pytest.mark.parametrize(
    ("given", "other"),
    [([X, X], [X, X, X]), ((X, X), (X,)), ({"a": X}, {"a": X, "b": X}), ([X, X], (X, X))],
)
def test_a_graph_refuses_inputs_that_are_nested_otherwise(given: Any, other: Any) -> None:
    small = pruned(Nested(F.relu), (given,)).model

    assert isinstance(small(given), Tensor)
    with pytest.raises(ValueError, match=r"xs cannot be given with \d entries in this order"):
        small(other)


def test_a_graph_that_pads_and_shifts_windows_takes_other_sizes() -> None:
    from torchvision.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    model = SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=3).eval()
    result = pruned(model, torch.randn(1, 3, 32, 32))

    assert result.report.form == "rewritten graph"
    assert result.report.only is None
    for shape in ((2, 3, 40, 32), (1, 3, 20, 44)):
        assert difference(model, result.model, result.mask, torch.randn(shape)) <= 1e-9
    with pytest.raises(ValueError, match=r"recorded where pad.*\.shape\[1\] <= 4: False"):
        result.model(torch.randn(1, 3, 16, 32))


class Above(nn.Module):
    """Returns as many rows as there are sums above their edge."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(8, 48), nn.Linear(48, 1)
        self.register_buffer("edge", torch.full((256,), torch.inf))

    def sums(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(x)))[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        sums = self.sums(x)
        return sums[(sums > self.edge).nonzero()[:, 0]]


def test_rounding_that_decides_how_many_rows_there_are_is_no_difference() -> None:
    torch.manual_seed(0)
    net, x = Above().eval(), torch.randn(256, 8)
    net.edge.fill_(-torch.inf)
    small = prunus.prune(net, x, target=Target(params=0.6))
    masked = copy.deepcopy(net)
    apply_mask(masked, small.mask)
    sums, others, dense = masked.sums(x), small.model.sums(x), net.sums(x)
    edges = torch.minimum(sums, others)
    # Zeros among the summands make another order of additions; the dense network is another still.
    apart = (sums != others) & ((dense > edges) != (others > edges))
    row = int(apart.nonzero()[0])
    net.edge.fill_(torch.inf)
    net.edge[row] = edges[row]

    result = prunus.prune(net, x, target=Target(params=0.6))

    assert result.report.form == "original classes"
    assert result.report.verification.dtype == "float64"
