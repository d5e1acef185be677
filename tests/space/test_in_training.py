"""What eval mode does not show: training, other sizes, contexts, and values that must stay.

Each network has a branch that goes, so that its graph is needed; where the graph cannot be right,
it must be refused or take nothing else than what it is right for.
"""

import functools
import math
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import prunus
from prunus.errors import CheckpointError, EquivalenceError
from prunus.space import trace
from prunus.space.masked import apply_mask
from prunus.space.settled import Settled
from prunus.space.shrink import Shrunk, shrink

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.f1, self.f2 = nn.Linear(8, 8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 2)

    def body(self, x: Tensor) -> Tensor:
        return x + self.f2(self.f1(x).relu())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


def without_the_branch(model: nn.Module, example: Any = X, also: Any = ()) -> Shrunk:
    keep = {"f2:branch": torch.tensor([False])}
    return shrink(model, trace(model, example, also=also), keep, example)


def masked(model: nn.Module) -> nn.Module:
    import copy

    copied = copy.deepcopy(model)
    keep = {"f2:branch": torch.tensor([False])}
    apply_mask(copied, trace(model, X).mask(keep))
    return copied


def agree(model: nn.Module, small: nn.Module, x: Tensor = X, seed: int = 0) -> None:
    """In both modes, with random numbers as they come."""
    for training in (False, True):
        found = []
        for network in (masked(model), small):
            torch.manual_seed(seed)
            random.seed(seed)
            found.append(network.train(training)(x))
        torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


class LeastNumber(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        bias = (1 - torch.ones_like(x[0, :, 0])) * torch.finfo(x.dtype).min
        x = self.body(x)
        return self.head((x @ x.transpose(1, 2) + bias).softmax(-1) @ x)


class OtherTensor(Base):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = torch.full((8,), 3.0), torch.ones(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)) * (self.one if self.training else self.other))


class FurtherTensor(OtherTensor):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        if self.training:
            x = x - self.one.cos()
        return self.head(x * self.other)


class OtherPrecision(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(x.to(torch.bfloat16 if self.training else torch.float32).float())


class Dropping(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.stem(x))
        return self.head(F.dropout(y, 0.5, self.training))


class Kept(Base):
    """A norm that stays in eval mode when the rest is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def train(self, mode: bool = True) -> "Kept":
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(self.stem(x))))


class WritesLater(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.body(x)
        z = F.dropout(x * 1, 0.5, self.training, inplace=True)
        x.add_(1.0)
        return self.head(y) + self.head(z) + self.head(x)


@pytest.mark.parametrize(
    "make",
    [LeastNumber, OtherTensor, FurtherTensor, OtherPrecision, Dropping, Kept, WritesLater],
)
def test_both_modes_are_what_they_were(make: type[Base]) -> None:
    torch.manual_seed(0)
    model = make()
    agree(model, without_the_branch(model).model)


class ByChance(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        if self.training and random.random() < 0.5:
            x = x * 3
        return self.head(x)


class ByDrawnTensor(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(x * 3 if self.training and torch.rand([]) < 0.5 else x)


class OwnStatistics(Base):
    """A norm written by hand, whose buffer is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.mean: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 1))
        return self.head(x - self.mean)


