"""Network slimming in several passes, each a training with the penalty."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target, prune
from prunus.methods import slimming
from prunus.recipe import Recipe
from prunus.training import ArrayData, TrainSettings, fit

X = torch.zeros(1, 1, 8, 8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)),
    )


def data():
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (48, 1, 8, 8), dtype=torch.uint8, generator=random)
    samples = (images, torch.randint(3, (48,), generator=random))
    return ArrayData("tiny", samples, samples, 3, (0.5,), (0.3,), batch_size=8, val_size=8)


def alive(model):
    return int(torch.cat([model[1].weight, model[4].weight]).count_nonzero())


def test_each_pass_takes_the_same_share_of_what_is_left_by_the_scales_of_its_own_training():
    model = network()
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(1.0, 17))
        model[4].weight.copy_(torch.arange(1.0, 17) + 0.5)
    method = slimming(begin="4it", passes=3, strength=0.1)
    pruner = Pruner(model, X, method, target=Target(sparsity=0.875))
    assert pruner.penalty().item() == pytest.approx(0.1 * (136 + 144))
    rewound = []
    for step in range(1, 13):
        pruner.step()
        rewound.append(pruner.rewound)
        if step == 4:
            assert alive(model) == 16 and not model[1].weight[:8].any()
            assert pruner.penalty().item() == pytest.approx(0.1 * (100 + 104))
            with torch.no_grad():
                model[1].weight[15] = 0.1  # the penalty has made the largest scale the smallest
        if step == 8:
            assert alive(model) == 8 and model[1].weight[15] == 0
    assert alive(model) == 4 and pruner.penalty() == 0.0
    assert (
        rewound == [None, None, None, 0] * 3
    )  # the learning rate begins again, for fine-tuning too
    assert sum(m.out_channels for m in pruner.finish().model if isinstance(m, nn.Conv2d)) == 4


def test_a_training_loop_makes_one_training_more_than_passes():
    method = slimming(begin="6it", passes=2)
    model = network()
    pruner = Pruner(model, X, method, target=Target(sparsity=0.75))
    settings = TrainSettings(length="6it", lr=0.1, schedule="cosine", eval_every="3it")
    history = fit(model, data(), settings, hook=pruner)
    assert history.steps == 18 and pruner.rewinding.densities == [1.0, 0.5, 0.25]
    assert pruner.finish().report.verification.passed


def test_one_pass_and_a_penalty_from_the_first_step_on_need_no_dense_training():
    table = {
        "name": "slim",
        "model": {"name": "vgg19"},
        "data": {"name": "cifar10"},
        "method": {"name": "slimming", "begin": "1ep", "from_scratch": True},
        "finetune": {"length": "2ep", "lr": 0.1},
    }
    assert Recipe.model_validate(table).train is None
    with pytest.raises(ValueError, match=r"needs weights or a \[train\] table"):
        Recipe.model_validate(table | {"method": {"name": "slimming", "begin": "1ep"}})


def test_passes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="passes must be at least 1, got 0"):
        slimming(passes=0)
    with pytest.raises(ValueError, match=r"training between them; .* such as '160ep', got '0it'"):
        slimming(begin="0it", passes=2)


def test_the_penalty_acts_before_anything_goes_unless_begin_says_otherwise():
    with pytest.raises(ValueError, match="'slimming' prunes while the network trains"):
        prune(network(), X, method="slimming")
    at_once = slimming(begin="0it", scope="layer")
    small = prune(network(), X, method=at_once).model
    assert small[0].out_channels + small[3].out_channels < 32
