import pytest
import torch
from torch import nn

from prunus.recovery import norm_weights, reinitialise, scratch_settings
from prunus.training import TrainSettings


def network():
    return nn.Sequential(
        nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 64, 3, groups=4), nn.Flatten(),
        nn.Linear(64, 200), nn.LayerNorm(200),
    )  # fmt: skip


def test_spread_follows_the_paper():
    model = network()
    model[1].running_mean.fill_(3)
    before = torch.get_rng_state()
    reinitialise(model, seed=0, norm_weight=0.5)
    assert torch.equal(torch.get_rng_state(), before)
    assert float(model[0].weight.detach().std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert float(model[2].weight.detach().std()) == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.03)
    assert float(model[4].weight.detach().std()) == pytest.approx(0.01, rel=0.03)
    assert not any(model[index].bias.any() for index in (0, 1, 2, 4))
    assert model[1].weight.eq(0.5).all()
    assert model[1].running_mean.eq(0).all()


def test_batch_norms_begin_as_those_of_another_network():
    drawn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    nn.init.zeros_(drawn[2].weight)
    nn.init.constant_(drawn[1].weight, 0.5)
    assert norm_weights(drawn) == {"1": 0.5, "2": 0.0}
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    )
    reinitialise(model, seed=0, norm_weight=norm_weights(drawn))
    assert [model[k].weight.tolist() for k in (1, 2, 3)] == [[0.5, 0.5], [0, 0], [1, 1]]


def test_a_masked_convolution_counts_the_kept_connections():
    model = network()
    kept = torch.rand(model[0].weight.shape) < 0.1
    reinitialise(model, seed=0, mask={"0.weight": kept})
    weight = model[0].weight.detach()
    assert not weight[~kept].any()
    expected = (2 / (int(kept.sum()) / 16)) ** 0.5
    assert float(weight[kept].std()) == pytest.approx(expected, rel=0.05)


def test_the_seed_alone_decides():
    left, right, other = network(), network(), network()
    for model, seed in ((left, 1), (right, 1), (other, 2)):
        torch.rand(1)
        reinitialise(model, seed)
    assert all(map(torch.equal, left.state_dict().values(), right.state_dict().values()))
    assert not torch.equal(left[0].weight, other[0].weight)


def test_attention_is_drawn_afresh():
    model = nn.MultiheadAttention(8, 2)
    before = model.in_proj_weight.detach().clone()
    reinitialise(model, seed=0)
    assert not torch.equal(model.in_proj_weight, before)


def test_a_parameter_nobody_can_draw_is_refused_and_nothing_changed():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(2))

    model = nn.Sequential(nn.Linear(2, 2), Scale())
    before = model[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"1 \(Scale\) has parameters factor"):
        reinitialise(model, seed=0)
    with pytest.raises(ValueError, match="no tensor '9"):
        reinitialise(model[0], seed=0, mask={"9.weight": torch.ones(1)})
    assert torch.equal(model[0].weight, before)


def test_budgets():
    settings = TrainSettings(length="90ep", lr=0.1, schedule="step", step="30ep")
    assert scratch_settings(settings, 3e9, 1e9, "E") is settings
    assert scratch_settings(settings, 3e9, 1e9, "B").length == "270ep"
    capped = scratch_settings(settings, 3e9, 1e9, "B", cap=2.0)
    assert (capped.length, capped.step) == ("180ep", "60ep")
    # ResNet-56-A of the paper: 160 epochs become 178.
    resnet = TrainSettings(length="160ep", lr=0.1)
    assert scratch_settings(resnet, 125_485_696, 112_400_000, "B").length == "178ep"
    with pytest.raises(ValueError, match="at most dense_macs"):
        scratch_settings(settings, 1e9, 2e9, "B")