class Detached(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.stem(x)
        return self.head(self.body(x))


class Autocast(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.head(self.body(self.stem(x)))


class CoupledInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.h, self.g = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return self.h(a + b) + self.g(b) if self.training else self.h(a) + self.g(b)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (ByChance, "outputs in train mode differ"),
        (ByDrawnTensor, "outputs in train mode differ"),
        (OwnStatistics, "buffer of 'mean' in train mode"),
        (Detached, "gradient of 'stem.weight' in train mode"),
        (Autocast, r"outputs are of \[torch.float32\]"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused(make: type[Base], why: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(EquivalenceError, match=why):
        without_the_branch(make())


def test_channels_that_meet_in_training_only_are_not_paired_wrongly() -> None:
    torch.manual_seed(0)
    model = CoupledInTraining()
    space = trace(model, X)
    keep = {"a": torch.arange(8) < 4, "b": torch.arange(8) >= 4}
    with pytest.raises(EquivalenceError, match="outputs in train mode differ"):
        shrink(model, space, keep, X)


def test_dropout_of_the_users_own_classes_is_no_obstacle() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 2))
    result = prunus.prune(model, X, target=prunus.Target(params=0.6))
    assert result.report.form == "original classes"


class Reciprocal(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(x.sum(1) * (1.0 / x.shape[1]))


class Threshold(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(x.mean(1) if x.shape[1] > 3 else x.amax(1))


class Lookup(Base):
    """Looks its way up by the text of a size, so that no comparison of sizes is seen."""

    def forward(self, x: Tensor) -> Tensor:
        way = {"5": "mean", "9": "mean"}.get(str(x.shape[1]), "largest")
        x = self.body(self.stem(x))
        return self.head(x.mean(1) if way == "mean" else x.amax(1))


class Rounds(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.stem(x))
        state = torch.zeros_like(y[:, 0])
        for t in range(x.shape[1]):
            state = torch.tanh(state + y[:, t])
        return self.head(state)


@pytest.mark.parametrize("make", [Reciprocal, Rounds])
def test_a_graph_takes_only_the_sizes_it_is_right_for(make: type[Base]) -> None:
    torch.manual_seed(0)
    model = make()
    shrunk = without_the_branch(model)

    agree(model, shrunk.model)
    agree(model, shrunk.model, torch.randn(7, 5, 8))
    with pytest.raises(ValueError, match=r"a graph that is right for \(any, 5, 8\) only"):
        shrunk.model(torch.randn(2, 9, 8))


class Later(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(x.amax(1) if self.training and x.shape[1] > 6 else x.mean(1))


def test_a_graph_takes_the_further_inputs_that_it_was_proved_on(tmp_path: Path) -> None:
    model = Lookup()
    shrunk = without_the_branch(model, also=[torch.randn(2, 9, 8)])
    prunus.save(shrunk.model, tmp_path / "small.safetensors")

    for small in (shrunk.model, prunus.load(tmp_path / "small.safetensors", model, X)):
        agree(model, small, torch.randn(3, 9, 8))
        agree(model, small, torch.randn(7, 5, 8))
        with pytest.raises(ValueError, match=r"right for \(any, 5, 8\) or \(any, 9, 8\) only"):
            small(torch.randn(2, 8, 8))


def test_further_inputs_must_be_right_in_training_too() -> None:
    with pytest.raises(EquivalenceError, match="in train mode"):
        without_the_branch(Later(), also=[torch.randn(2, 9, 8)])


class Alone(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(x - x.mean(0) if x.shape[0] > 1 else x)


class Padded(Base):
    """Pads to a multiple of four, in two ways."""

    def forward(self, x: Tensor) -> Tensor:
        more = -x.shape[1] % 4
        if more:
            x = F.pad(x, (0, 0, 0, more))
        parts = math.ceil(x.size(1) / 4)
        return self.head(self.body(self.stem(x)).view(len(x), parts, -1).sum(1).view(-1, 4, 8))


@pytest.mark.parametrize(
    ("make", "right", "wrong", "asked"),
    [
        (Alone, (7, 3, 8), (1, 5, 8), r"\.shape\[0\] > 1: True; here the numbers are 1, 1"),
        (Threshold, (1, 9, 8), (2, 3, 8), r"\.shape\[1\] > 3: True; here the numbers are 3, 3"),
        (Padded, (3, 9, 8), (2, 8, 8), r"neg\(x\.shape\[1\]\) % 4 is not 0: True; .* are 0"),
    ],
)
def test_a_graph_asks_of_sizes_what_the_forward_asks(
    make: type[Base], right: tuple[int, ...], wrong: tuple[int, ...], asked: str
) -> None:
    torch.manual_seed(0)
    model = make()
    shrunk = without_the_branch(model)

    agree(model, shrunk.model, torch.randn(right))
    with pytest.raises(ValueError, match=asked):
        shrunk.model(torch.randn(wrong))


class Steps(nn.Module):
    """Recurrent over dimension 0, with a state whose width is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(8, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[1], 12)
        for step in x:
            state = self.cell(step, state)
        return self.head(state)


def test_a_loop_over_the_first_dimension_is_held_to_its_length() -> None:
    model, half = Steps(), {"cell": torch.arange(12) < 6}
    shrunk = shrink(model, trace(model, X), half, X)

    assert shrunk.form == "rewritten graph"
    assert shrunk.model(X).shape == (5, 2)
    with pytest.raises(ValueError, match=r"right for \(2, 5, 8\) only"):
        shrunk.model(torch.randn(3, 5, 8))


class Half(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(x.sum(1) / x.shape[1] * (x.shape[1] / 2) ** 2)


def test_sizes_may_be_divided() -> None:
    model = Half()
    shrunk = without_the_branch(model)
    for length in (1, 3, 9):
        agree(model, shrunk.model, torch.randn(3, length, 8))


class Options(Base):
    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
        x = self.body(self.stem(x))
        if mask is not None:
            x = x * mask
        return self.head(x) * scale


def test_inputs_keep_their_names_and_defaults() -> None:
    model = Options()
    small = without_the_branch(model).model.eval()

    assert torch.equal(small(X), small(x=X, mask=None, scale=1.0))
    with pytest.raises(ValueError, match=r"scale=2.0 cannot be given: .* with scale=1.0"):
        small(X, scale=2.0)
    with pytest.raises(ValueError, match="recorded with mask=None"):
        small(X, torch.ones(8))

    given = {"x": X, "scale": 2.0}
    twice = without_the_branch(model, given).model.eval()
    torch.testing.assert_close(twice(X, scale=2.0), 2 * small(X))
    with pytest.raises(ValueError, match=r"recorded with scale=2\.0"):
        twice(x=X)


class Remembers(Base):
    def __init__(self) -> None:
        super().__init__()
        self.calls, self.sizes, self.width = 0, [], None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.sizes.append(x.shape[0])
        if self.width is None:
            self.width = x.shape[2]
        return self.head(self.body(self.stem(x)).view(-1, x.shape[1], self.width))


def test_attributes_of_the_model_stay_and_sizes_can_be_pickled() -> None:
    model = Remembers()
    without_the_branch(model)
    assert (model.calls, model.width) == (0, None)
    assert not hasattr(model, "_last")
    assert {type(size) for size in pickle.loads(pickle.dumps(model.sizes))} <= {int}


@functools.lru_cache
def _twos(count: int) -> Tensor:
    return torch.full((count,), 2.0)


class Caches(Base):
    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.stem(x))
        return self.head(x * _twos(8) if self.training else x)


def test_what_the_forward_caches_can_be_used_afterwards() -> None:
    model = Caches()
    with pytest.raises(EquivalenceError):
        without_the_branch(model)
    assert _twos(8).device.type == "cpu"
    model.train()(X).sum().backward()


def test_a_file_is_not_loaded_into_a_network_that_does_something_else(tmp_path: Path) -> None:
    class Heads(Base):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.heads = heads

        def forward(self, x: Tensor) -> Tensor:
            x = self.body(self.stem(x))
            split = x.reshape(*x.shape[:2], self.heads, 8 // self.heads)
            return self.head((split.softmax(-1) * split).flatten(2))

    shrunk = without_the_branch(Heads(2))
    prunus.save(shrunk.model, tmp_path / "small.safetensors")

    loaded = prunus.load(tmp_path / "small.safetensors", Heads(2), X)
    torch.testing.assert_close(loaded.eval()(X), shrunk.model.eval()(X))
    with pytest.raises(CheckpointError, match="its forward is another than that of the network"):
        prunus.load(tmp_path / "small.safetensors", Heads(4), X)


def test_what_a_graph_is_right_for_is_saved_with_it(tmp_path: Path) -> None:
    shrunk = without_the_branch(Reciprocal())
    prunus.save(shrunk.model, tmp_path / "small.safetensors")
    loaded = prunus.load(tmp_path / "small.safetensors", Reciprocal(), X)
    with pytest.raises(ValueError, match="right for"):
        loaded(torch.randn(2, 9, 8))


def test_a_report_says_what_was_decided_and_for_which_sizes() -> None:
    from prunus.criteria import L1
    from prunus.methods import Method
    from prunus.selectors import TopK
    from prunus.space import Branches

    class Looks(Reciprocal):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * 2 if x.abs().max() > 100 else x)

    depth = Method(
        name="depth", granularity=Branches(), criterion=L1(reduce="mean"), selector=TopK()
    )
    report = prunus.prune(Looks(), X, method=depth, target=prunus.Target(density=0.01)).report
    assert report.only == [[[None, 5, 8]]]
    assert "for inputs of shape [any, 5, 8] only" in str(report)
    assert "holds only the way that the example took, decided by __bool__" in str(report)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda x: F.dropout(x, 0.3, True), lambda x: x),
        (lambda x: F.dropout2d(x[None], 0.3, True)[0], lambda x: x),
        (lambda x: x.new_empty(3).bernoulli_(0.6), lambda x: x.new_full((3,), 0.6)),
        (lambda x: x.new_empty(3).bernoulli_(), lambda x: x.new_full((3,), 0.5)),
        (lambda x: torch.bernoulli(x.sigmoid()), torch.sigmoid),
        (lambda x: torch.rand(3, dtype=x.dtype), lambda x: x.new_full((3,), 0.3)),
        (lambda x: torch.empty(2).uniform_(1, 3), lambda x: torch.full((2,), 1.6)),
        (lambda x: torch.randperm(4), lambda x: torch.tensor([3, 0, 1, 2])),
        (lambda x: torch.randint(2, 9, (3,)), lambda x: torch.full((3,), 2)),
        (
            lambda x: F.rrelu(x, 0.2, 0.4, training=True),
            lambda x: torch.where(x > 0, x, 0.3 * x),
        ),
    ],
)
def test_random_operations_are_settled(
    draw: Callable[[Tensor], Tensor], expected: Callable[[Tensor], Tensor]
) -> None:
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    with Settled(0.3) as settled:
        found = draw(x)
    torch.testing.assert_close(found, expected(x))
    assert settled.used


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_fused_attention_is_settled_without_its_dropout(share: float) -> None:
    q, k, v = torch.randn(3, 1, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with Settled(0.3) as settled:
        found, _ = fused(q, k, v, share)

    assert settled.used == (share > 0)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v))


def test_a_norm_over_single_pixels_is_compared_on_samples_that_differ() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Conv2d(16, 24, 1), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4)),
    )
    image = torch.randn(1, 3, 9, 9)
    result = prunus.prune(model, image, target=prunus.Target(params=0.4))
    assert [group["after"] < group["before"] for group in result.report.groups] == [True, True]


class Wide(nn.Module):
    """Two layers; what is between them in train mode is given."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(8, 16), nn.Linear(16, 4), between

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.last(self.between(h, x) if self.training else h)


def pruned(model: nn.Module, **options: Any) -> prunus.Result:
    method = prunus.methods.l1_filter(coupled=True, round_to=1)
    target = prunus.Target(sparsity=0.5)
    return prunus.prune(model, X[:, 0], method=method, target=target, **options)


def _in_single_precision(h: Tensor, x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError("float32 only")
    return h + torch.arange(16.0)


def _after_a_draw(h: Tensor, x: Tensor) -> Tensor:
    torch.multinomial(torch.ones(len(x)), 1)
    return h + h.flip(1)


@pytest.mark.parametrize("between", [_in_single_precision, _after_a_draw])
def test_no_dtype_and_no_draw_hides_what_is_wrong_in_train_mode(between: Any) -> None:
    with pytest.raises(EquivalenceError, match="in train mode"):
        pruned(Wide(between))


def _needs_targets(h: Tensor, x: Tensor) -> Tensor:
    raise ValueError("give targets\nin train mode")


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (_needs_targets, "the network itself fails there (ValueError: give targets)"),
        (lambda h, x: torch.poisson(h), "poisson draws random numbers that depend on the channels"),
        (lambda h, x: h * torch.poisson(x.abs()).sum(1, keepdim=True), ""),
    ],
)
def test_a_report_says_why_train_mode_was_not_compared(between: Any, why: str) -> None:
    report = pruned(Wide(between)).report

    assert report.verification.untrained == why
    assert (f"not compared in train mode: {why}" in str(report)) == bool(why)


class Normed(Wide):
    def __init__(self, between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(between)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        return self.last(self.between(h, x) if self.training else h)


def test_train_mode_is_compared_over_what_remains_of_averages_too() -> None:
    assert pruned(Normed(lambda h, x: h * 2), exact=False).report.verification.untrained == ""
    with pytest.raises(EquivalenceError, match="outputs in train mode"):
        pruned(Normed(lambda h, x: h + h.flip(1)), exact=False)


class Dropped(Base):
    """Drops its branch at random, by random numbers of Python."""

    def body(self, x: Tensor) -> Tensor:
        dropped = self.training and random.random() < 0.5
        return (x if dropped else x + self.f2(self.f1(x).relu())).view(-1, 5, 8)


def test_a_choice_by_pythons_random_numbers_is_not_frozen_into_a_graph() -> None:
    model = Dropped()
    space = trace(model, X)
    keep = {group.name: torch.arange(group.size) < group.size // 2 for group in space.groups}
    for seed in range(5):
        random.seed(seed)
        with pytest.raises(EquivalenceError, match="in train mode"):
            shrink(model, space, keep, X)


class Squares(nn.Module):
    """Exchanges its channels where an image is large, as a function of its side says."""

    def __init__(self, large: Callable[[int], Any]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1)
        self.large = large

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if self.large(h.shape[-1]):
            h = torch.cat(h.chunk(2, 1)[::-1], 1)
        return self.last(h)


@pytest.mark.parametrize(
    "large",
    [
        lambda side: side >= 16,
        lambda side: side > 24,
        lambda side: int(side) >= 16,
        lambda side: side >> 4,
        lambda side: side.bit_length() > 4,
        lambda side: len(range(0, side, 8)) > 1,
        lambda side: math.sqrt(side) >= 4,
    ],
)
def test_another_way_for_larger_inputs_is_found(large: Callable[[int], Any]) -> None:
    """The network's own class would go it with the wrong channels; a graph refuses it."""
    net = Squares(large)
    method = prunus.methods.l1_filter(coupled=True, round_to=1)
    image = torch.randn(2, 3, 8, 8)

    result = prunus.prune(net, image, method=method, target=prunus.Target(sparsity=0.5))

    assert result.report.form == "rewritten graph"
    for side in (32, 40):
        with pytest.raises(ValueError, match="with an example of the size you need"):
            result.model(torch.randn(1, 3, side, side))


class Sequence(Base):
    """As many steps as features, so that the two sizes are alike."""

    def __init__(self, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.after(self.body(self.stem(x))).sum(1))


@pytest.mark.parametrize(
    "after",
    [
        lambda x: sum(x[:, t] for t in range(x.shape[1]))[:, None],
        lambda x: x * math.log(x.shape[1]),
        lambda x: torch.cat(x.split(x.shape[1] // 2, 1)[::-1][:2], 1),
        lambda x: x * len(x.split(max(1, x.shape[1] // 4), 1)),
    ],
)
def test_a_graph_is_held_to_a_size_that_is_also_another_dimensions(after: Any) -> None:
    square = torch.randn(2, 8, 8)
    model = Sequence(after)
    keep = {"f2:branch": torch.tensor([False])}

    small = shrink(model, trace(model, square), keep, square).model

    assert small.only == (((None, 8, 8),),)


@pytest.mark.parametrize(
    "after", [lambda x: x[:, : divmod(x.shape[1], 4)[0] * 4], lambda x: x * (1 + (x.shape[1] & 1))]
)
def test_whole_number_arithmetic_follows_the_size(after: Any) -> None:
    model = Sequence(after)
    small = without_the_branch(model).model

    for length in (4, 7, 9, 33):
        agree(model, small, torch.randn(2, length, 8))


@pytest.mark.parametrize(
    "between", [lambda h: F.dropout(h, 0.5, training=True), lambda h: h + torch.randn_like(h)]
)
@pytest.mark.parametrize("written", [False, True])
def test_numbers_drawn_in_eval_mode_are_settled_too(between: Any, written: bool) -> None:
    class Drawing(Wide):
        def forward(self, x: Tensor) -> Tensor:
            h = between(self.first(x).relu())
            return self.last(h.view(-1, 16) if written else h)

    report = pruned(Drawing(between)).report

    assert report.form == ("rewritten graph" if written else "original classes")


def test_a_choice_by_chance_in_eval_mode_is_not_frozen_into_a_graph() -> None:
    class Choosing(Wide):
        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x).relu().view(-1, 16)
            return self.last(h if torch.rand(1).item() < 0.5 else h * 2)

    said = "rewritten graph: outputs differ .* and it draws random numbers in eval mode"
    with pytest.raises(EquivalenceError, match=said):
        pruned(Choosing(lambda h, x: h))
