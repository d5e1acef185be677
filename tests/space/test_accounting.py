"""Published sizes that the accounting must reproduce, each worked out from the architecture."""

import pytest
import torch
from torch import nn

from prunus import zoo
from prunus.space import trace

SIZES = {
    "vgg16": (14_724_042, 313_201_664),
    "vgg19": (20_035_018, None),
    "resnet20": (269_722, 40_551_040),
    "resnet56": (853_018, 125_485_696),
    "resnet110": (1_727_962, 252_887_680),
    "lenet300": (266_610, 266_200),
    "torchvision:resnet34": (21_797_672, 3_663_761_408),
    "torchvision:vgg16": (138_357_544, 15_470_264_320),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_and_macs_of_known_networks(name: str) -> None:
    params, macs = SIZES[name]

    space = trace(zoo.network(name), zoo.example(name)[:1])

    assert space.params.dense == params
    assert macs is None or space.macs.dense == macs


def test_lenet5_has_the_weights_of_the_caffe_network() -> None:
    space = trace(zoo.network("lenet5"), zoo.example("lenet5")[:1])

    assert sum(torch.Size(weight.shape).numel() for weight in space.weights) == 430_500
    assert space.macs.dense == 24 * 24 * 20 * 25 + 8 * 8 * 50 * 20 * 25 + 800 * 500 + 500 * 10


def test_macs_are_bilinear_in_what_a_layer_reads_and_makes() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.ReLU())
    net.append(nn.Conv2d(4, 2, 1))
    space = trace(net, torch.randn(1, 3, 5, 5))

    def macs(first: int, second: int) -> float:
        return float(space.macs.at(torch.tensor([first, second])))

    assert [group.size for group in space.groups] == [8, 4]
    assert macs(8, 4) == space.macs.dense == 25 * (27 * 8 + 8 * 4 + 4 * 2)
    assert macs(5, 3) == 25 * (27 * 5 + 5 * 3 + 3 * 2)


def test_cost_is_differentiable_in_soft_widths() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    space = trace(net, torch.randn(1, 6))
    gates = torch.full((5,), 0.5, requires_grad=True)

    space.macs.at(space.widths({"0": gates})).backward()

    assert gates.grad is not None
    assert gates.grad.tolist() == [6 + 4] * 5


def test_bytes_count_buffers_and_the_width_of_each_type() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    space = trace(net, torch.randn(1, 1, 2, 2))

    assert space.bytes.dense == 4 * (4 + 4 * 4 + 4 + 1) + 8  # num_batches_tracked is one int64
    assert float(space.bytes.at(torch.tensor([3]))) == 4 * (3 + 4 * 3 + 3 + 1) + 8
