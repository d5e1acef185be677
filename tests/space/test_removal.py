"""Removal: what it returns, what it leaves alone, and when it refuses."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from networks import Residual, randomised
from prunus.errors import EmptyLayerError, EquivalenceError, PrunusError, UntraceableError
from prunus.methods import l1_filter
from prunus.pruning import prune
from prunus.space import remove, trace, verify
from prunus.space.shrink import Shrunk, _at_fault, shrink
from prunus.types import Keep, Target

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def small_net() -> nn.Sequential:
    return randomised(
        nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(),
            nn.Linear(64, 2),
        ),
        seed=3,
    )  # fmt: skip


def keep(*kept: int, size: int = 8) -> Tensor:
    return torch.tensor([k in kept for k in range(size)])


def test_the_small_network_has_the_users_classes_with_corrected_attributes() -> None:
    net = small_net()
    small = remove(net, trace(net, IMAGE), {"0": keep(1, 4, 6)})

    assert [type(a) for a in small] == [type(a) for a in net]
    assert (small[0].out_channels, small[1].num_features, small[3].in_channels) == (3, 3, 3)
    assert torch.equal(small[0].weight, net[0].weight[[1, 4, 6]])
    assert torch.equal(small[3].weight, net[3].weight[:, [1, 4, 6]])
    assert small.state_dict().keys() == net.state_dict().keys()


class Pair(nn.Module):
    """Two inputs that one layer reads, and an activation with a weight for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 16), nn.Linear(4, 8)
        self.form, self.act, self.out = nn.Bilinear(16, 8, 12), nn.PReLU(12), nn.Linear(12, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        found: Tensor = self.out(self.act(self.form(self.left(a).relu(), self.right(b).relu())))
        return found


def test_layers_of_several_inputs_and_learned_activations_say_their_new_sizes() -> None:
    net, x = Pair(), (torch.randn(2, 3), torch.randn(2, 4))
    decision = {"left": keep(0, 9, size=16), "right": keep(*range(5)), "form": keep(3, 7, size=12)}
    small = shrink(net, trace(net, x), decision, x).model

    form = small.form
    assert (form.in1_features, form.in2_features, form.out_features) == (2, 5, 2)
    assert tuple(form.weight.shape) == (2, 2, 5)
    assert small.act.num_parameters == small.act.weight.numel() == 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_parametrised_layers_of_a_new_network_are_corrected_and_not_run(
    kind: Callable[[nn.Module], nn.Module], bias: bool
) -> None:
    torch.manual_seed(0)
    first, last = kind(nn.Linear(4, 6, bias=bias)), kind(nn.Linear(6, 2, bias=bias))
    net = nn.Sequential(first, nn.ReLU(), last)  # in train mode, as it is made
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(3, 4)

    small = shrink(net, trace(net, x), {"0.parametrizations.weight": keep(0, 2, size=6)}, x).model

    assert (small[0].out_features, small[2].in_features) == (2, 2)
    assert all(module.training for module in small.modules())
    for name, value in small.state_dict().items():
        assert value.shape != before[name].shape or torch.equal(value, before[name])


def test_the_small_network_shares_no_memory_and_trains() -> None:
    net = small_net().train()
    net[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    small = remove(net, trace(net, IMAGE), {"0": keep(1, 4, 6)})

    optimizer = torch.optim.SGD([p for p in small.parameters() if p.requires_grad], lr=0.1)
    small(torch.randn(5, 3, 8, 8)).square().sum().backward()
    optimizer.step()

    assert small.training and not small[0].weight.requires_grad
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_tied_parameters_stay_tied() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2), nn.Linear(2, 2))
    net[3].bias = net[2].bias
    space = trace(net, torch.randn(3, 4))

    small = remove(net, space, {"0": keep(0, 5, size=6)})

    assert small[3].bias is small[2].bias


def test_an_emptied_layer_is_refused_by_name() -> None:
    net = small_net()

    with pytest.raises(EmptyLayerError, match="'0' would lose all 8 channels"):
        remove(net, trace(net, IMAGE), {"0": keep()})


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ({"9": keep(1)}, "no group '9'"),
        ({"0": keep(1, size=7)}, r"bool of shape \(8,\)"),
        ({"0": torch.ones(8)}, "got torch.float32"),
    ],
)
def test_bad_decisions_are_refused(decision: dict[str, Tensor], message: str) -> None:
    net = small_net()

    with pytest.raises(ValueError, match=message):
        remove(net, trace(net, IMAGE), decision)


