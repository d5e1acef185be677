"""A factor on what reads a channel is a factor on the channel."""

import pytest
import torch
from torch import nn

from handmade import NETWORKS
from prunus.masking.factors import Factors
from prunus.space import Branches, Structured, trace
from prunus.space.masked import apply_mask
from prunus.space.remove import copy_sliced
from prunus.space.running import output_tensors, preserved
from prunus.types import call_arguments

FAST = (
    *(
        "resnet_basic",
        "densenet",
        "squeeze_excite",
        "channel_shuffle",
        "lenet_constant_view",
        "weight_norm",
    ),
    *("lstm_stacked", "gru", "attention_fused", "transformer_encoder", "swiglu", "res2net"),
)


def outputs(model, example):
    args, kwargs = call_arguments(example)
    with preserved(model):
        return output_tensors(model(*args, **kwargs))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow]) for n in NETWORKS]
)
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "over what remains"])
def test_channels_of_factor_zero_are_as_good_as_removed(name, exact):
    torch.manual_seed(0)
    model, example = NETWORKS[name]()
    model = model.double()
    example = torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda x: x.double() if x.is_floating_point() else x, example
    )
    space = trace(model, example, exact=exact)
    groups = Structured(gated=True).groups(space)
    assert groups or name not in FAST or name == "weight_norm"
    if groups:
        keep = {group.name: torch.rand(group.size) > 0.5 for group in groups}
        masked, gated = copy_sliced(model, {}), copy_sliced(model, {})
        apply_mask(masked, space.mask(keep))
        factors = torch.cat([keep[group.name] for group in groups]).double()
        Factors(space, groups).fold(gated, factors)
        for a, b in zip(outputs(gated, example), outputs(masked, example), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "group", "reason"),
    [
        ("attention_single_head", "query", "is not only read by layers with weights of their own"),
        ("weight_norm_old", "2", "is not only read by layers with weights of their own"),
        ("tied_autoencoder", "weight", "is read by a weight that also makes it"),
    ],
)
def test_channels_that_are_summed_over_otherwise_are_left_out(name, group, reason):
    model, example = NETWORKS[name]()
    space = trace(model, example)
    left = {f.name: f.reason for f in Structured(gated=True).left_out(space)}
    assert reason in left[group]
    assert group not in {g.name for g in Structured(gated=True).groups(space)}
    with pytest.raises(ValueError, match="have no place for a factor"):
        Factors(space, Structured().groups(space))


class Stream(nn.Module):
    """Two layers write into one stream, which two layers read."""

    def __init__(self):
        super().__init__()
        self.stem, self.inside = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.norm, self.back = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x, stream=None, inside=None):
        stream = torch.ones(4, 1, 1).to(x) if stream is None else stream
        inside = torch.ones(6, 1, 1).to(x) if inside is None else inside
        x = self.stem(x)
        y = self.norm(self.inside(x * stream)).relu()
        return self.head(((x + self.back(y * inside)) * stream).mean((2, 3)))


def test_gradients_of_factors_are_those_of_factors_on_feature_maps():
    torch.manual_seed(0)
    model, x = Stream().double(), torch.randn(5, 3, 6, 6, dtype=torch.float64)
    space = trace(model, x)
    groups = Structured(gated=True).groups(space)
    sizes = {group.name: group.size for group in groups}
    assert sizes == {"stem": 4, "inside": 6}
    values = torch.rand(10, dtype=torch.float64, requires_grad=True)

    on_maps = values.detach().clone().requires_grad_()
    wanted = model(x, on_maps[:4].view(4, 1, 1), on_maps[4:].view(6, 1, 1))
    wanted.square().sum().backward()

    weights = dict(model.named_parameters())
    found = torch.func.functional_call(
        model, Factors(space, groups).multiplied(weights, values), (x,)
    )
    found.square().sum().backward()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(values.grad, on_maps.grad)


def test_the_factor_of_a_branch_is_on_all_that_it_adds():
    torch.manual_seed(0)
    model, example = NETWORKS["resnet_basic"]()
    space = trace(model, example)
    groups = Branches().groups(space)
    factors = Factors(space, groups)
    plain, half, none = model, copy_sliced(model, {}), copy_sliced(model, {})
    last = torch.zeros(factors.count)
    last[-1] = 1.0
    factors.fold(half, 1 - last / 2)
    factors.fold(none, 1 - last)
    name = groups[-1].branch.ends[0].rpartition(".")[0]
    seen = {}
    for key, network in (("plain", plain), ("half", half), ("none", none)):
        layer = network.get_submodule(name)
        hook = layer.register_forward_hook(
            lambda _, __, out, key=key: seen.update({key: out.clone()})
        )
        outputs(network, example)
        hook.remove()
    assert seen["plain"].any()
    torch.testing.assert_close(seen["half"], seen["plain"] / 2)
    assert not seen["none"].any()


def test_the_largest_of_each_group_is_marked_once():
    factors = object.__new__(Factors)
    factors.sizes, factors.count = [3, 2], 5
    factors.group_of = torch.tensor([0, 0, 0, 1, 1])
    found = factors.largest(torch.tensor([-1.0, -0.5, -0.5, -1.0, -1.0]))
    assert found.tolist() == [False, True, False, True, False]
