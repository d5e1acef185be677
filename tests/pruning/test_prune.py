"""One call: the model stays bit-identical, the result equals the mask, and errors help."""

import re

import pytest
import torch
from torch import nn

import prunus
from prunus import Pruner, Target, prune, verify
from prunus.errors import CheckpointError, EquivalenceError, TargetError, UntraceableError
from prunus.methods import (
    Method,
    drop,
    gradual,
    l0,
    l1_filter,
    magnitude,
    prunefl,
    rigl,
    soft_filter,
    sss,
)
from prunus.space import trace
from prunus.zoo import network

HALF = Target(macs=0.5)


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4)),
    )


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
EXACT = l1_filter(round_to=1)


def look(model):
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in model.named_parameters()},
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    )


def assert_as_before(model, before):
    state, *rest = look(model)
    assert rest == list(before[1:])
    assert state.keys() == before[0].keys()
    assert all(torch.equal(state[name], value) for name, value in before[0].items())


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("method", [EXACT, "magnitude"])
def test_the_model_stays_bit_identical(method, mode):
    model = build().train(mode)
    target = HALF if method is EXACT else Target(sparsity=0.5)
    before = look(model)
    result = prune(model, X, method=method, target=target)
    assert_as_before(model, before)
    assert all(module.training == mode for module in result.model.modules())
    own = {p.data_ptr() for p in model.parameters()}
    assert not own & {p.data_ptr() for p in result.model.parameters()}


@pytest.mark.parametrize(
    "stage",
    [
        *("prunus.pruning.plan.trace_for", "prunus.criteria.norm.L1.score"),
        *("prunus.selectors.topk.reach", "prunus.pruning.plan.shrink"),
        *("prunus.space.shrink.remove", "prunus.space.shrink.Reference"),
        *("prunus.pruning.plan.kept_index", "prunus.pruning.plan.Plan.mask"),
        *("prunus.pruning.plan.account", "prunus.pruning.plan.Result"),
        "prunus.pruning.plan.carry_over",
    ],
)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_model_stays_bit_identical_when_a_stage_fails(monkeypatch, stage, error):
    model = build().train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before, calls = look(model), []

    def fail(*_, **__):
        calls.append(stage)
        raise error("injected")

    monkeypatch.setattr(stage, fail)
    with pytest.raises(error, match="injected"):
        prune(model, X, method=EXACT, target=HALF, optimizer=optimizer)
    assert calls
    assert_as_before(model, before)
    assert {id(p) for p in model.parameters()} == {
        id(p) for group in optimizer.param_groups for p in group["params"]
    }


@pytest.mark.parametrize("method", [EXACT, "magnitude"])
def test_the_original_times_the_mask_gives_the_outputs_of_the_result(method):
    model = build().eval()
    target = HALF if method is EXACT else Target(sparsity=0.5)
    result = prune(model, X, method=method, target=target)
    masked = build().eval()
    with torch.no_grad():
        for name, tensor in [*masked.named_parameters(), *masked.named_buffers()]:
            if name in result.mask:
                tensor.mul_(result.mask[name])
    inputs = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(masked(inputs), result.model(inputs), rtol=1e-5, atol=1e-6)
    assert verify(result.mask, result.model, X, model=model).passed


def test_the_report_tells_what_the_result_is():
    result = prune(build(), X, method=EXACT, target=HALF)
    report = result.report.to_dict()
    small = result.model
    assert report["target"] == {"metric": "macs", "asked": 0.5, "reached": result.report.reached}
    assert report["target"]["reached"] == pytest.approx(0.5, rel=0.03)
    assert report["costs"]["params"]["pruned"] == sum(p.numel() for p in small.parameters())
    assert report["nonzero"] == sum(int((p != 0).sum()) for p in small.parameters())
    assert [(g["name"], g["before"], g["after"]) for g in report["groups"]] == [
        ("0", 8, small[0].out_channels),
        ("3", 16, small[3].out_channels),
    ]
    assert [f["name"] for f in report["frozen"]] == ["6"]
    assert report["verification"]["passed"] and report["form"] == "original classes"
    assert "macs 0.5 asked" in str(result.report)


