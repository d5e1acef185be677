"""Residual branches: which there are, what they cost, and networks without them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunus
from prunus.criteria import L1
from prunus.errors import EquivalenceError, TargetError
from prunus.methods import Method
from prunus.selectors import TopK
from prunus.space import Branches, Space, trace
from prunus.space.shrink import Shrunk, shrink
from prunus.types import Target

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
DEPTH = Method(
    name="depth",
    granularity=Branches(),
    criterion=L1(reduce="mean"),
    selector=TopK(scope="global"),
)


class Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.down: nn.Module | None = None
        if stride > 1 or into != out:
            self.down = nn.Sequential(nn.Conv2d(into, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.down is None else self.down(x)
        return self.relu(out)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8, 8), Block(8, 16, 2), Block(16, 16), Block(16, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).relu()).mean((2, 3)))


class Transformer(nn.Module):
    """Attention and feed-forward in a row, or both beside each other."""

    def __init__(self, parallel: bool = False) -> None:
        super().__init__()
        self.parallel = parallel
        self.position = nn.Parameter(torch.randn(5, 8))
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8), nn.Dropout(0.1))
        self.scale = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.position
        y = self.norm1(x)
        mixed = self.attention(y, y, y, need_weights=False)[0]
        if self.parallel:
            x = x + mixed + self.scale * self.mlp(y)
        else:
            x = x + mixed
            x = x + self.scale * self.mlp(self.norm2(x))
        return self.head(x)


class Nested(nn.Module):
    """A branch inside a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.inner, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.into(x)
        y = y + self.inner(y).relu()
        return x + self.out(y)


class StochasticDepth(nn.Module):
    """In training whole branches are dropped for some samples."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            added = layer(x).relu()
            if self.training:
                kept = x.new_empty(x.shape[0], 1, 1).bernoulli_(0.5)
                added = added.div(0.5) * kept
            x = x + added
        return self.head(x)


class InPlace(nn.Module):
    """What the sum reads was written into on the way to the branch: that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.out(torch.relu_(x)))