def test_a_model_that_fails_on_the_example_is_named_with_the_shape() -> None:
    with pytest.raises(UntraceableError, match=r"Sequential fails on .*\(2, 5, 8, 8\)"):
        trace(small_net(), torch.randn(2, 5, 8, 8))


def test_a_model_that_cannot_be_copied_is_refused_and_left_alone() -> None:
    net = small_net()
    net.lock = threading.Lock()

    with pytest.raises(PrunusError, match="cannot be copied"):
        remove(net, trace(net, IMAGE), {"0": keep(1)})


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("run_before", [False, True])
def test_a_weight_norm_of_the_old_style_need_not_have_run(run_before: bool) -> None:
    net = nn.Sequential(
        nn.utils.weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.utils.weight_norm(nn.Linear(6, 2))
    )
    x = torch.randn(3, 4)
    if run_before:
        net(x)
    weight = net[0].weight

    small = shrink(net, trace(net, x), {"0": keep(0, 2, size=6)}, x).model

    assert net[0].weight is weight
    assert (small[0].out_features, small[2].in_features) == (2, 2)
    assert small[0].weight.shape == (2, 4)
    small(x).sum().backward()
    assert small[0].weight_g.grad is not None


def test_what_users_write_on_parameters_stays() -> None:
    net = small_net()
    net[0].bias.no_weight_decay = net[5].bias.no_weight_decay = True

    small = remove(net, trace(net, IMAGE), {"0": keep(1, 4)})

    marked = [n for n, p in small.named_parameters() if hasattr(p, "no_weight_decay")]
    assert marked == ["0.bias", "5.bias"]


def test_channels_with_a_constant_output_are_removed_exactly() -> None:
    """Sigmoid of a silenced channel is one half, which the masked consumer must not see."""
    net = randomised(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 2, 3, padding=1)), 1
    )
    shrunk = shrink(net, trace(net, IMAGE), {"0": keep(0, 7)}, IMAGE)

    assert shrunk.verification is not None and shrunk.verification.passed


def test_a_forward_with_constant_sizes_becomes_a_rewritten_graph_that_trains() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.drop, self.out = nn.Dropout(0.5), nn.Linear(288, 2)

        def forward(self, x: Tensor) -> Tensor:
            a, b = torch.split(self.norm(self.conv(x)), [4, 4], 1)
            return self.out(self.drop(torch.cat([b.relu()[:, 0:4], a], 1).view(-1, 288)))

    net = randomised(Constant(), 2).train()
    shrunk = shrink(net, trace(net, IMAGE), {"conv": keep(1, 2, 5)}, IMAGE)
    small = shrunk.model

    assert shrunk.form == "rewritten graph"
    assert shrunk.verification is not None and shrunk.verification.passed
    assert set(small.state_dict()) == set(net.state_dict())
    assert small.training and small.drop.training
    mean = small.norm.running_mean.clone()
    small(torch.randn(7, 3, 8, 8)).sum().backward()
    assert small.conv.weight.grad is not None
    assert not torch.equal(mean, small.norm.running_mean)


def test_what_no_form_can_express_is_refused_with_both_reasons() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(by_width(self.first(x).view(-1, 6)))

    net = Stubborn()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(3, 4)

    with pytest.raises(EquivalenceError, match=r"original classes: .*rewritten graph: "):
        shrink(net, trace(net, x), {"first": keep(0, 2, size=6)}, x)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_of_layers_that_are_numbered_only_those_at_fault_stay_whole() -> None:
    layers: list[nn.Module] = [nn.Linear(4, 12)]
    for _ in range(6):
        layers += [nn.ReLU(), nn.Linear(12, 12)]
    layers.insert(6, Lambda(by_width))  # after 5
    net = nn.Sequential(*layers, nn.ReLU(), nn.Linear(12, 2))
    method = l1_filter(coupled=True, round_to=1)

    result = prune(net, torch.randn(3, 4), method=method, target=Target(params=0.6))

    assert [f["name"] for f in result.report.frozen if "forward" in f["reason"]] == ["4"]
    assert all(g["after"] < 12 for g in result.report.groups if g["name"] != "4")


def test_a_kind_is_halved_until_those_at_fault_are_known() -> None:
    asked: list[str] = []

    def failure(bad: str) -> Callable[[Keep], str]:
        def failed(alone: Keep) -> str:
            asked.append("".join(alone))
            return "why" if set(bad) & set(alone) else ""

        return failed

    kind = {letter: torch.zeros(2).bool() for letter in "abcdefgh"}

    assert _at_fault(kind, failure("")) == {}
    assert asked == ["abcdefgh"]
    assert set(_at_fault(kind, failure("c"))) == {"c"}
    asked.clear()
    assert set(_at_fault(kind, failure("abcdefgh"))) == set(kind)
    assert asked == ["abcdefgh", "abcd", "efgh", "ab", "cd", "ef", "gh"]
    together = _at_fault(kind, lambda alone: "why" if len(alone) > 3 else "")
    assert together == dict.fromkeys(kind, "why")