def test_frozen_parameters_are_pruned_and_stay_frozen():
    model = build()
    model[0].weight.requires_grad_(False)
    result = prune(model, X, method=EXACT, target=HALF)
    assert result.model[0].out_channels < 8
    assert [p.requires_grad for p in result.model.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]


class Tied(nn.Module):
    """The same weights embed and classify; two layers are one."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.inner = self.again = nn.Linear(16, 16)
        self.out = nn.Linear(16, 10, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids):
        return self.out(self.again(torch.relu(self.inner(self.embed(ids)))))


@pytest.mark.parametrize("method", [l1_filter(coupled=True, round_to=1), "magnitude"])
def test_tied_weights_share_one_mask_and_stay_tied(method):
    torch.manual_seed(0)
    model = Tied()
    ids = torch.arange(6).reshape(2, 3)
    target = Target(sparsity=0.5)
    result = prune(model, ids, method=method, target=target)
    assert torch.equal(result.mask["embed.weight"], result.mask["out.weight"])
    assert result.model.embed.weight is result.model.out.weight
    assert result.model.inner is result.model.again
    assert result.report.reached == pytest.approx(0.5, abs=0.01)


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.out = nn.Linear(4, 12), nn.Linear(3, 12), nn.Linear(12, 2)

    def forward(self, a, b=None, scale=1.0):
        hidden = torch.relu(self.left(a) + self.right(b)) * scale
        logits = self.out(hidden)
        return {"logits": logits, "aux": [logits.argmax(1)], "none": None}


@pytest.mark.parametrize("kind", [tuple, dict])
def test_tuples_keywords_and_dict_outputs(kind):
    torch.manual_seed(0)
    model, given = Keywords(), {"a": torch.randn(2, 4), "b": torch.randn(2, 3), "scale": 2.0}
    example = given if kind is dict else tuple(given.values())
    method = l1_filter(coupled=True, round_to=1)
    result = prune(model, example, method=method, target=Target(params=0.5))
    assert result.model.left.out_features == result.model.right.out_features < 12
    assert set(result.model(**given)) == {"logits", "aux", "none"}
    assert result.report.verification.passed


def test_pruning_twice_prunes_the_smaller_network():
    first = prune(build(), X, method=EXACT, target=HALF)
    second = prune(first.model, X, method=EXACT, target=HALF)
    assert second.report.costs["macs"][0] == first.report.costs["macs"][1]
    assert second.report.reached == pytest.approx(0.5, rel=0.06)
    assert second.report.verification.passed
    second.model(X).sum().backward()


def test_pruning_single_weights_then_filters():
    sparse = prune(build(), X, method="magnitude", target=Target(sparsity=0.5)).model
    assert prune(sparse, X, method=EXACT, target=HALF).report.verification.passed


def test_a_subclass_and_a_resnet_keep_their_classes():
    model = network("resnet20").eval()
    result = prune(model, X[:1].repeat(1, 1, 4, 4))
    assert [type(m) for m in result.model.modules()] == [type(m) for m in model.modules()]
    assert result.model.state_dict().keys() == model.state_dict().keys()


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        raise KeyError("vocabulary")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: prune(build(), X, target=Target(sparsity=90)),
            *(ValueError, r"sparsity must be in \[0, 1\), got 90. Did you mean 0\.9\?"),
        ),
        (
            lambda: prune(build(), X, method="l1_filtr"),
            *(ValueError, r"'l1_filtr' is unknown; there are .* Did you mean 'l1_filter'"),
        ),
        (
            lambda: prune(build(), X, method=l1_filter),
            *(TypeError, "method must be a Method or the name of one, got <function"),
        ),
        (
            lambda: prune(build(), X, target=0.5),
            *(TypeError, r"target must be a Target, such as Target\(macs=0\.5\), got 0\.5"),
        ),
        (
            lambda: prune(build(), X, target=Target(macs=0.01)),
            *(TargetError, r"macs 0\.01 cannot be reached: .* still has 0\.\d{3} of the dense"),
        ),
        (
            lambda: prune(build(), X, method="magnitude", target=Target(macs=0.5)),
            *(TargetError, "macs is a cost of channels, but method 'magnitude' prunes single"),
        ),
        (
            lambda: prune(build(), X, target=Target(speedup=1)),
            *(TargetError, "speedup 1 is met without pruning; ask for more"),
        ),
        (
            lambda: prune(build(), torch.randn(2, 5, 8, 8)),
            *(UntraceableError, r"fails on the example input of shape \(2, 5, 8, 8\): Runtime"),
        ),
        (lambda: prune(build(), "x"), TypeError, "example must be a tensor, .* got str"),
        (
            lambda: prune(Fails(), torch.randn(1, 4)),
            *(UntraceableError, r"Fails fails on the example .* KeyError: 'vocabulary'"),
        ),
        (
            lambda: prune(nn.Sequential(nn.ReLU()), X),
            *(ValueError, "finds nothing to prune in Sequential: no layer multiplies"),
        ),
        (
            lambda: prune(nn.Linear(4, 2), torch.randn(1, 4)),
            *(ValueError, "finds nothing to prune in Linear: .* is the network's output"),
        ),
        (
            lambda: prune(torch.export.export(build().eval(), (X,)).module(), X),
            *(UntraceableError, "prune the network that was exported, and export the result"),
        ),
        (
            lambda: prune(build(), X, method="gradual"),
            *(ValueError, "'gradual' prunes while the network trains; use prunus.Pruner"),
        ),
    ],
)
def test_bad_input_is_refused_with_the_way_out(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("method", ["magnitude", l1_filter()])
def test_a_network_with_nan_weights_is_refused(method):
    model = build()
    with torch.no_grad():
        model[3].weight[2, 1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="contain NaN"):
        prune(model, X, method=method, check=False)


class Raised(nn.Module):
    """Numbers of a large power of ten on the way, which cancels."""

    def __init__(self, power):
        super().__init__()
        self.by = 10.0**power

    def forward(self, x):
        return x * self.by * self.by / self.by / self.by


def raised(power):
    model = build()
    model[2] = Raised(power)
    return model


def holding(where, value):
    """Return the network and an example of which one number is another."""
    model, x = build(), X.clone()
    with torch.no_grad():
        (x if where == "x" else model.get_parameter(where)).view(-1)[5] = value
    return model, x


NO_NUMBERS = {
    "the example itself holds NaN; pass one of finite": lambda: holding("x", float("nan")),
    "the example holds inf; pass one of finite numbers": lambda: holding("x", float("inf")),
    "'0.weight' holds inf; load finite weights": lambda: holding("0.weight", float("inf")),
    "its weights and the example are finite, so": lambda: (raised(200), X),
}


@pytest.mark.parametrize("use", [prune, Pruner])
@pytest.mark.parametrize("message", NO_NUMBERS)
def test_what_gives_no_numbers_is_named_before_anything_is_decided(use, message):
    model, x = NO_NUMBERS[message]()
    method, target = (l1_filter(), HALF) if use is prune else ("gradual", Target(sparsity=0.5))
    with pytest.raises(ValueError, match=f"outputs of .* contain NaN for the example.* {message}"):
        use(model, x, method=method, target=target)


def test_what_gives_numbers_in_float64_alone_is_pruned():
    assert raised(30).eval()(X).isnan().any()
    assert prune(raised(30), X, method=EXACT, target=HALF).report.verification.passed


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (l1_filter(ratios={"0": 0.5, "3": 0.5}), None),
        (gradual(end="4it", every="4it"), Target(sparsity=0.5)),
        *(
            (drop(end="4it", every="4it"), Target(sparsity=0.5)),
            (rigl(end="4it", every="4it"), None),
        ),
        *((l0(begin="4it"), HALF), (sss(begin="4it", unit="channel"), HALF)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_single_nan_in_training_is_never_kept_in_silence(method, target):
    model = build()
    with pytest.raises(ValueError, match=r"the (scores|outputs) of .* contain NaN"):
        pruner = Pruner(model, X, method, target=target)
        with torch.no_grad():
            model[3].weight[2, 1, 0, 0] = float("nan")
            if method.name in ("l0", "sss"):
                pruner._masking.values[3] = float("nan")
        if not method.during_training:
            prune(model, X, method=method, target=target, check=False)
        for _ in range(4):
            pruner.step()


def test_a_removal_that_changes_the_outputs_returns_nothing(monkeypatch):
    def wrong(model, space, keep, *_):
        small = build()
        small[6].bias.data += 1
        return small

    monkeypatch.setattr("prunus.space.shrink.FORMS", {"wrong": wrong})
    with pytest.raises(EquivalenceError, match=r"nothing was returned.*outputs differ by"):
        prune(build(), X, method=EXACT, target=HALF)


def test_a_pruner_that_cannot_finish_holds_its_mask_still(monkeypatch):
    model = build()
    pruner = Pruner(model, X, magnitude(), target=Target(sparsity=0.5))

    def fails(*_, **__):
        raise EquivalenceError("differs")

    monkeypatch.setattr(pruner.plan, "conclude", fails)
    monkeypatch.setattr(pruner.plan, "trace_again", lambda model: False)
    with pytest.raises(EquivalenceError):
        pruner.finish()
    model(X).square().sum().backward()
    gone = ~pruner.mask["0.weight"]
    assert gone.any() and not model[0].weight.grad[gone].any()


def test_what_was_learned_outlives_a_finish_that_fails(monkeypatch):
    model = build()
    pruner = Pruner(model, X, sss(unit="channel", begin="1it"), target=HALF)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (model(X).square().sum() + pruner.penalty()).backward()
    optimizer.step()
    pruner.step(optimizer)

    def fails(*_, **__):
        raise EquivalenceError("differs")

    with monkeypatch.context() as patched:
        patched.setattr(pruner.plan, "conclude", fails)
        patched.setattr(pruner.plan, "trace_again", lambda model: False)
        with pytest.raises(EquivalenceError):
            pruner.finish()
    assert any(name.startswith("masking.values") for name in pruner.state())
    assert pruner.finish().report.verification is not None


def test_gathered_gradients_are_those_that_the_scaler_has_unscaled():
    def gathered(scale):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        x = torch.randn(4, 8)
        pruner = Pruner(model, x, prunefl(begin="2it", end="2it", every="2it"))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(model(x).square().sum()).backward()
        scaler.step(optimizer)
        pruner.step(optimizer, scale=scale)
        return pruner.gathering.sums

    torch.testing.assert_close(gathered(1024.0), gathered(1.0))
    assert not gathered(3e38)  # the gradients overflow


def test_random_scores_follow_the_seed():
    from prunus.criteria import Random

    base = l1_filter(round_to=1)
    fields = {"name": "random", "granularity": base.granularity, "selector": base.selector}
    method = Method(criterion=Random(), **fields)
    masks = [
        prune(build(), X, method=method, target=Target(sparsity=0.5), seed=s).mask["0.bias"]
        for s in (0, 0, 1, 2)
    ]
    assert torch.equal(masks[0], masks[1])
    assert not all(torch.equal(masks[0], mask) for mask in masks[2:])


def test_a_pruner_in_a_loop_gives_a_network_that_trains_on():
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    pruner = Pruner(model, X, gradual(end="4it", every="1it"), target=Target(sparsity=0.8))
    for _ in range(6):
        optimizer.zero_grad()
        (model(X).square().mean() + pruner.penalty()).backward()
        optimizer.step()
        pruner.step(optimizer)
    result = pruner.finish(optimizer)
    assert result.report.reached == pytest.approx(0.8, abs=0.005)
    before = [p.detach().clone() for p in result.model.parameters()]
    optimizer.zero_grad()
    result.model(X).square().mean().backward()
    optimizer.step()
    assert any((p != b).any() for p, b in zip(result.model.parameters(), before, strict=True))


class Annealed(nn.Module):
    """A temperature falls as it is trained, and a size is written in the forward."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.tau = nn.Linear(8, 16), nn.Linear(16, 4), 1.0

    def forward(self, x):
        return self.b((self.a(x) / self.tau).tanh().view(-1, 16))


