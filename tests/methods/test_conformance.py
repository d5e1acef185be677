"""What every method of the table must do; to list a method is to test it."""

import inspect
import itertools

import pytest
import torch
from torch import nn

from prunus import Calibration, Pruner, Target, prune
from prunus.methods import METHODS, gradual, l1_filter, magnitude
from prunus.space import Structured, verify

# settings under which a method runs its course within few steps on a tiny network
SHORT = {
    "gradual": {"begin": "2it", "end": "10it", "every": "2it"},
    **{key: {"round_to": 1} for key in ("l1_filter", "taylor", "fpgm", "hrank", "apoz", "distil")},
    **{key: {"round_to": 1} for key in ("thinet", "regression")},
    **{key: {"begin": "2it", "end": "10it", "every": "2it"} for key in ("han", "drop")},
    "dsd": {"begin": "2it", "end": "10it"},
    "synflow": {"rounds": 5},
    "gibbs": {"end": "10it"},
    "try_and_learn": {"updates": 3, "trial_steps": 2, "settle_steps": 2, "tolerance": 50.0},
    **{key: {"end": "10it", "every": "2it"} for key in ("soft_filter", "set", "rigl", "movement")},
    "group_lasso": {"begin": "10it", "strength": 0.1},
    "slimming": {"begin": "10it", "strength": 0.01},
    "lottery": {"training": "6it", "rounds": 2, "rewind": "2it"},
    **{key: {"begin": "10it"} for key in ("gate", "l0")},
    "sss": {"begin": "10it", "unit": "channel"},
}
TARGETS = {"structured": Target(macs=0.5), "weights": Target(sparsity=0.7)}
STEPS = 12
RETRAINS = ("try_and_learn",)  # its decision comes with a network trained on
COMES_BACK = ("soft_filter", "set", "rigl", "movement", "drop")  # what it removes may return
DENSE_AGAIN = ("dsd",)  # nothing is removed in the end
COARSE = ("taylor", "group_lasso")  # one of its units is 3 % of a network as small as this
LOOKS_AT_DATA = (
    *("taylor", "hrank", "apoz", "obd", "snip", "grasp", "wanda"),
    *("thinet", "regression", "sparsegpt", "try_and_learn"),
)
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
DATA = Calibration([(X, torch.tensor([0, 1, 2, 0])), (X.flip(0), torch.tensor([1, 2, 0, 1]))])


def method(name):
    return METHODS[name](**SHORT.get(name, {}))


def target(name):
    if method(name).temporary:
        return None
    structured = isinstance(method(name).granularity, Structured)
    return TARGETS["structured" if structured else "weights"]


def build(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 3)),
    )


def batches(first, last):
    for step in range(first, last):
        yield torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)


def train(model, optimizer, pruner, first, last, everywhere=None):
    masks = []
    for step, x in enumerate(batches(first, last), start=first):
        if everywhere is not None:
            torch.manual_seed(step)  # of the dropout
        optimizer.zero_grad()
        (model(x).square().mean() + pruner.penalty()).backward()
        optimizer.step()
        if everywhere is not None:
            torch.manual_seed(everywhere)
        pruner.step(optimizer)
        masks.append(pruner.mask)
    return masks


def finished(name, seed=0, steps=STEPS, everywhere=None):
    model = build()
    torch.manual_seed(everywhere or 0)
    pruner = Pruner(model, X, method(name), target=target(name), seed=seed, calibration=DATA)
    optimizer = optimizer_of(model)
    masks = train(model, optimizer, pruner, 0, steps, everywhere)
    return model, optimizer, pruner, masks


def same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


every_method = pytest.mark.parametrize("name", sorted(METHODS))


@every_method
def test_it_reaches_its_target(name):
    _, _, pruner, masks = finished(name)
    report = pruner.finish().report
    if name in DENSE_AGAIN:
        assert report.asked is None and all(kept.all() for kept in masks[-1].values())
        return
    assert report.reached == pytest.approx(target(name).value, rel=0.04 if name in COARSE else 0.02)
    assert report.verification is None or report.verification.passed


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, make in METHODS.items()
        if name not in ("sss", "gibbs") and "unit" in inspect.signature(make).parameters
    ],
)
def test_blocks_of_output_channels_go_where_there_is_a_unit(name):
    chosen = METHODS[name](**SHORT.get(name, {}), unit="4x1")
    model = build()
    pruner = Pruner(model, X, chosen, target=target(name), calibration=DATA)
    train(model, optimizer_of(model), pruner, 0, max(STEPS, pruner.total(6)))
    weights = [x for x in pruner.finish().mask.values() if x.ndim > 1 and x.shape[0] % 4 == 0]
    assert len(weights) == 2
    for mask in weights:
        blocks = mask.reshape(-1, 4, mask[0].numel())
        assert torch.equal(blocks.any(dim=1), blocks.all(dim=1))
        assert not mask.all()


