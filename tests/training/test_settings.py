import pytest
import torch
from torch import nn

from prunus.training import TrainSettings
from prunus.training.optimizers import (
    LearningRate,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
)


def rates(steps, **options):
    rate = LearningRate(TrainSettings(**{"length": "10ep", "lr": 1.0} | options), 4)
    return [rate(step) for step in steps]


def test_schedules_by_hand():
    assert rates([0, 39]) == [1, 1]
    assert rates([7, 8, 16], schedule="step", step="2ep") == pytest.approx([1, 0.1, 0.01])
    assert rates([7, 8, 19, 20], schedule="milestones", milestones=("2ep", "20it"), gamma=0.5) == [
        1,
        0.5,
        0.5,
        0.25,
    ]
    assert rates([0, 20, 39], schedule="cosine") == pytest.approx([1, 0.5, 0.0015413], rel=1e-3)
    assert rates([0, 1, 3, 4, 22], schedule="cosine", warmup="1ep") == pytest.approx(
        [0.25, 0.5, 1, 1, 0.5]
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": "160"}, "unit"),
        ({"lr": 0}, "greater than 0"),
        ({"learning_rate": 1}, "learning_rate"),
        ({"schedule": "step"}, "belong together"),
        ({"milestones": ("1ep",)}, "belong together"),
        ({"optimizer": "adam", "nesterov": True}, "nesterov"),
    ],
)
def test_contradictions_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        TrainSettings(**{"length": "1ep", "lr": 0.1} | options)


def test_a_warmup_as_long_as_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup must be shorter"):
        LearningRate(TrainSettings(length="1ep", lr=0.1, warmup="4it"), 4)


def test_scaling_gives_the_published_scratch_b_lengths():
    settings = TrainSettings(
        length="160ep", lr=0.1, schedule="milestones", milestones=("80ep", "120ep"), warmup="5ep"
    )
    scaled = settings.scaled(313_201_664 / 206_186_496)
    assert (scaled.length, scaled.milestones) == ("243ep", ("121ep", "182ep"))
    assert scaled.warmup == "5ep"
    assert TrainSettings(length="100ep", lr=1).scaled(1.15).length == "115ep"
    assert TrainSettings(length="0.5ep", lr=1).scaled(1.5).length == "0.75ep"
    assert TrainSettings(length="90ep", lr=1, schedule="step", step="30ep").scaled(2).step == "60ep"


def test_norms_and_biases_can_be_kept_from_decaying():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Linear(2, 2))
    settings = TrainSettings(length="1ep", lr=0.1, weight_decay=0.5, decay_norm_bias=False)
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(model, settings).param_groups
        for parameter in group["params"]
    }
    found = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
    assert {name for name, decay in found.items() if decay == 0.5} == {"0.weight", "2.weight"}
    assert len(found) == 6


def test_restored_optimizer_state_has_the_memory_layout_of_its_parameter():
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, TrainSettings(length="1it", lr=0.1, optimizer="adam"))
    model(torch.randn(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    kept = {k: v.clone().contiguous() for k, v in optimizer_tensors(model, optimizer).items()}
    fresh = build_optimizer(model, TrainSettings(length="1it", lr=0.1, optimizer="adam"))
    load_optimizer_tensors(model, fresh, kept)
    for slot, value in optimizer.state[model.weight].items():
        restored = fresh.state[model.weight][slot]
        assert torch.equal(restored, value)
        assert restored.stride() == value.stride()
