"""Whatever fails while channels are removed, the model and its optimizer stay as they were."""

import inspect
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import prunus
from comparison import same, state
from networks import randomised
from prunus.methods import l1_filter
from prunus.types import Target

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Untidy(nn.Module):
    """Tied weights, a parametrisation, hooks, a frozen layer, a gradient, and sizes written down.

    Args:
        plain: Without the sizes, so that its own class can run with fewer channels.
    """

    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.plain = plain
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.normed = parametrizations.weight_norm(nn.Conv2d(8, 8, 1))
        self.mix, self.again = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.again.weight = self.mix.weight
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.normed(self.norm(self.conv(x)).relu())
        x = self.mix(x).relu() + self.again(x)
        x = self.drop(x.mean((2, 3)))
        return self.out(x if self.plain else x.view(-1, 8))


def untidy(plain: bool = False) -> nn.Module:
    net = randomised(Untidy(plain), 1).train()
    net.norm.eval()
    net.again.bias.requires_grad_(False)
    net.mix.register_forward_hook(lambda module, given, out: out)
    net.register_forward_pre_hook(lambda module, given: None)
    net.mix.register_full_backward_hook(lambda module, before, after: None)
    return net


def trained(net: nn.Module) -> torch.optim.Optimizer:
    """Return an optimizer that has a state for every parameter, in two groups."""
    first = [p for name, p in net.named_parameters() if name.startswith("conv")]
    ids = {id(p) for p in first}
    rest = [p for p in net.parameters() if id(p) not in ids and p.requires_grad]
    optimizer = torch.optim.Adam([{"params": first, "lr": 0.1}, {"params": rest}], weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(IMAGE).square().sum().backward()
        optimizer.step()
    return optimizer


def pruned(net: nn.Module, example: Tensor, optimizer: torch.optim.Optimizer) -> prunus.Result:
    method, target = l1_filter(coupled=True, round_to=1), Target(sparsity=0.5)
    return prunus.prune(net, example, method=method, target=target, optimizer=optimizer)


def everything(net: nn.Module, optimizer: torch.optim.Optimizer, example: Tensor) -> dict[str, Any]:
    """Return all that must not change."""
    names = {id(p): name for name, p in net.named_parameters()}
    return {
        "model": state(net),
        "gradients": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "groups": [
            {**group, "params": [names.get(id(p), "?") for p in group["params"]]}
            for group in optimizer.param_groups
        ],
        "state": {
            names.get(id(p), "?"): {
                key: (id(x), x.clone()) if isinstance(x, Tensor) else x for key, x in held.items()
            }
            for p, held in optimizer.state.items()
        },
        "example": example.clone(),
        "random": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),
        "switches": (torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled()),
        "patched": (id(len), id(nn.Module.__call__), id(_apply())),
    }  # fmt: skip


def _apply() -> Any:
    return inspect.getattr_static(torch.autograd.Function, "apply")


STAGES = {
    "looking at operations": ("prunus.space.tracer.Tracer.assign", 9),
    "tracing again in train mode": ("prunus.space.space.partition", 1),
    "scoring": ("prunus.pruning.plan.Evidence", 1),
    "copying": ("copy.deepcopy", 1),
    "copying the parts": ("torch.nn.Parameter.__deepcopy__", 3),
    "slicing": ("prunus.space.remove.sliced", 3),
    "correcting attributes": ("prunus.space.remove.correct_attributes", 1),
    "recording the graph": ("prunus.space.capture.GraphRecorder._argument", 12),
    "recording in train mode": ("prunus.space.rewrite._in_training", 1),
    "following sizes": ("prunus.space.rewrite._follow", 1),
    "writing the program": ("prunus.space.graph_network.Program.of", 1),
    "masking": ("prunus.space.check.apply_mask", 1),
    "running the masked copy": ("prunus.space.check._outputs", 1),
    "comparing": ("prunus.space.check.difference", 1),
    "verification": ("prunus.space.shrink.Reference", 1),
    "verification with random weights": ("prunus.space.check.redrawn", 1),
    "the training check": ("prunus.space.shrink.check_training", 1),
    "the report": ("prunus.pruning.plan.account", 1),
    "the optimizer": ("prunus.pruning.plan.carry_over", 1),
    "the optimizer's look ahead": ("prunus.masking.optimizer._check", 1),
    "the optimizer's state": ("prunus.masking.optimizer.sliced", 3),
}
"""Where it fails, and at which call."""