def test_what_training_has_set_goes_into_the_graph_at_the_end():
    torch.manual_seed(0)
    model, x = Annealed(), torch.randn(4, 8)
    pruner = Pruner(model, x, soft_filter(end="4it", every="1it"), target=Target(sparsity=0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        model(x).square().sum().backward()
        optimizer.step()
        pruner.step(optimizer)
        model.tau *= 0.8
    result = pruner.finish(optimizer)
    assert result.report.form == "rewritten graph" and result.report.verification.passed
    again = prune(result.model, x, method=EXACT, target=Target(params=0.9))
    assert again.report.verification.passed


def test_every_layer_that_keeps_its_width_has_its_reason():
    report = prune(
        network("resnet20"),
        torch.randn(1, 3, 32, 32),
        method=l1_filter(skip=("layer1.0.conv1",)),
        check=False,
    ).report
    reasons = {frozen["name"]: frozen["reason"] for frozen in report.frozen}
    whole = {group["name"] for group in report.groups if group["before"] == group["after"]}
    assert whole <= reasons.keys()
    assert reasons["linear"] == "is the network's output"
    assert reasons["layer1.0.conv1"] == "is skipped by the method"
    assert reasons["conv1"] == "is written by several layers, which coupled=False leaves whole"


def test_training_goes_on_after_finish_with_the_weights_held_at_zero():
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    pruner = Pruner(model, X, gradual(end="4it", every="2it"), target=Target(sparsity=0.8))
    for _ in range(4):
        model(X).square().sum().backward()
        optimizer.step()
        pruner.step(optimizer)
    result = pruner.finish(optimizer)
    for _ in range(5):
        result.model(X).square().sum().backward()
        optimizer.step()
        pruner.step(optimizer)
    for name, weight in result.model.named_parameters():
        assert not weight[~result.mask[name]].any()
    with pytest.raises(ValueError, match="finish was called before"):
        pruner.finish(optimizer)


def test_an_optimizer_of_another_model_is_refused():
    optimizer = torch.optim.Adam(build().parameters())
    with pytest.raises(ValueError, match="holds none of the model's parameters"):
        prune(build(), X, method=l1_filter(round_to=1), target=HALF, optimizer=optimizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.Linear, torch.randn(1, 3)), "model must be an nn.Module, got type"),
        ((build(), [X]), r"got a list; pass \(example,\) where .* \(\[image\],\), and tuple\("),
        ((build(), (1, 3, 8, 8)), r"got the numbers \(1, 3, 8, 8\); .* torch.randn\(1, 3, 8, 8\)"),
    ],
)
def test_what_is_no_model_or_no_input_is_named(arguments, message):
    with pytest.raises(TypeError, match=message):
        prune(*arguments, target=HALF)


