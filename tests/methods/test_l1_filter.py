"""The configurations of Li et al. (2017), reproduced to the published reductions.

Convolutions are counted from 1 over all 3x3 layers, the stem being 1, so that the even ones are
the first of their block. Source: section 4 of the paper; the skipped layers are those of the code
of Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019.
"""

import pytest
import torch

from prunus import prune
from prunus.methods import l1_filter
from prunus.zoo import network

X = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def first_convolution(number, blocks):
    """Name the even convolution `number` of a ResNet with `blocks` blocks per stage."""
    stage, block = divmod(number // 2 - 1, blocks)
    return f"layer{stage + 1}.{block}.conv1"


def paper(ratios, skipped, blocks):
    skip = tuple(first_convolution(number, blocks) for number in skipped)
    stages = {f"layer{k + 1}.*": ratio for k, ratio in enumerate(ratios)}
    return l1_filter(ratios=stages, skip=skip, round_to=1)


def saved(result):
    """Percent of parameters and of MACs that went."""
    return tuple(
        round(100 * (1 - after / before), 1)
        for before, after in (result.report.costs[name] for name in ("params", "macs"))
    )


@pytest.mark.parametrize(
    ("name", "blocks", "ratios", "skipped", "expected"),
    [
        ("resnet56", 9, (0.1, 0.1, 0.1), (16, 20, 38, 54), (9.3, 10.4)),
        ("resnet56", 9, (0.6, 0.3, 0.1), (16, 18, 20, 34, 38, 54), (13.8, 27.6)),
        ("resnet110", 18, (0.5, 0.0, 0.0), (36,), (2.3, 15.9)),
        ("resnet110", 18, (0.5, 0.4, 0.3), (36, 38, 74), (32.4, 38.7)),
    ],
    ids=["ResNet-56-A", "ResNet-56-B", "ResNet-110-A", "ResNet-110-B"],
)
def test_the_papers_residual_networks(name, blocks, ratios, skipped, expected):
    model = network(name).eval()
    result = prune(model, X, method=paper(ratios, skipped, blocks), check=False)
    assert saved(result) == expected
    counted = sum(p.numel() for p in result.model.parameters())
    assert result.report.costs["params"][1] == counted
    for number in skipped:
        name = first_convolution(number, blocks)
        assert result.mask[f"{name}.weight"].all()


def test_the_papers_vgg():
    model = network("vgg16").eval()
    convolutions = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)]
    halved = {convolutions[k]: 0.5 for k in (0, 7, 8, 9, 10, 11, 12)}
    result = prune(model, X, method=l1_filter(ratios=halved, round_to=1), check=False)
    widths = [m.out_channels for m in result.model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert widths == [32, 64, 128, 128, *[256] * 9]
    assert saved(result) == (64.3, 34.2)


def test_the_filters_that_stay_are_the_largest():
    model = network("resnet20").eval()
    method = l1_filter(ratios={"layer1.*": 0.5}, round_to=1)
    result = prune(model, X, method=method, check=False)
    sums = model.layer1[0].conv1.weight.abs().sum((1, 2, 3))
    kept = result.mask["layer1.0.bn1.weight"]
    assert kept.sum() == 8
    assert sums[kept].min() > sums[~kept].max()
    assert not any("conv2" in g["name"] and g["after"] < g["before"] for g in result.report.groups)


def test_by_default_widths_suit_runtimes():
    result = prune(network("resnet20").eval(), X, check=False)
    # one step of the widest of the nine free layers is 5.8 % of the MACs
    assert result.report.reached == pytest.approx(0.5, abs=0.029)
    assert all(g["after"] % 8 == 0 for g in result.report.groups)
