"""The recorded graph: what runs where the user's own class has sizes written down."""

import copy
import inspect
import pickle
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import register_dataclass

from blocks import Attention, Repeated, SelfAttention
from comparison import apart, difference, masked, outputs, same, state, tensors_in
from networks import randomised
from prunus import Target, load, prune, save
from prunus.deploy import export_onnx
from prunus.errors import EquivalenceError
from prunus.methods import l1_filter
from prunus.space import trace
from prunus.space.decisions import Refused
from prunus.space.graph_network import GraphNetwork
from prunus.space.shrink import Shrunk, shrink
from prunus.types import Example, Mask

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
X = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))


class Halves(nn.Module):
    """A convolutional network that reads the halves of its channels at places written down."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.mix, self.out = nn.Conv2d(4, 6, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        x = self.mix(x[:, :4] * torch.sigmoid(x[:, 4:]))
        return self.out(x.mean((2, 3)))


class Middle(nn.Module):
    """Two linear layers; what is between them, and after them, is given."""

    def __init__(
        self,
        between: Callable[..., Tensor] = lambda h: h,
        after: Callable[[Tensor], Any] = lambda y: y,
    ) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.between, self.after = between, after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.last(self.between(self.first(x)).view(-1, 6)))


def every_other(model: nn.Module, example: Example) -> tuple[Shrunk, Mask]:
    """Remove every second unit of every group."""
    space = trace(model, example)
    keep = {group.name: torch.arange(group.size) % 2 == 0 for group in space.groups}
    assert keep
    return shrink(model, space, keep, example), space.mask(keep)


def recorded(model: nn.Module, example: Example) -> tuple[nn.Module, Mask]:
    """Remove every second unit and see that it took a graph."""
    shrunk, mask = every_other(model, example)
    assert shrunk.form == "rewritten graph"
    assert isinstance(shrunk.model, GraphNetwork)
    assert difference(model, shrunk.model, mask, example) <= 1e-9
    return shrunk.model, mask


def attention() -> nn.Module:
    options = {"kernel": "softmax", "scale": "shape", "causal": True, "rotary": True}
    return Attention(6, 4, 4, fused=True, shared=1, **options)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (5, 3, 8, 8), (2, 3, 5, 9), (3, 3, 1, 1)])
def test_a_graph_takes_other_batch_and_image_sizes(shape: tuple[int, ...]) -> None:
    net = randomised(Halves(), 1)
    small, mask = recorded(net, IMAGE)

    other = torch.randn(shape, dtype=torch.float64)

    assert apart(outputs(masked(net, mask), other), outputs(small.double(), other)) <= 1e-9


@pytest.mark.parametrize("shape", [(1, 5, 6), (4, 5, 6), (2, 1, 6), (3, 9, 6)])
@pytest.mark.parametrize("make", [attention, lambda: SelfAttention(6, 2, weights=True)])
def test_a_graph_takes_other_numbers_of_tokens(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    net = randomised(make(), 1)
    shrunk, mask = every_other(net, TOKENS)

    other = torch.randn(shape, dtype=torch.float64)

    got = outputs(shrunk.model.double(), other)
    assert apart(outputs(masked(net, mask), other), got) <= 1e-9


def test_modes_differ_as_they_did() -> None:
    class Dropping(Halves):
        def forward(self, x: Tensor) -> Tensor:
            x = F.dropout(super().forward(x), 0.5, training=self.training)
            return 2 * x if self.training else x

    net = randomised(Dropping(), 1)
    small, mask = recorded(net, IMAGE)
    reference, small = masked(net, mask).train(), small.double().train()

    torch.manual_seed(0)
    expected = reference(IMAGE.double())
    torch.manual_seed(0)
    got = small(IMAGE.double())

    assert expected.eq(0).any()
    assert apart([expected], [got]) <= 1e-9
    assert same(state(reference)["values"]["norm.running_mean"][::2], small.norm.running_mean)
    assert not small.eval()(IMAGE.double()).eq(0).any()


def test_an_extra_head_is_used_in_training_alone() -> None:
    class Auxiliary(Halves):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Any:
            out = super().forward(x)
            return (out, self.extra(self.conv(x).mean((2, 3)))) if self.training else out

    net = randomised(Auxiliary(), 1)
    small, mask = recorded(net, IMAGE)
    reference = masked(net, mask).train()

    got = small.double().train()(IMAGE.double())

    assert apart(list(reference(IMAGE.double())), list(got)) <= 1e-9
    assert isinstance(small.eval()(IMAGE.double()), Tensor)


class Keywords(Middle):
    def forward(self, x: Tensor, *, shift: Tensor | None = None, scale: float = 1.0) -> Tensor:
        h = self.first(x) * scale
        return self.last((h if shift is None else h + shift).view(-1, 6))


def test_inputs_are_given_as_they_were() -> None:
    net = randomised(Keywords(), 1)
    example = {"x": X, "shift": torch.ones(3, 1), "scale": 0.5}
    small, mask = recorded(net, example)
    reference, small = masked(net, mask), small.double()
    x = X.double()

    got = small(scale=0.5, shift=torch.ones(3, 1).double(), x=x)

    assert apart([reference(x, shift=torch.ones(3, 1).double(), scale=0.5)], [got]) <= 1e-9


def test_defaults_stay() -> None:
    net = randomised(Keywords(), 1)
    small, mask = recorded(net, {"x": X})

    assert apart([masked(net, mask)(X.double())], [small.double()(X.double())]) <= 1e-9


class Further(Middle):
    def forward(self, x: Tensor, shift: Tensor | None = None, **further: Any) -> Tensor:
        h = self.first(x)
        return self.last((h if shift is None else h + shift).view(-1, 6))


def test_an_input_that_the_example_left_out_is_refused_with_the_way_out() -> None:
    small, mask = recorded(net := randomised(Further(), 1), {"x": X})

    assert apart([masked(net, mask)(X.double())], [small.double()(X.double())]) <= 1e-9
    said = r"shift=<tensor of \(3, 1\)> cannot be given: .* with shift=None"
    with pytest.raises(Refused, match=said):
        small(X.double(), shift=torch.ones(3, 1).double())


def test_inputs_that_hold_inputs_are_looked_into() -> None:
    class Nested(Middle):
        def forward(self, pair: tuple[Tensor, dict[str, Tensor]]) -> Tensor:
            return super().forward(pair[0] + pair[1]["more"])

    net = randomised(Nested(), 1)
    small, mask = recorded(net, ((X, {"more": X.square()}),))
    given = (X.double(), {"more": X.double().square()})

    assert apart([masked(net, mask)(given)], [small.double()(given)]) <= 1e-9


@dataclass
class Answer:
    logits: Tensor
    hidden: Any = None


register_dataclass(Answer)
Pair = namedtuple("Pair", ["one", "two"])


@pytest.mark.parametrize(
    "after",
    [
        lambda y: {"logits": y, "more": [y.exp()]},
        lambda y: (y, (y.exp(), None), 3),
        lambda y: Pair(y, y.exp()),
        lambda y: Answer(y, {"exp": y.exp()}),
        lambda y: [y],
    ],
    ids=["dict", "tuple", "named tuple", "dataclass", "list"],
)
def test_outputs_keep_their_form(after: Callable[[Tensor], Any]) -> None:
    net = randomised(Middle(after=after), 1)
    small, mask = recorded(net, X)

    expected, got = masked(net, mask)(X.double()), small.double()(X.double())

    assert type(got) is type(expected)
    assert apart(list(tensors_in(expected)), list(tensors_in(got))) <= 1e-9


def test_keys_copies_and_precision_are_those_of_any_module(tmp_path: Path) -> None:
    net = randomised(Halves(), 1)
    small, _ = recorded(net, IMAGE)
    assert list(small.state_dict()) == list(net.state_dict())
    assert [name for name, _ in small.named_modules()] == [name for name, _ in net.named_modules()]

    copied = copy.deepcopy(small)
    assert apart([small(IMAGE)], [copied(IMAGE)]) == 0
    copied.conv.weight.data.zero_()
    assert small.conv.weight.any()

    torch.save(small.state_dict(), tmp_path / "small.pt")
    copied.load_state_dict(torch.load(tmp_path / "small.pt"))
    assert apart([small(IMAGE)], [copied(IMAGE)]) == 0

    for dtype, tolerance in ((torch.float64, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 1e-2)):
        cast = copy.deepcopy(small).to(dtype)(IMAGE.to(dtype))
        assert cast.dtype == dtype
        assert apart([small(IMAGE)], [cast.float()]) <= tolerance


@pytest.mark.parametrize("name", ["halves", "attention", "backward"])
def test_a_graph_can_be_pickled(name: str, tmp_path: Path) -> None:
    nets = {
        "halves": (Halves, IMAGE),
        "attention": (attention, TOKENS),
        "backward": (lambda: Middle(Through(Reversed)), X),
    }
    make, example = nets[name]
    small, _ = recorded(randomised(make(), 1), example)
    small.hold_to([example], batch=False)

    torch.save(small, tmp_path / "small.pt")
    loaded = torch.load(tmp_path / "small.pt", weights_only=False)

    assert isinstance(loaded, GraphNetwork)
    assert apart(outputs(loaded, example), outputs(small, example)) == 0
    assert inspect.signature(loaded.forward) == inspect.signature(small.forward)
    assert loaded.only == small.only and loaded.state_dict().keys() == small.state_dict().keys()
    loaded.train()(example)
    assert pickle.loads(pickle.dumps(copy.deepcopy(loaded))).training


class Through:
    """Applies a function with a backward of its own."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, h: Tensor) -> Tensor:
        return self.function.apply(h)