def test_a_zero_initialised_head_does_not_make_the_proof_vacuous() -> None:
    """With a zero head every network computes zeros; the wrong removal must still be found."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(by_width(self.first(x)))

    net = Scaled()
    x = torch.randn(3, 4)

    with pytest.raises(EquivalenceError, match="outputs differ by"):
        shrink(net, trace(net, x), {"first": keep(0, 2, size=6)}, x)


def test_a_wrong_small_network_does_not_pass() -> None:
    net = small_net()
    space = trace(net, IMAGE)
    decision = {"0": keep(1, 4, 6)}
    small = remove(net, space, decision)
    with torch.no_grad():
        small[3].weight[0, 0, 0, 0] += 1e-6

    proof = verify(space.mask(decision), small, IMAGE, model=net)

    assert not proof.passed
    assert verify(space.mask(decision), small, IMAGE, model=net, dtype=torch.float32).inputs == 3


def test_the_masked_network_itself_can_be_compared() -> None:
    net = small_net()
    space = trace(net, IMAGE)
    decision = {"0": keep(1, 4, 6)}
    small = remove(net, space, decision)
    masked = small_net()
    with torch.no_grad():
        for name, tensor in masked.state_dict().items():
            if name in space.mask(decision):
                tensor.mul_(space.mask(decision)[name])

    assert verify(masked, small, IMAGE).passed
    with pytest.raises(ValueError, match="pass model="):
        verify(space.mask(decision), small, IMAGE)


def test_a_network_can_be_pruned_again() -> None:
    net = randomised(
        nn.Sequential(nn.Conv2d(3, 8, 1), Residual(nn.Conv2d(8, 8, 1)), nn.Conv2d(8, 2, 1)), 1
    )
    once = shrink(net, trace(net, IMAGE), {"0": keep(0, 1, 2, 5, 6)}, IMAGE).model

    twice = shrink(once, trace(once, IMAGE), {"0": keep(0, 4, size=5)}, IMAGE)

    assert twice.model[2].in_channels == 2
    assert torch.equal(twice.model[0].weight, net[0].weight[[0, 6]])


class Wrapped(nn.Module):
    """Two layers with something in between and something done to the output."""

    def __init__(self, between=lambda h: h, after=lambda y: y) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.between, self.after = between, after

    def forward(self, x: Tensor) -> object:
        return self.after(self.last(self.between(self.first(x).relu())))


class ByWidth(torch.autograd.Function):
    """What no removal can follow: a scale by the number of channels that no recording sees."""

    @staticmethod
    def forward(ctx: object, h: Tensor) -> Tensor:
        return h / h.shape[1] ** 0.5


def by_width(h: Tensor) -> Tensor:
    return ByWidth.apply(h)


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


@dataclass
class Output:
    logits: Tensor


def test_an_output_of_any_kind_is_frozen_and_compared() -> None:
    net = Wrapped(after=lambda y: Output(y))
    space = trace(net, X)

    assert [group.name for group in space.groups] == ["first"]
    with pytest.raises(EquivalenceError, match="outputs differ by"):
        other = Wrapped(by_width, Output)
        shrink(other, trace(other, X), {"first": keep(0, 2, size=6)}, X)
    with pytest.raises(UntraceableError, match="returns no tensor"):
        trace(Wrapped(after=lambda y: None), X)


@pytest.mark.parametrize("fill", [-1e9, -1e30, float("-inf")])
def test_a_large_entry_hides_nothing_beside_it(fill: float) -> None:
    def masked(y: Tensor) -> Tensor:
        return y.masked_fill(torch.tensor([True, True, False]), fill)

    net, right = Wrapped(by_width, masked), Wrapped(after=masked)
    decision = {"first": keep(0, 2, size=6)}

    with pytest.raises(EquivalenceError, match="outputs differ by"):
        shrink(net, trace(net, X), decision, X)
    assert shrink(right, trace(right, X), decision, X).verification.passed


def test_units_that_never_fire_do_not_make_the_proof_vacuous() -> None:
    net = Wrapped(by_width)
    with torch.no_grad():
        net.first.bias.fill_(-100)

    with pytest.raises(EquivalenceError, match="outputs differ by"):
        shrink(net, trace(net, X), {"first": keep(0, 2, size=6)}, X)


class Gated(Wrapped):
    """What it does wrongly lies behind a buffer that is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gate", torch.zeros(()))
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.last(h) / self.scale.sqrt() + self.gate * by_width(h).sum(-1, keepdim=True)