def test_widths_count_channels_where_a_unit_has_several():
    norm = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.GroupNorm(8, 64), nn.ReLU(), nn.Conv2d(64, 4, 3)
    )  # fmt: skip
    small = prune(norm, torch.randn(1, 3, 8, 8), target=HALF).model
    assert small[0].out_channels == 32


class Ways(nn.Module):
    """With a hint it takes another way, in which two layers meet that do not otherwise."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(6, 16), nn.Linear(6, 16)
        self.out, self.far = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x, hint=None):
        if hint is None:
            return self.out(self.one(x).relu()) + self.far(self.other(x).relu())
        return self.out((self.one(x) + self.other(hint)).relu())


def test_further_inputs_couple_what_they_bring_together():
    model, x = Ways(), torch.randn(2, 6)
    both = {"x": x, "hint": x * 2}
    half = {"method": l1_filter(coupled=True, round_to=1), "target": Target(params=0.5)}

    alone = prune(model, {"x": x}, **half)
    assert [group["name"] for group in alone.report.groups] == ["one", "other"]

    result = prune(model, {"x": x}, also=[both], **half)
    assert [group["coupled"] for group in result.report.groups] == [["one", "other"]]
    assert result.report.verification.inputs == 4
    for given in ({"x": x}, both):
        assert verify(result.mask, result.model, given, model=model).passed


class Sized(nn.Module):
    """A large image goes through one layer more."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, o, 1) for i, o in ((3, 8), (8, 8), (8, 4)))

    def forward(self, x):
        h = self.a(x)
        return self.c(self.b(h) if x.shape[3] > 10 else h)