class Shared(nn.Module):
    """The last layer of the branch is used elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.into(x))
        return self.head(x + self.layer(x))


def names(space: Space) -> list[str]:
    return [branch.name.removesuffix(":branch") for branch in space.branches]


def dropping(space: Space, *gone: str) -> dict[str, Tensor]:
    return {f"{name}:branch": torch.tensor([False]) for name in gone}


def drop(model: nn.Module, example: Any, *gone: str) -> tuple[Space, Shrunk]:
    space = trace(model, example)
    return space, shrink(model, space, dropping(space, *gone), example)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "example", "expected"),
    [
        (Residual(), IMAGE, [f"blocks.{k}.bn2" for k in range(4)]),
        (Transformer(), TOKENS, ["attention.out_proj", "mlp.2"]),
        (Transformer(parallel=True), TOKENS, ["attention.out_proj", "mlp.2"]),
        (StochasticDepth(), TOKENS, ["layers.0", "layers.1", "layers.2"]),
        (Nested(), TOKENS, ["inner", "out"]),
        (InPlace(), TOKENS, ["out"]),
        (Shared(), TOKENS, []),
        (nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), TOKENS, []),
    ],
)
def test_branches_are_found_by_what_is_added(
    model: nn.Module, example: Tensor, expected: list[str]
) -> None:
    assert names(trace(model, example)) == expected


def test_a_branch_owns_what_only_it_reads() -> None:
    found = {b.name: set(b.tensors) for b in trace(Transformer(parallel=True), TOKENS).branches}

    # the norm is read by the other branch as well, so both leave it alone
    assert found["mlp.2:branch"] == {
        *("mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias", "scale")
    }
    assert not any("norm" in name for name in found["attention.out_proj:branch"])


@pytest.mark.parametrize("gone", [("blocks.0.bn2",), ("blocks.1.bn2", "blocks.3.bn2")])
def test_a_network_without_branches_costs_what_was_said(gone: tuple[str, ...]) -> None:
    model = Residual()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    space, small = drop(model, IMAGE, *gone)

    widths = space.widths(dropping(space, *gone))
    assert small.form == "rewritten graph"
    assert small.verification is not None
    assert small.verification.passed
    assert parameters(small.model) == float(space.params.at(widths)) < parameters(model)
    assert trace(small.model, IMAGE).macs.dense == float(space.macs.at(widths))
    left = {name for name, _ in small.model.named_parameters()}
    for branch in space.branches:
        is_gone = branch.name.removesuffix(":branch") in gone
        assert left.isdisjoint(branch.tensors) if is_gone else left >= {*branch.ends}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("parallel", [False, True])
def test_a_transformer_without_its_attention_trains_and_takes_other_sizes(parallel: bool) -> None:
    _, small = drop(Transformer(parallel), TOKENS, "attention.out_proj")

    assert not any("attention" in key for key in small.model.state_dict())
    small.model.train()(torch.randn(3, 5, 8)).sum().backward()
    assert all(p.grad is not None for p in small.model.parameters() if p.requires_grad) or parallel


def test_a_branch_goes_from_the_graph_of_training_too() -> None:
    _, small = drop(StochasticDepth(), TOKENS, "layers.1")

    trained = small.model.train()(torch.randn(4, 5, 8))
    assert trained.shape == (4, 5, 2)
    assert [name for name, _ in small.model.named_parameters()] == [
        *("layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"),
        *("head.weight", "head.bias"),
    ]


@pytest.mark.parametrize("gone", [("inner",), ("out",), ("inner", "out"), ("out", "inner")])
def test_a_branch_may_lie_inside_another(gone: tuple[str, ...]) -> None:
    space, small = drop(Nested(), TOKENS, *gone)

    left = float(space.params.at(space.widths(dropping(space, *gone))))
    assert parameters(small.model) == left


def test_a_network_that_names_a_precision_can_do_without_a_branch() -> None:
    class Typed(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.zeros(4, dtype=x.dtype)

    _, small = drop(Typed(), IMAGE, "blocks.2.bn2")

    assert small.model.double()(IMAGE.double()).dtype == torch.float64


def test_channels_and_branches_go_together() -> None:
    model = Residual()
    space = trace(model, IMAGE)
    keep = dropping(space, "blocks.2.bn2")
    keep |= {g.name: torch.arange(g.size) % 2 == 0 for g in space.groups}

    small = shrink(model, space, keep, IMAGE)

    widths = space.widths(keep)
    assert parameters(small.model) == float(space.params.at(widths))
    assert trace(small.model, IMAGE).macs.dense == float(space.macs.at(widths))


def test_the_mask_makes_the_original_compute_the_same() -> None:
    model = Residual()
    result = prunus.prune(model, IMAGE, method=DEPTH, target=Target(params=0.6))

    assert result.report.branches
    assert set(result.mask) >= {name for name, _ in model.named_parameters()}
    gone = {name for name, kept in result.mask.items() if not kept.any()}
    assert {name.split(".")[0] for name in gone} == {"blocks"}
    assert prunus.verify(result.mask, result.model, IMAGE, model=model).passed
    assert result.report.reached == pytest.approx(0.6, abs=0.15)
    assert "residual branches" in str(result.report)


def test_the_weakest_branch_goes_first() -> None:
    model = Residual()
    with torch.no_grad():
        model.blocks[2].bn2.weight.mul_(0.01)
        model.blocks[2].bn2.bias.mul_(0.01)
    result = prunus.prune(model, IMAGE, method=DEPTH, target=Target(sparsity=0.25))

    assert result.report.branches == ["blocks.2.bn2:branch"]


def test_all_branches_may_go_but_no_further() -> None:
    model = Residual()
    every = prunus.prune(model, IMAGE, method=DEPTH, target=Target(density=0.01))
    assert len(every.report.branches) == 4

    with pytest.raises(TargetError, match="cannot be reached"):
        prunus.prune(model, IMAGE, method=DEPTH, target=Target(params=0.01))


def test_skipped_branches_stay() -> None:
    method = Method(
        name="depth",
        granularity=Branches(skip=("blocks.0.*",)),
        criterion=L1(reduce="mean"),
        selector=TopK(scope="global"),
    )
    result = prunus.prune(Residual(), IMAGE, method=method, target=Target(density=0.01))

    assert "blocks.0.bn2:branch" not in result.report.branches
    with pytest.raises(ValueError, match=r"skip names 'layer\.\*'"):
        prunus.prune(
            Residual(),
            IMAGE,
            method=Method(
                name="depth",
                granularity=Branches(skip=("layer.*",)),
                criterion=L1(),
                selector=TopK(),
            ),
            target=Target(density=0.5),
        )


def test_it_is_saved_and_pruned_again(tmp_path: Path) -> None:
    model = Residual()
    small = prunus.prune(model, IMAGE, method=DEPTH, target=Target(sparsity=0.25)).model
    again = prunus.prune(small, IMAGE, target=Target(macs=0.8)).model
    third = prunus.prune(again, IMAGE, method=DEPTH, target=Target(sparsity=0.4)).model

    for network in (small, again, third):
        prunus.save(network, tmp_path / "small.safetensors")
        loaded = prunus.load(tmp_path / "small.safetensors", Residual(), IMAGE)
        assert torch.equal(loaded.eval()(IMAGE), network.eval()(IMAGE))


def test_the_optimizer_lets_go_of_it() -> None:
    model = Residual()
    optimizer = torch.optim.Adam(
        [{"params": model.blocks.parameters(), "lr": 0.1}, {"params": model.head.parameters()}]
    )
    model(IMAGE).sum().backward()
    optimizer.step()

    small = prunus.prune(
        model, IMAGE, method=DEPTH, target=Target(sparsity=0.5), optimizer=optimizer
    ).model

    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    own = {id(p) for name, p in small.named_parameters() if not name.startswith("stem")}
    assert held == own == {id(p) for p in optimizer.state}
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.001]
    small.train()(IMAGE).sum().backward()
    optimizer.step()


def test_a_pruner_takes_branches_in_any_loop() -> None:
    model = Residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    pruner = prunus.Pruner(model, IMAGE, DEPTH, target=Target(sparsity=0.5))
    for _ in range(3):
        optimizer.zero_grad()
        model(IMAGE).square().mean().backward()
        optimizer.step()
        pruner.step(optimizer)

    result = pruner.finish(optimizer)

    assert len(result.report.branches) == 2


def test_without_a_graph_branches_stay() -> None:
    class Opaque(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.from_numpy(x.numpy() * 1))

    model = Opaque()
    assert trace(model, IMAGE).branches == ()
    with pytest.raises(ValueError, match="finds nothing to prune"):
        prunus.prune(model, IMAGE, method=DEPTH, target=Target(sparsity=0.5))


def test_a_forward_of_the_users_own_cannot_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from prunus.space import shrink as module

    monkeypatch.delitem(module.FORMS, "rewritten graph")
    with pytest.raises(EquivalenceError, match="runs the residual branches"):
        drop(Residual(), IMAGE, "blocks.0.bn2")