@every_method
def test_masked_weights_are_zero_and_kept_ones_are_not(name):
    steps = 6 if name in DENSE_AGAIN else STEPS
    model, _optimizer, _pruner, masks = finished(name, steps=steps)
    parameters = dict(model.named_parameters())
    dropped = 0
    for key, kept in masks[-1].items():
        if key in parameters:
            assert not parameters[key][~kept].any()
            dropped += int((~kept).sum())
    assert dropped > 0
    weight = parameters["0.weight"]
    assert weight[masks[-1]["0.weight"]].all()


@every_method
def test_masked_weights_stay_zero_in_mixed_precision_with_adam(name):
    model = build()
    pruner = Pruner(model, X, method(name), target=target(name), calibration=DATA)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1)
    for x in batches(0, STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).float().square().mean() + pruner.penalty()
        loss.backward()
        optimizer.step()
        pruner.step(optimizer)
    parameters = dict(model.named_parameters())
    assert not any(parameters[n][~kept].any() for n, kept in pruner.mask.items() if n in parameters)
    verification = pruner.finish(optimizer).report.verification
    assert verification is None or verification.passed


@every_method
def test_a_mask_covers_parameters_and_never_inputs_or_classifier_outputs(name):
    model, _, pruner, masks = finished(name)
    assert {n for n, _ in model.named_parameters()} <= masks[-1].keys()
    assert all(kept.dtype == torch.bool for kept in masks[-1].values())
    if pruner.plan.method.structured:
        assert masks[-1]["0.weight"].any(dim=(0, 2, 3)).all()
        assert masks[-1]["10.weight"].any(dim=1).all() and masks[-1]["10.bias"].all()


@every_method
def test_masks_are_nested_as_pruning_goes_on(name):
    if name in COMES_BACK + DENSE_AGAIN:
        pytest.skip("what it removes may come back")
    _, _, _, masks = finished(name)
    for before, after in itertools.pairwise(masks):
        assert not any(bool((~before[key] & after[key]).any()) for key in before)


@pytest.mark.parametrize("name", COMES_BACK)
def test_something_returns_where_it_may(name):
    settings, steps, rate = SHORT[name], STEPS, 0.05
    if name == "soft_filter":  # whole filters grow from zero past those that stayed
        settings, steps, rate = {"end": "40it", "every": "10it"}, 40, 0.5
    model = build()
    pruner = Pruner(model, X, METHODS[name](**settings), target=target(name))
    masks = train(model, torch.optim.SGD(model.parameters(), rate, momentum=0.9), pruner, 0, steps)
    returned = [
        bool((~before[key] & after[key]).any())
        for before, after in itertools.pairwise(masks)
        for key in before
    ]
    assert any(returned)


@every_method
def test_it_is_deterministic_given_a_seed_whatever_the_global_one(name):
    first, second = (finished(name, seed=3, everywhere=k) for k in (1, 2))
    same(first[3][-1], second[3][-1])
    same(first[0].state_dict(), second[0].state_dict())


@every_method
@pytest.mark.parametrize("stop", [1, 5, STEPS])
def test_going_on_from_a_saved_state_ends_identical(name, stop, tmp_path):
    whole, _, pruner, _ = finished(name)
    expected = pruner.finish()

    model = build()
    torch.manual_seed(0)
    pruner, optimizer = (
        Pruner(model, X, method(name), target=target(name), calibration=DATA),
        optimizer_of(model),
    )
    train(model, optimizer, pruner, 0, stop)
    rng = torch.get_rng_state()
    torch.save(
        [model.state_dict(), optimizer.state_dict(), pruner.state(), rng], tmp_path / "state"
    )
    state = torch.load(tmp_path / "state", weights_only=True)

    model = build(seed=1)
    pruner, optimizer = (
        Pruner(model, X, method(name), target=target(name), calibration=DATA),
        optimizer_of(model),
    )
    model.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    pruner.load_state(state[2])
    torch.set_rng_state(state[3])
    train(model, optimizer, pruner, stop, STEPS)

    same(model.state_dict(), whole.state_dict())
    result = pruner.finish()
    same(result.mask, expected.mask)
    same(result.model.state_dict(), expected.model.state_dict())


