"""Tensors stand in for parameters during a forward, and nothing is left of it outside."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from prunus.masking.substitution import Substitution, moved


def chain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def factors(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(p.shape, generator=generator) for name, p in model.named_parameters()}


def multiplied(model, by):
    return Substitution(model, lambda p: {name: p[name] * factor for name, factor in by.items()})


@torch.no_grad()
def scaled(model, by):
    copied = copy.deepcopy(model)
    for name, p in copied.named_parameters():
        p.mul_(by[name])
    return copied


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(3, 5, num_layers=2, bidirectional=True)
        self.head = nn.Linear(10, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).tanh())


class Itself(nn.Module):
    """Calls itself until a depth."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, depth=2):
        x = self.layer(x).tanh()
        return self(x, depth - 1) if depth else x


NETWORKS = {
    "chain": (chain, (3, 4)),
    "lstm": (lambda: Recurrent(nn.LSTM), (6, 2, 3)),
    "gru": (lambda: Recurrent(nn.GRU), (6, 2, 3)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.0), (6, 2, 4)),
    "tied": (Tied, (3, 4)),
    "itself": (Itself, (3, 4)),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_factors_and_gradients_are_multiplied_by_them(name, training):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model, x = build().train(training), torch.randn(shape)
    by = factors(model)
    other = scaled(model, by)
    expected = other(x)
    expected.square().mean().backward()

    multiplied(model, by)
    found = model(x)
    found.square().mean().backward()

    torch.testing.assert_close(found, expected)
    for key, p in other.named_parameters():
        torch.testing.assert_close(model.get_parameter(key).grad, by[key] * p.grad)


def test_weight_decay_and_momentum_act_on_the_parameter_itself():
    model = chain()
    substitution = multiplied(model, {"0.weight": torch.zeros(8, 4)})
    before = model[0].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.5)
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(model[0].weight, before * 0.95)
    substitution.detach()


def test_outside_a_forward_and_after_it_is_detached_the_model_is_plain():
    model = chain()
    parameters, keys = list(model.parameters()), list(model.state_dict())
    substitution = multiplied(model, factors(model))
    seen = []
    model[0].register_forward_hook(lambda module, *_: seen.append(module.weight))
    model(torch.randn(3, 4))
    assert not isinstance(seen[0], nn.Parameter) and seen[0].requires_grad
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == keys and not substitution.active
    substitution.detach()
    model(torch.randn(3, 4))
    assert isinstance(seen[1], nn.Parameter)
    assert not (model._forward_hooks or model._forward_pre_hooks)
    assert not (model._forward_hooks_always_called or model._forward_pre_hooks_with_kwargs)


@pytest.mark.parametrize("place", ["computation", "another hook", "forward", "inner call"])
def test_an_error_leaves_the_parameters_in_place(place):
    model, x = Itself(), torch.randn(3, 4)
    weight = model.layer.weight

    def fail(*_):
        raise ArithmeticError

    if place == "computation":
        Substitution(model, fail)
    else:
        multiplied(model, factors(model))
    if place == "another hook":
        model.register_forward_pre_hook(fail)
    elif place == "forward":
        model.layer.register_forward_hook(fail)
    elif place == "inner call":
        model.register_forward_hook(fail)
    with pytest.raises(ArithmeticError):
        model(x)
    assert model.layer.weight is weight


def test_an_interrupted_forward_is_put_right():
    model = chain()
    weight = model[0].weight
    substitution = multiplied(model, factors(model))

    def interrupt(*_):
        raise KeyboardInterrupt

    hook = model[1].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(torch.randn(3, 4))
    substitution.restore()
    assert model[0].weight is weight and not substitution.active
    hook.remove()
    expected = scaled(model, factors(model))(torch.ones(1, 4))
    torch.testing.assert_close(model(torch.ones(1, 4)), expected)


def test_there_is_one_computation_for_a_model_that_calls_itself():
    model, calls = Itself(), []
    Substitution(model, lambda p: (calls.append(1), {"layer.bias": p["layer.bias"] + 1})[1])
    model(torch.randn(3, 4))
    assert len(calls) == 1


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_a_plain_module(duplicate):
    model, x = chain(), torch.randn(3, 4)
    plain = model(x)
    substitution = multiplied(model, factors(model))
    copied = duplicate(model)
    assert torch.equal(copied(x), plain) and not torch.equal(model(x), plain)
    substitution.detach()
    assert torch.equal(copied(x), plain)


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_is_refused(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return checkpoint(self.layer, x, use_reentrant=reentrant)

    model = Checkpointed()
    substitution = multiplied(model, factors(model))
    loss = model(torch.randn(3, 4, requires_grad=True)).square().sum()
    with pytest.raises(RuntimeError, match="turn it off while the method learns"):
        loss.backward()
    substitution.detach()
    model(torch.randn(3, 4, requires_grad=True)).square().sum().backward()


def test_replicas_are_refused():
    model = chain()
    multiplied(model, factors(model))
    replica = model._replicate_for_data_parallel()
    with pytest.raises(RuntimeError, match="use DistributedDataParallel"):
        replica(torch.randn(3, 4))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_model_computes_and_learns_the_same():
    model, x = chain(), torch.randn(3, 4)
    by = factors(model)
    multiplied(model, by)
    compiled = torch.compile(model, backend="eager")
    for _ in range(2):
        model.zero_grad()
        expected = model(x)
        expected.sum().backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        found = compiled(x)
        found.sum().backward()
        torch.testing.assert_close(found, expected)
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient)
        by["0.weight"].zero_()  # what was compiled holds no values


def test_under_distributed_data_parallel_the_hook_is_on_the_inner_module(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        model, x = chain(), torch.randn(3, 4)
        by = factors(model)
        other = scaled(model, by)
        other(x).sum().backward()
        multiplied(model, by)
        nn.parallel.DistributedDataParallel(model)(x).sum().backward()
        for key, p in other.named_parameters():
            torch.testing.assert_close(model.get_parameter(key).grad, by[key] * p.grad)
    finally:
        torch.distributed.destroy_process_group()


def test_what_is_moved_in_inference_mode_can_be_trained_with():
    tensor = torch.ones(3, requires_grad=True)
    assert moved(tensor, tensor.device) is tensor
    with torch.inference_mode():
        there = moved(tensor, torch.device("meta"))
    assert there.device.type == "meta" and there.requires_grad and there.is_leaf
    assert not there.is_inference()
