"""The configurations of Li et al. (2017), reproduced to the published reductions."""

import pytest
import torch

from prunus import Target, prune
from prunus.methods import l1_filter
from prunus.methods.l1_presets import PRESETS
from prunus.zoo import network

X = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def saved(result):
    """Percent of parameters and of MACs that went."""
    return tuple(
        round(100 * (1 - after / before), 1)
        for before, after in (result.report.costs[name] for name in ("params", "macs"))
    )


@pytest.mark.parametrize(
    ("preset", "name", "expected"),
    [
        ("vgg16-a", "vgg16", (64.3, 34.2)),
        ("resnet56-a", "resnet56", (9.3, 10.4)),
        ("resnet56-b", "resnet56", (13.8, 27.6)),
        ("resnet110-a", "resnet110", (2.3, 15.9)),
        ("resnet110-b", "resnet110", (32.4, 38.7)),
        ("resnet34-a", "torchvision:resnet34", (7.6, 15.4)),
        ("resnet34-b", "torchvision:resnet34", (10.7, 24.1)),
    ],
)
def test_the_papers_reductions(preset, name, expected):
    x = torch.randn(1, 3, 224, 224) if name.startswith("torchvision") else X
    result = prune(network(name).eval(), x, method=l1_filter(preset=preset), check=False)
    assert saved(result) == expected
    assert result.report.costs["params"][1] == sum(p.numel() for p in result.model.parameters())


def test_the_papers_sensitive_layers_stay_whole():
    # Convolution 16 is the first of block 8 of the first stage, 38 that of block 1 of the third.
    ratios = PRESETS["resnet56-b"].ratios
    whole = [name for name, ratio in ratios.items() if ratio == 0]
    assert whole == [
        *("layer1.7.conv1", "layer1.8.conv1"),
        *("layer2.0.conv1", "layer2.7.conv1"),
        *("layer3.0.conv1", "layer3.8.conv1"),
    ]
    assert [ratios[f"layer{k}.1.conv1"] for k in (1, 2, 3)] == [0.6, 0.3, 0.1]


def test_the_papers_vgg():
    result = prune(network("vgg16").eval(), X, method=l1_filter(preset="vgg16-a"), check=False)
    widths = [m.out_channels for m in result.model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert widths == [32, 64, 128, 128, *[256] * 9]
    with_one_more = network("vgg16", hidden_features=512).eval()
    result = prune(with_one_more, X, method=l1_filter(preset="vgg16-a"), check=False)
    assert result.model.classifier[0].out_features == 512


def test_a_preset_with_rounding_suits_runtimes():
    method = l1_filter(preset="resnet56-b", round_to=8)
    result = prune(network("resnet56").eval(), X, method=method, check=False)
    assert result.model.layer1[0].conv1.out_channels == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet110", r"for ResNet-56 of CIFAR, and .* 27 layers: 'layer1.10.conv1' with no fil"),
        ("resnet20", r"18 layers: 'layer1.3.conv1' with 16 filters is not there"),
        ("vgg16", r"27 layers: 'layer1.0.conv1' with 16 filters is not there"),
    ],
)
def test_a_preset_refuses_another_network(name, message):
    with pytest.raises(ValueError, match=message):
        prune(network(name).eval(), X, method=l1_filter(preset="resnet56-a"), check=False)


def test_a_preset_stands_alone():
    with pytest.raises(ValueError, match=r"leave Target\(macs=0.5\) out"):
        prune(
            *(network("resnet56").eval(), X),
            method=l1_filter(preset="resnet56-a"),
            target=Target(macs=0.5),
        )
    with pytest.raises(ValueError, match="leave these or it out"):
        l1_filter(preset="resnet56-a", skip=("layer1.*",))
    with pytest.raises(ValueError, match="Did you mean 'resnet56-"):
        l1_filter(preset="resnet56")


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