@every_method
def test_it_leaves_everything_else_as_found(name):
    model = build()
    model[2].eval()
    hook = model[3].register_forward_hook(lambda *_: None)

    def look():
        return (
            [module.training for module in model.modules()],
            [id(p) for p in model.parameters()],
            [p.requires_grad for p in model.parameters()],
            [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
            [len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()],
            [type(module) for module in model.modules()],
            list(model.state_dict()),
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
            all(p.grad is None for p in model.parameters()),
        )

    before = look()
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    pruner = Pruner(model, X, method(name), target=target(name), calibration=DATA)
    optimizer = optimizer_of(model)
    for _ in range(STEPS):
        for parameter in model.parameters():  # as a loop leaves them
            parameter.grad = torch.zeros_like(parameter)
        pruner.step(optimizer)
        model.zero_grad()
    result = pruner.finish()
    assert look() == before
    if name not in RETRAINS:
        same(dict(model.named_buffers()), buffers)
    hook.remove()
    assert [m.training for m in result.model.modules()] == before[0]


@every_method
def test_its_one_shot_form_leaves_the_model_bit_identical(name):
    if method(name).during_training:
        with pytest.raises(ValueError, match=f"'{name}' prunes while the network trains"):
            prune(build(), X, method=method(name))
        return
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = prune(model, X, method=method(name), target=target(name), calibration=DATA)
    same(model.state_dict(), before)
    assert result.report.reached == pytest.approx(
        target(name).value, rel=0.04 if name in COARSE else 0.02
    )


@every_method
def test_mask_and_patch_on_the_original_are_the_small_network(name):
    if method(name).during_training:
        pytest.skip("the original has been trained on by then")
    model = build()
    result = prune(model, X, method=method(name), target=target(name), calibration=DATA)
    mended = build()
    mended.load_state_dict({**model.state_dict(), **result.patch})
    assert verify(result.mask, result.model, X, model=mended).passed


@every_method
def test_finishing_too_early_is_an_error(name):
    model = build()
    pruner = Pruner(model, X, method(name), target=target(name), calibration=DATA)
    if not method(name).during_training:
        pruner.finish()
        return
    with pytest.raises(Exception, match=r"schedule ends after 10 steps, but only 0 were made"):
        pruner.finish()


@every_method
def test_what_it_looks_at_is_there_or_it_says_so(name):
    try:
        Pruner(build(), X, method(name), target=target(name))
    except ValueError as error:
        assert "pass calibration=prunus.Calibration(batches" in str(error)
        assert name in LOOKS_AT_DATA
    else:
        assert name not in LOOKS_AT_DATA


@every_method
def test_it_says_where_it_comes_from_and_what_its_settings_mean(name):
    function = METHODS[name]
    module = inspect.getmodule(function)
    assert "Source: " in module.__doc__
    assert "arXiv:" in module.__doc__ or "pages " in module.__doc__
    documented = function.__doc__
    for field, parameter in inspect.signature(function).parameters.items():
        assert f"{field}: " in documented
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
    assert method(name).name == name
    assert METHODS[name]() == METHODS[name]()


@every_method
def test_an_unknown_setting_is_refused(name):
    with pytest.raises(TypeError, match=r"has no 'sparsity'\..* It has "):
        METHODS[name](sparsity=0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: l1_filter(ratios={"layer1.*": 60}), r"must be in \[0, 1\], got 60. Did you mean"),
        (lambda: l1_filter(round_to=0), "round_to must be at least 1, got 0"),
        (lambda: l1_filter(min_keep=-1), "min_keep must be at least 0, got -1"),
        (lambda: magnitude(scope="row"), "scope must be 'layer', 'stage' or 'global', got 'row'"),
        (lambda: magnitude(layers="linear"), "layers must be 'all' or 'conv', got 'linear'"),
        (lambda: gradual(initial=1.5), r"initial must be in \[0, 1\), got 1.5"),
        (lambda: gradual(curve="quartic"), "curve must be one of"),
        (lambda: gradual(end="1000"), "number with its unit"),
        (lambda: gradual(order="random"), "order must be 'together' or 'layerwise', got 'random'"),
        (lambda: gradual(order="layerwise", scope="global"), "'layerwise' needs scope 'layer'"),
    ],
)
def test_bad_settings_are_refused_with_the_rule(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_epochs_in_a_schedule_need_the_steps_per_epoch():
    with pytest.raises(ValueError, match="pass steps_per_epoch"):
        Pruner(build(), X, gradual(end="2ep"))
    assert Pruner(build(), X, gradual(end="2ep"), steps_per_epoch=3).steps == 0


def test_gradual_follows_the_cubic_of_zhu_and_gupta():
    model = build()
    pruner = Pruner(*(model, X, gradual(end="400it", every="100it")), target=Target(sparsity=0.875))
    size = model[3].weight.numel()
    for step in range(1, 401):
        pruner.step()
        if step % 100 == 0:
            zeros = int((model[3].weight == 0).sum())
            share = {100: 0.505859375, 200: 0.765625, 300: 0.861328125, 400: 0.875}[step]
            assert zeros == round(share * size)


def test_layers_in_turn_each_follow_the_cubic_in_their_own_quarter():
    model = build()
    method = gradual(end="400it", every="50it", order="layerwise")
    pruner = Pruner(model, X, method, target=Target(sparsity=0.8))
    weights = [model[k].weight for k in (0, 3, 8, 10)]
    for step in range(1, 401):
        pruner.step()
        if step % 50 == 0:
            over = [min(1.0, max(0.0, step / 100 - k)) for k in range(4)]
            expected = [0.8 * (1 - (1 - part) ** 3) for part in over]  # half of a turn: 0.7
            found = [int((weight == 0).sum()) / weight.numel() for weight in weights]
            assert found == pytest.approx(expected, abs=0.02)
