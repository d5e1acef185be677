"""Averages over channels: kept whole by default, over what remains with `exact=False`."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import prunus
from prunus.space import trace
from prunus.space.shrink import shrink

TOKENS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
HALF = prunus.Target(sparsity=0.5)


class RMS(nn.Module):
    """As every language model writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias)


def tokens(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12), norm, nn.GELU(), nn.Linear(12, 3))


def image(*middle: nn.Module) -> nn.Module:
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3)
    return nn.Sequential(nn.Conv2d(3, 12, 3), *middle, nn.ReLU(), *ends)


NETWORKS = {
    "layer norm": (lambda: tokens(nn.LayerNorm(12)), TOKENS),
    "layer norm without affine": (lambda: tokens(nn.LayerNorm(12, bias=False)), TOKENS),
    "rms norm": (lambda: tokens(nn.RMSNorm(12)), TOKENS),
    "rms norm by hand": (lambda: tokens(RMS(12)), TOKENS),
    "group norm": (lambda: image(nn.GroupNorm(3, 12)), IMAGE),
    "one group": (lambda: image(nn.GroupNorm(1, 12)), IMAGE),
    "standardised weights": (lambda: image(Standardised(12, 12, 1)), IMAGE),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_averages_are_over_what_remains(name: str) -> None:
    build, x = NETWORKS[name]
    torch.manual_seed(0)
    net = build()

    result = prunus.prune(net, x, method=METHOD, target=HALF, exact=False)

    assert result.report.verification is not None and result.report.verification.passed
    assert result.model[0].weight.shape[0] == 6
    result.model(x).sum().backward()


def test_layer_norm_by_hand() -> None:
    net = tokens(nn.LayerNorm(12)).double().eval()
    x = TOKENS.double()
    keep = torch.arange(12) % 3 != 0

    small = shrink(net, trace(net, x, exact=False), {"0": keep}, x).model
    hidden = net[0](x)[..., keep]
    mean, var = hidden.mean(-1, keepdim=True), hidden.var(-1, keepdim=True, correction=0)
    hidden = (hidden - mean) / (var + 1e-5).sqrt() * net[1].weight[keep] + net[1].bias[keep]

    torch.testing.assert_close(small(x), F.gelu(hidden) @ net[3].weight[:, keep].T + net[3].bias)


def test_they_stay_by_default_with_the_reason() -> None:
    space = trace(tokens(nn.LayerNorm(12)), TOKENS)

    assert not space.groups and not space.averages
    assert {frozen.reason for frozen in space.frozen} == {
        "is inside the statistics of a layer norm",
        "is the network's output",
    }


def test_exact_group_norm_loses_whole_groups_and_inexact_ones_a_part_of_each() -> None:
    net = image(nn.GroupNorm(3, 12))

    exact = trace(net, IMAGE)
    inexact = trace(net, IMAGE, exact=False)
    small = shrink(net, inexact, {"0": torch.tensor([True, False, True, False])}, IMAGE).model

    assert [group.size for group in exact.groups] == [3]
    assert [group.size for group in inexact.groups] == [4]
    assert (small[1].num_groups, small[1].num_channels) == (3, 6)


def test_the_proof_fails_where_the_statistics_are_wrong() -> None:
    net = tokens(nn.LayerNorm(12)).eval()
    space = trace(net, TOKENS, exact=False)
    keep = {"0": torch.arange(12) < 7}
    small = shrink(net, space, keep, TOKENS).model
    wrong = copy.deepcopy(small)
    wrong[1].eps = 1e-4

    def passed(candidate: nn.Module, averages: list) -> bool:
        mask = space.mask(keep)
        return prunus.verify(mask, candidate, TOKENS, model=net, averages=averages).passed

    assert passed(small, space.remaining(keep))
    assert not passed(wrong, space.remaining(keep))
    assert not passed(small, [])


METHOD = prunus.methods.l1_filter(round_to=1)
