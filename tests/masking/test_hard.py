"""Masked weights stay exactly zero, whatever the optimizer does, and nothing else changes."""

import copy
import gc
import io

import pytest
import torch
from torch import nn

from prunus import Pruner, Target
from prunus.masking import Hard
from prunus.methods import magnitude, rigl

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
}


def build(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4))
    )


def train_step(model, optimizer, autocast=False):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(torch.randn(8, 2, 4, 4)).float().square().mean()
    loss.backward()
    optimizer.step()


def random_mask(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(p.shape, generator=generator) > 0.6 for name, p in model.named_parameters()
    }


@torch.no_grad()
def dropped_sum(model, mask):
    return sum(float(p[~mask[name]].abs().sum()) for name, p in model.named_parameters())


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_masked_weights_stay_exactly_zero(name, autocast):
    model = build()
    optimizer = OPTIMIZERS[name](model.parameters())
    for _ in range(3):  # momentum exists before the mask does
        train_step(model, optimizer, autocast)
    masking, mask = Hard(model), random_mask(model)
    masking.set(mask, optimizer)
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    for _ in range(5):
        train_step(model, optimizer, autocast)
        masking.apply()
        assert dropped_sum(model, mask) == 0
    for weight in ("0.weight", "4.weight"):
        assert (model.get_parameter(weight) != kept[weight])[mask[weight]].all()


def test_without_the_mask_they_would_drift():
    model = build()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    masking, mask = Hard(model), random_mask(model)
    train_step(model, optimizer)
    masking.set(mask)
    train_step(model, optimizer)  # the momentum from before
    assert dropped_sum(model, mask) > 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_nothing_but_the_values_changes(layout):
    model = build().to(memory_format=layout)
    before = {n: (id(p), p.data_ptr(), p.stride()) for n, p in model.named_parameters()}
    keys, hooks = list(model.state_dict()), [len(m._forward_hooks) for m in model.modules()]
    masking = Hard(model)
    masking.set(random_mask(model))
    masking.apply()
    assert {n: (id(p), p.data_ptr(), p.stride()) for n, p in model.named_parameters()} == before
    assert list(model.state_dict()) == keys
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert not hasattr(model[0], "parametrizations")


def state_of(optimizer, parameter):
    return [
        value for value in optimizer.state[parameter].values() if value.shape == parameter.shape
    ]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_state_is_zeroed_for_removed_and_for_grown_weights_only(name):
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    weight = model[0].weight
    optimizer = OPTIMIZERS[name](model.parameters())
    masking = Hard(model)

    def step():
        optimizer.zero_grad()
        model(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
        optimizer.step()
        masking.apply()

    step()
    masking.set({"0.weight": torch.tensor([[True, True, False, False]])}, optimizer)
    assert [(s != 0).tolist() for s in state_of(optimizer, weight)] == [
        [[True, True, False, False]] for _ in state_of(optimizer, weight)
    ]
    step()
    # the second goes, the third comes back, the fourth stays out, without gradients
    masking.set({"0.weight": torch.tensor([[True, False, True, False]])}, optimizer)
    for value in state_of(optimizer, weight):
        assert (value != 0).tolist() == [[True, False, False, False]]
    step()
    assert (weight != 0).tolist() == [[True, False, True, False]]
    masking.set({}, optimizer)
    for value in state_of(optimizer, weight):
        assert (value != 0).tolist() == [[True, False, True, False]]


def test_a_tied_weight_has_one_mask():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False))
    model[2].weight = model[0].weight
    kept = torch.rand(3, 3) > 0.5
    masking = Hard(model)
    masking.set({"0.weight": kept, "2.weight": kept})
    assert torch.equal(model[2].weight != 0, kept)
    assert list(masking.mask) == ["0.weight"]


def test_the_masking_keeps_its_own_copy_of_the_mask():
    model = build()
    masking, mask = Hard(model), random_mask(model)
    masking.set(mask)
    held = {name: kept.clone() for name, kept in masking.mask.items()}
    for kept in mask.values():
        kept.logical_not_()
    assert all(torch.equal(masking.mask[name], kept) for name, kept in held.items())


def hooks(model):
    return [len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_clipped_training_is_that_of_a_network_without_the_masked_weights(name):
    model, reference = build(), build()
    target = Target(sparsity=0.9)
    pruner = Pruner(model, torch.zeros(1, 2, 4, 4), magnitude(), target=target)
    mask = pruner.mask
    with torch.no_grad():
        for key, p in reference.named_parameters():
            p.mul_(mask[key])
    ours, theirs = (OPTIMIZERS[name](net.parameters()) for net in (model, reference))
    for _ in range(4):
        ours.zero_grad()
        theirs.zero_grad()
        for _ in range(2):  # gradients are accumulated
            x = torch.randn(8, 2, 4, 4)
            model(x).square().mean().backward()
            reference(x).square().mean().backward()
        for key, p in reference.named_parameters():
            p.grad.mul_(mask[key])
        norms = [nn.utils.clip_grad_norm_(n.parameters(), 0.01) for n in (model, reference)]
        assert norms[0] == norms[1]
        ours.step()
        theirs.step()
        pruner.step(ours)
        with torch.no_grad():
            for key, p in reference.named_parameters():
                p.mul_(mask[key])
        for p, q in zip(model.parameters(), reference.parameters(), strict=True):
            assert torch.equal(p, q)


def test_gradients_are_masked_as_long_as_the_mask_is_held():
    model = build().to(memory_format=torch.channels_last)
    model[4].bias.requires_grad_(False)
    masking, mask = Hard(model), random_mask(model)
    masking.set(mask)

    def masked_gradients(net):
        net.zero_grad()
        net(torch.randn(8, 2, 4, 4)).square().mean().backward()
        return sum(int(net.get_parameter(n).grad[~mask[n]].count_nonzero()) for n in ("4.weight",))

    assert masked_gradients(model) == 0
    plain = copy.deepcopy(model)
    assert hooks(plain) == [0] * 6 and masked_gradients(plain) > 0
    torch.save(model, io.BytesIO())
    masking.set({})
    assert hooks(model) == [0] * 6 and masked_gradients(model) > 0
    masking.set(mask)
    masking.detach()
    assert hooks(model) == [0] * 6
    masking.set(mask)
    del masking
    gc.collect()
    assert masked_gradients(model) > 0


def test_rigl_sees_dense_gradients_at_an_exchange_and_only_there():
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pruner = Pruner(
        model, torch.zeros(1, 2, 4, 4), rigl(end="8it", every="4it"), target=Target(sparsity=0.6)
    )
    for step in range(1, 9):
        before = pruner.mask["4.weight"]
        train_step(model, optimizer)
        size = model[4].weight.grad.abs()
        assert bool(size[~before].any()) == (step % 4 == 0)
        pruner.step(optimizer)
        grown = ~before & pruner.mask["4.weight"]
        if step == 4:
            assert grown.any() and size[grown].min() >= size[~before & ~grown].max()