def test_the_report_says_that_further_inputs_were_followed_and_a_file_is_of_one(tmp_path):
    larger = torch.randn(2, 3, 12, 12)
    method = l1_filter(coupled=True, round_to=1)
    result = prune(Sized(), X, method=method, target=Target(params=0.6), also=[larger])
    said = r"followed only the ways of the example and 1 further input, the example's, decided by "
    assert re.search(said + r"x\.shape\[3\] > 10: False", str(result.report))
    assert result.report.to_dict()["also"] == 1
    for example, other in ((X, larger), (larger, X)):
        prunus.save(result, tmp_path / "s", example)
        small = prunus.load(tmp_path / "s")
        assert torch.equal(small(example), result.model(example))
        with pytest.raises(ValueError, match="Prune, or save, with an example of the size you ne"):
            small(other)


def test_further_inputs_must_be_taken_and_come_in_a_sequence():
    with pytest.raises(UntraceableError, match="fails on the example input of shape"):
        prune(Ways(), {"x": torch.randn(2, 6)}, also=[{"x": torch.randn(2, 5)}])
    with pytest.raises(TypeError, match="also must be a sequence of inputs, got Tensor"):
        prune(Ways(), {"x": torch.randn(2, 6)}, also=torch.randn(2, 6))


def test_gradients_of_the_example_are_left_alone():
    x = torch.randn(4, 8, requires_grad=True)

    prune(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)), x, target=Target(macs=0.5))

    assert x.grad is None and x.requires_grad