def test_a_buffer_at_zero_does_not_make_the_proof_vacuous() -> None:
    net = Gated()
    with pytest.raises(EquivalenceError, match="outputs differ by"):
        shrink(net, trace(net, X), {"first": keep(0, 2, size=6)}, X)


def test_a_cast_does_not_make_the_proof_lenient() -> None:
    def cast(y: Tensor) -> Tensor:
        return (y.float() + 1).to(torch.float16).mul(2).float()

    right = Wrapped(after=cast)
    decision = {"first": keep(0, 2, size=6)}
    proof = shrink(right, trace(right, X), decision, X).verification
    assert (proof.dtype, proof.tolerance) == ("float64", 1e-10)

    wrong = Wrapped(lambda h: (h + 1e-6 * by_width(h)).float())
    with pytest.raises(EquivalenceError, match="outputs differ by"):
        shrink(wrong, trace(wrong, X), decision, X)


def test_layers_used_in_training_alone_are_not_left_behind() -> None:
    class Auxiliary(Wrapped):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x).relu()
            return self.last(h) + self.extra(h) if self.training else self.last(h)

    net = Auxiliary().eval()

    space = trace(net, X)
    small = shrink(net, space, {"first": keep(0, 2, size=6)}, X).model.train()

    assert [group.name for group in space.groups] == ["first"]
    assert small.extra.in_features == 2
    small(X).sum().backward()
    assert small.extra.weight.grad is not None


def test_what_forward_writes_into_is_put_back() -> None:
    class Writer(Wrapped):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.seen = torch.ones(5)
            return super().forward(x.mul_(2))

    net, example = Writer(), X.clone()
    buffer = net.seen
    shrunk = shrink(net, trace(net, example), {"first": keep(0, 2, size=6)}, example)

    assert shrunk.verification is not None and shrunk.verification.passed
    assert net.seen is buffer and not net.seen.any() and torch.equal(example, X)


def test_a_forward_that_writes_into_a_parameter_is_refused_before_it_does() -> None:
    net = Wrapped(lambda h: h, lambda y: y)
    net.between = lambda h: (net.last.weight.clamp_(-1, 1), h)[1]
    before = net.last.weight.clone()

    with pytest.raises(UntraceableError, match=r"writes into the parameter 'last\.weight'"):
        trace(net, X)
    assert torch.equal(net.last.weight, before)


def test_buffers_used_as_weights_are_no_producers() -> None:
    net = Wrapped(lambda h: h @ torch.eye(6) * 1.0)
    net.register_buffer("mixing", torch.randn(6, 6))
    net.between = lambda h: h @ net.mixing

    space = trace(net, X)

    assert all(member.tensor != "mixing" for g in space.groups for member in g.producers)


def test_units_that_cost_differently_are_different_groups() -> None:
    net = Wrapped(lambda h: h * (h[:, :2].t() @ h[:, :2]).sum())

    assert trace(net, X).macs.dense == 3 * (24 + 18) + 2 * 2 * 3


class Tied(nn.Module):
    """On narrow inputs a sum's rounding error decides, as over which of equal boxes remain."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).relu().mean((2, 3))
        out: Tensor = self.head(h)
        if x.shape[-1] < 6:
            terms = h * self.head.weight[0]
            out = out + (terms.sum(1) - terms.flip(1).sum(1)).sign()[:, None]
        return out


class Wrong(Tied):
    """Beside the tie, a size that only the example has is written into the forward."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        h = self.conv(x)
        return out + h.reshape(len(h), 32, -1)[:, :, :4].sum((1, 2))[:, None]


def without_a_third(make: Callable[[], nn.Module]) -> Shrunk:
    torch.manual_seed(0)
    net, x = make().eval(), torch.randn(16, 3, 8, 8)
    space = trace(net, x)
    return shrink(net, space, {g.name: torch.arange(g.size) % 3 > 0 for g in space.groups}, x)


def test_a_tie_hides_no_graph_that_is_right_for_its_example_only() -> None:
    found = without_a_third(Wrong)
    assert found.form == "rewritten graph"
    narrow = torch.randn(16, 3, 8, 4)
    with pytest.raises((ValueError, RuntimeError)):  # it is held to the way that it was shown
        found.model(narrow)


def test_where_rounding_decides_a_size_is_not_compared() -> None:
    found = without_a_third(Tied)
    assert found.form == "original classes"
    assert found.verification is not None and found.verification.passed