GRAPH_ALONE = ("recording", "following sizes", "writing the program")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, BaseException], list[int]]:
    """Let a function fail from its n-th call on; returns the number of calls."""

    def fail(target: str, after: int, error: BaseException) -> list[int]:
        module, _, name = target.rpartition(".")
        owner = _found(module)
        plain, bound = inspect.getattr_static(owner, name), getattr(owner, name)
        calls = [0]

        def function(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] >= after:
                raise error
            return bound(*args, **kwargs)

        monkeypatch.setattr(
            owner, name, staticmethod(function) if isinstance(plain, staticmethod) else function
        )
        return calls

    return fail


def _found(path: str) -> Any:
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = __import__(".".join(parts[:count]), fromlist=["x"])
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ImportError(path)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize(
    ("stage", "plain"),
    [(stage, True) for stage in STAGES if not stage.startswith(GRAPH_ALONE)]
    + [(stage, False) for stage in STAGES],
)
def test_a_failure_changes_nothing(
    stage: str,
    plain: bool,
    error: type[BaseException],
    failing: Callable[[str, int, BaseException], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, example = untidy(plain), IMAGE.clone()
    optimizer = trained(net)
    before = everything(net, optimizer, example)
    target, after = STAGES[stage]
    calls = failing(target, after, error("injected"))

    try:
        pruned(net, example, optimizer)
    except BaseException:
        changed = set()
    else:  # what needs a graph was left whole, so there is a result
        assert stage == "recording the graph"
        changed = {"groups", "state"}

    monkeypatch.undo()
    assert calls[0] >= after
    now = everything(net, optimizer, example)
    assert {key for key in before if not same(before[key], now[key])} == changed


@pytest.mark.parametrize("plain", [True, False])
def test_a_success_changes_the_optimizer_alone(plain: bool) -> None:
    net, example = untidy(plain), IMAGE.clone()
    optimizer = trained(net)
    before = everything(net, optimizer, example)

    result = pruned(net, example, optimizer)

    after = everything(net, optimizer, example)
    changed = {key for key in before if not same(before[key], after[key])}
    assert changed == {"groups", "state"}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held <= {id(p) for p in result.model.parameters()}
    assert all(
        x.shape in (p.shape, ()) for p, kept in optimizer.state.items() for x in kept.values()
    )


@pytest.mark.parametrize(
    "stage", ["slicing", "verification", "the training check", "the optimizer"]
)
def test_a_failure_in_finish_leaves_the_pruner_ready(
    stage: str,
    failing: Callable[[str, int, BaseException], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = untidy()
    optimizer = trained(net)
    method = l1_filter(coupled=True, round_to=1)
    pruner = prunus.Pruner(net, IMAGE, method, target=Target(sparsity=0.5))
    before = everything(net, optimizer, IMAGE)
    failing(*STAGES[stage], MemoryError("injected"))

    with pytest.raises(MemoryError):
        pruner.finish(optimizer)

    monkeypatch.undo()
    assert same(before, everything(net, optimizer, IMAGE))
    assert pruner.finish(optimizer).model.conv.out_channels == 4


class Merging(nn.Linear):
    """A low-rank update beside the weight, merged into it for evaluation as in loralib."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.a, self.b = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))
        self.merged = False

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (self.b @ self.a) * (-1 if mode else 1)
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ self.a.t() @ self.b.t()


def test_weights_that_are_merged_for_evaluation_stay_as_they_were():
    torch.manual_seed(0)
    net = nn.Sequential(Merging(8, 16), nn.ReLU(), nn.Linear(16, 4)).train()
    x = torch.randn(4, 8)
    before = state(net)

    prunus.space.trace(net, x)
    result = prunus.prune(net, x, method=l1_filter(round_to=1), target=Target(sparsity=0.5))

    assert same(before, state(net))
    assert not net[0].merged
    assert len(result.model[0].b) == 8


class Restless(nn.Module):
    """Replaces a module and registers a buffer, fills a list and a dict, and draws numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Linear(8, 16), nn.Linear(16, 4), nn.ReLU()
        self.seen, self.cache, self.outputs = [], {"first": 1}, {}
        self.a.register_forward_hook(lambda module, given, out: self.outputs.update(a=out))

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.a(x))
        self.act = nn.GELU()
        self.register_buffer("calls", torch.ones(1))
        self.seen.append(h)
        self.cache[len(x)] = h
        return self.b(h) + 0 * (random.random() + np.random.rand())


def test_what_a_forward_leaves_behind_is_gone_afterwards():
    net, x = Restless(), torch.randn(4, 8)
    act, states = net.act, (random.getstate(), np.random.get_state()[1].tolist())

    prunus.prune(net, x, method=l1_filter(round_to=1), target=Target(sparsity=0.5))

    assert net.act is act
    assert "calls" not in net.state_dict()
    assert (net.seen, net.cache, net.outputs) == ([], {"first": 1}, {})
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