def test_tensors_made_in_forward_follow_the_precision() -> None:
    small, _ = recorded(randomised(attention(), 1), TOKENS)

    assert small.double()(TOKENS.double()).dtype == torch.float64
    assert small.bfloat16()(TOKENS.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["maps", "tokens"])
def test_a_graph_compiles_and_exports(name: str, tmp_path: Path) -> None:
    net, example = (Halves(), IMAGE) if name == "maps" else (attention(), TOKENS)
    small, _ = recorded(randomised(net, 1), example)
    expected = small(example)

    compiled = torch.compile(small, backend="eager")
    exported = torch.export.export(small, (example,)).module()
    file = export_onnx(small, example, tmp_path / "small.onnx", dynamic_batch=False)

    assert apart([expected], [compiled(example)]) <= 1e-6
    assert apart([expected], [exported(example)]) <= 1e-6
    assert file.is_file()


def test_a_graph_exports_with_an_open_batch(tmp_path: Path) -> None:
    small, _ = recorded(randomised(Halves(), 1), IMAGE)

    assert export_onnx(small, IMAGE, tmp_path / "small.onnx").is_file()


def test_a_graph_can_be_pruned_again() -> None:
    net = randomised(Halves(), 1)
    once, _ = recorded(net, IMAGE)

    shrunk, mask = every_other(once, IMAGE)

    assert difference(once, shrunk.model, mask, IMAGE) <= 1e-9
    assert list(shrunk.model.state_dict()) == list(net.state_dict())
    assert shrunk.model.conv.out_channels == 2
    assert "Halves" in repr(shrunk.model)