@pytest.mark.parametrize("made_inside", [False, True])
def test_it_works_in_inference_mode_and_the_result_trains(made_inside):
    def network():
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

    net, x = network(), torch.randn(4, 8)
    with torch.inference_mode():
        if made_inside:
            net, x = network(), torch.randn(4, 8)
        result = prune(net, x, target=Target(params=0.6))
        assert verify(result.mask, result.model, x, model=net).passed

    result.model(torch.randn(4, 8)).sum().backward()
    assert result.model[0].weight.shape == (8, 8)
    assert result.model[0].weight.grad is not None


def test_costs_are_those_of_the_example_alone():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    small, large = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 32, 32)

    alone, more = trace(net, small), trace(net, small, also=[large])

    assert alone.macs.dense == more.macs.dense
    assert [g.positions for g in alone.groups] == [g.positions for g in more.groups]


@pytest.mark.parametrize("steps", [0, 2])
def test_the_state_of_another_pruner_is_refused(steps):
    def weights(method, width=8):
        net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
        return Pruner(net, torch.randn(1, 4), method, target=Target(sparsity=0.5))

    saved = weights(gradual(begin="1it", end="2it", every="1it"))
    for _ in range(steps):
        saved.step()

    with pytest.raises(CheckpointError, match=r"its method, 'drop', but .* 'gradual'"):
        weights(drop(end="2it")).load_state(saved.state())
    with pytest.raises(CheckpointError, match="is none"):
        weights(gradual()).load_state({})
    with pytest.raises(CheckpointError, match=r"of '0\.weight' it has 32 units, .* 24 to prune"):
        weights(gradual(begin="1it", end="2it", every="1it"), 6).load_state(saved.state())