class Reversed(torch.autograd.Function):
    """Gradients change their sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def test_a_backward_of_its_own_is_kept() -> None:
    net = randomised(Middle(lambda h: Reversed.apply(h)), 1)
    plain = copy.deepcopy(net)
    plain.between = lambda h: h
    small, _ = recorded(net, X)
    other, _ = recorded(plain, X)

    for network in (small, other):
        network(X).sum().backward()

    assert apart([small(X)], [other(X)]) == 0
    assert same(small.first.weight.grad, -other.first.weight.grad)
    assert small.first.weight.grad.any()


def test_a_backward_that_no_recording_sees_is_refused() -> None:
    """`apply` was taken before it could be replaced, so its forward alone would be recorded."""
    net = randomised(Middle(Reversed.apply), 1)

    with pytest.raises(EquivalenceError, match="that no call of PyTorch's has made"):
        every_other(net, X)


SIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "a root of the width": lambda h: h / h.shape[1] ** 0.5,
    "a root of the width by size()": lambda h: h * h.size(-1) ** -0.5,
    "the width in a function": lambda h: torch.add(h, h.exp(), alpha=h.shape[1]),
    "the number of entries": lambda h: h / h.numel() * h.shape[0],
    "half the width": lambda h: h * (h.shape[1] // 2),
    "the length": lambda h: h + len(h),
    "the length and the width": lambda h: h / (len(h) * h.shape[1]) * h.shape[0],
    "a float of it": lambda h: h * float(h.shape[1]),
    "a value to fill with": lambda h: h + torch.full((), h.shape[1]),
}


@pytest.mark.parametrize("what", SIZES)
def test_sizes_used_as_numbers_are_those_of_the_dense_network(what: str) -> None:
    net = randomised(Middle(SIZES[what]), 1)
    small, mask = recorded(net, X)

    other = torch.randn(7, 4, dtype=torch.float64)

    assert apart(outputs(masked(net, mask), other), outputs(small.double(), other)) <= 1e-9


CONSTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "slices": lambda h: torch.cat([h[:, 3:], h[:, :3]], 1),
    "negative slices": lambda h: torch.cat([h[:, -2:], h[:, :-2]], 1),
    "narrow": lambda h: torch.cat([h.narrow(1, 2, 4), h.narrow(1, 0, 2)], 1),
    "split": lambda h: torch.cat(h.split([1, 5], 1)[::-1], 1),
    "chunk": lambda h: torch.cat(h.chunk(3, 1)[::-1], 1),
    "tensor_split": lambda h: torch.cat(h.tensor_split(2, 1)[::-1], 1),
    "view": lambda h: h.view(-1, 2, 3).transpose(1, 2).reshape(-1, 6),
    "unflatten": lambda h: h.unflatten(1, (3, 2)).flatten(1),
    "expand": lambda h: h + h.new_ones(1, 1).expand(3, 6)[:1],
    "zeros": lambda h: h + torch.zeros(6),
    "new_full": lambda h: h * h.new_full((6,), 2.0),
    "pad": lambda h: h + F.pad(h[:, :3], (0, 3)),
    "group norm": lambda h: F.group_norm(h, 3),
    "depthwise": lambda h: F.conv1d(h[:, :, None], h.new_ones(6, 1, 1), groups=6)[..., 0],
    "roll": lambda h: h.roll(4, 1),
    "roll back": lambda h: torch.roll(h, shifts=(-1, 1), dims=(1, 0)),
    "written slices": lambda h: _written(h),
    "strided slices": lambda h: torch.cat([h[:, ::2], h[:, 1::2]], 1),
}


PLACES = {
    "an index in a buffer": lambda h, places: h[:, places],
    "an index in a buffer, selected": lambda h, places: h.index_select(1, places),
    "an index in a buffer, from behind": lambda h, places: h[..., places - 6],
    "a part": lambda h, places: torch.cat([h[:, places[:4]], h[:, places[4:]]], -1),
}


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("what", PLACES)
def test_channels_picked_by_an_index_that_is_held_follow_the_removal(what: str, held: bool) -> None:
    net = randomised(Middle(lambda h: PLACES[what](h, net.places)), 1)
    places = torch.tensor([4, 0, 5, 2, 1, 3])
    if held:
        net.register_buffer("places", places)
    else:
        net.places = places
    small, mask = recorded(net, X)

    other = torch.randn(7, 4, dtype=torch.float64)

    assert apart(outputs(masked(net, mask), other), outputs(small.double(), other)) <= 1e-9
    assert torch.equal(net.places, places)
    assert every_other(small.float(), X)[0].form == "rewritten graph"  # and once more


def _written(h: Tensor) -> Tensor:
    out = h.new_zeros(h.shape[0], 6)
    out[:, :2] = h[:, 4:]
    out[:, 2:] += h[:, :4].tanh()
    return out


@pytest.mark.parametrize("what", CONSTANTS)
def test_sizes_written_down_follow_the_removal(what: str) -> None:
    net = randomised(Middle(CONSTANTS[what]), 1)
    before = state(net)
    small, mask = recorded(net, X)

    other = torch.randn(7, 4, dtype=torch.float64)

    assert apart(outputs(masked(net, mask), other), outputs(small.double(), other)) <= 1e-9
    assert same(before, state(net))


OUTSIDE = torch.linspace(0, 1, 3)


def test_a_tensor_from_outside_is_refused_with_the_reason() -> None:
    net = randomised(Middle(after=lambda y: y + OUTSIDE), 1)
    before = state(net)

    with pytest.raises(EquivalenceError, match="from NumPy or a global; compute it with torch, or"):
        every_other(net, X)
    assert same(before, state(net))


def test_a_tensor_that_the_network_holds_goes_along() -> None:
    class Holding(Middle):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.linspace(0, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.table.to(x.dtype)

    net = randomised(Holding(), 1)
    small, _ = recorded(net, X)

    assert list(small.state_dict()) == list(net.state_dict())
    assert small.double()(X.double()).dtype == torch.float64


def test_an_object_that_no_graph_can_hold_is_refused_with_the_reason() -> None:
    generator = torch.Generator()
    net = randomised(Middle(after=lambda y: y + 0 * torch.randn(3, generator=generator)), 1)

    with pytest.raises(EquivalenceError, match="given a Generator, which no graph can hold"):
        every_other(net, X)


def test_recording_patches_nothing_for_good() -> None:
    apply = inspect.getattr_static(torch.autograd.Function, "apply")
    before = (len, nn.Module.__call__, apply)

    recorded(randomised(Halves(), 1), IMAGE)

    assert before == (len, nn.Module.__call__, apply)


BARE: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Any], Any, bool]] = {
    "instance norm": (lambda: nn.InstanceNorm2d(6), lambda x: x.num_features, 3, True),
    "batch norm": (
        lambda: nn.BatchNorm2d(6, affine=False, track_running_stats=False),
        lambda x: x.num_features,
        3,
        True,
    ),
    "group norm": (
        lambda: nn.GroupNorm(2, 6, affine=False),
        lambda x: (x.num_groups, x.num_channels),
        (1, 3),
        True,
    ),
    "group norm over what remains": (
        lambda: nn.GroupNorm(3, 6, affine=False),
        lambda x: (x.num_groups, x.num_channels),
        (3, 3),
        False,
    ),
    "layer norm over what remains": (
        lambda: nn.LayerNorm((6, 8, 8), elementwise_affine=False),
        lambda x: x.normalized_shape,
        (3, 8, 8),
        False,
    ),
    "RMS norm over what remains": (
        lambda: nn.RMSNorm((6, 8, 8), elementwise_affine=False),
        lambda x: x.normalized_shape,
        (3, 8, 8),
        False,
    ),
}


@pytest.mark.parametrize("what", BARE)
def test_sizes_of_norms_without_weights_follow_what_they_read(what: str) -> None:
    make, held, expected, exact = BARE[what]
    net = nn.Sequential(nn.Conv2d(3, 6, 1), make(), nn.ReLU(), nn.Conv2d(6, 2, 1))
    space = trace(net, IMAGE, exact=exact)
    keep = {g.name: torch.arange(g.size) < g.size // 2 for g in space.groups}

    shrunk = shrink(net, space, keep, IMAGE)  # warnings are errors

    assert shrunk.form == "original classes"
    assert held(shrunk.model[1]) == expected
    assert not net[1]._forward_pre_hooks


def few_keys() -> nn.Module:
    options = {"kernel": "linear", "scale": "none", "causal": False, "rotary": False}
    return Attention(6, 2, 2, fused=False, shared=2, **options)


HARD: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "as many repetitions as gates": (
        lambda: nn.Sequential(nn.Linear(6, 4), Repeated(4, "interleave"), nn.Linear(4, 2)),
        TOKENS,
    ),
    "as many copies as gates": (
        lambda: nn.Sequential(nn.Linear(6, 4), Repeated(4, "expand"), nn.Linear(4, 2)),
        TOKENS,
    ),
    "one head of keys for two of queries": (few_keys, TOKENS),
    "heads of width one": (
        lambda: nn.Sequential(nn.Linear(6, 4), SelfAttention(4, 4, False), nn.Linear(4, 2)),
        TOKENS,
    ),
    "a call that only single precision makes": (
        lambda: Middle(
            lambda h: (
                (h.contiguous() if h.dtype == torch.float32 else h) + torch.zeros(6, dtype=h.dtype)
            )
        ),
        X,
    ),
    "a strided slice that ends before the last channel": (
        lambda: Middle(lambda h: torch.cat([h[:, 0:4:2], h[:, 1:4:2], h[:, 4:]], 1)),
        X,
    ),
}


@pytest.mark.parametrize("what", HARD)
def test_hard_cases(what: str) -> None:
    make, example = HARD[what]
    net = randomised(make(), 1)

    shrunk, mask = every_other(net, example)

    assert difference(net, shrunk.model, mask, example) <= 1e-9


def test_a_branch_that_the_data_decide_is_not_taken_for_granted() -> None:
    class Branching(Middle):
        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x).view(-1, 6)
            return self.last(h.exp() if x.mean() > 0 else h.tanh())

    net = randomised(Branching(), 1)

    with pytest.raises(EquivalenceError):
        every_other(net, X)


def test_hooks_of_layers_go_on_to_be_called() -> None:
    net, seen = randomised(Halves(), 1), []
    net.mix.register_forward_hook(lambda module, given, out: seen.append(out.shape[1]))
    small, _ = recorded(net, IMAGE)
    seen.clear()

    small(IMAGE)

    assert seen == [3]


def test_a_graph_follows_its_parameters_through_casts() -> None:
    def cautious(h: Tensor) -> Tensor:  # as the norms of language models do
        wide = h.float()
        return (wide * torch.rsqrt(1 + wide.square())).type_as(h)

    net = randomised(Middle(cautious), 1)
    small, mask = recorded(net, X)

    for dtype in (torch.float64, torch.bfloat16):
        expected = outputs(masked(net, mask).to(dtype), X.to(dtype))
        assert expected[0].dtype == dtype
        got = outputs(small.to(dtype), X.to(dtype))
        assert got[0].dtype == dtype
        assert apart(expected, got) <= (1e-6 if dtype == torch.float64 else 0.1)


OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "h ** 2": lambda h: h**2,
    "h ** h": lambda h: h.abs() ** h,
    "2 ** h": lambda h: 2**h,
    "h **= 2": lambda h: h.__ipow__(2),
    "1 / h": lambda h: 1 / (h.abs() + 1),
    "h // 2": lambda h: h // 2,
    "1 - h": lambda h: 1 - h,
    "3 % h": lambda h: 3 % (h.abs() + 1),
    "~(h > 0)": lambda h: (~(h > 0)).to(h.dtype),
    "abs(h)": abs,
    "h += 1": lambda h: h.__iadd__(1),
}


@pytest.mark.parametrize("what", OPERATORS)
def test_operators_of_python_are_calls_of_a_graph(what: str, tmp_path: Path) -> None:
    net = randomised(Middle(OPERATORS[what]), 1)
    result = prune(net, X, method=l1_filter(coupled=True, round_to=1), target=Target(params=0.6))

    save(result, tmp_path / "small.safetensors", X)

    assert result.report.form == "rewritten graph"
    assert apart(outputs(load(tmp_path / "small.safetensors"), X), outputs(result.model, X)) == 0


def test_an_attribute_that_a_graph_no_longer_reads_is_warned_of() -> None:
    class Tempered(Middle):
        temperature = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / self.temperature

    small, _ = recorded(randomised(Tempered(), 1), X)

    small.note = "mine"  # the forward has never read it
    with pytest.warns(UserWarning, match="'temperature' is set on a graph of Tempered"):
        small.temperature = 2.0


def test_other_threads_go_on_as_ever_while_a_model_is_recorded() -> None:
    lengths: list[int] = []

    class Threaded(Middle):
        def forward(self, x: Tensor) -> Tensor:
            thread = Thread(target=lambda: lengths.append(len(torch.ones(4))))
            thread.start()
            thread.join()
            return super().forward(x)

    recorded(randomised(Threaded(), 1), X)

    assert {type(length) for length in lengths} == {int}
