"""Samples that do not fit are named; networks are run no further than is looked at."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunus import Calibration, Target, prune
from prunus.criteria import Evidence
from tiny import build_tiny_data

TOKENS = torch.randint(20, (4, 6), generator=torch.Generator().manual_seed(0))


def pictures():
    layers = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(128, 4))


def language():
    return nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 20))


@pytest.mark.parametrize("method", ["thinet", "regression", "hrank", "try_and_learn", "taylor"])
def test_a_batch_that_the_network_does_not_take_is_named(method):
    batches = [(torch.randn(4, 1, 8, 8), torch.zeros(4).long())]
    said = r"inputs \(4, 1, 8, 8\) of the calibration: .*expected input.*; give batches of what"
    with pytest.raises(ValueError, match=said):
        prune(
            pictures(),
            torch.randn(1, 3, 8, 8),
            method=method,
            target=Target(macs=0.7),
            calibration=Calibration(batches),
        )


def taylor(model, batches, **options):
    calibration = Calibration(batches, **options)
    return prune(model, TOKENS[:1], method="taylor", calibration=calibration)


def test_a_loss_that_cannot_be_taken_says_of_what_and_the_way_it_shows_works():
    said = (
        r"loss, cross_entropy, cannot be taken of outputs \(4, 6, 20\) and targets \(4, 6\): .*"
        r"lambda outputs, targets: F.cross_entropy\(outputs.movedim\(-1, 1\), targets\)"
    )
    with pytest.raises(ValueError, match=said):
        taylor(language(), [(TOKENS, TOKENS)])

    def loss(outputs, targets):
        return F.cross_entropy(outputs.movedim(-1, 1), targets)

    assert taylor(language(), [(TOKENS, TOKENS)], loss=loss).report.reached <= 0.55


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = language()

    def forward(self, x):
        return Answer(self.net(x))


class Answer:
    def __init__(self, logits):
        self.logits = logits


def test_what_is_no_tensor_is_named_by_its_type():
    with pytest.raises(ValueError, match=r"outputs of type Answer .*outputs.logits.movedim"):
        taylor(Wrapped(), [(TOKENS, TOKENS)])


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda outputs, targets: outputs.sum(-1), r"is \(4, 6\)\."),
        (lambda outputs, targets: 3.0, "is of type float"),
    ],
)
def test_a_loss_is_a_scalar_tensor(loss, got):
    with pytest.raises(ValueError, match=f"must be a scalar tensor, the mean over samples.*{got}"):
        taylor(language(), [(TOKENS, TOKENS)], loss=loss)


def test_the_samples_of_a_dataset():
    data = build_tiny_data(batch_size=30, seed=0)
    found = Calibration.of(data)
    expected = list(data.train_batches(0))[:10]
    assert len(list(found)) == found.most == 10
    for (x, y), (inputs, targets) in zip(found, expected, strict=True):
        assert torch.equal(x, inputs) and torch.equal(y, targets)
    assert sum(len(y) for _, y in found.validation) == 100


def test_no_hook_sees_a_forward_that_was_ended():
    model, x, seen = pictures(), torch.randn(2, 3, 8, 8), []
    for module in (model, model[2], model[5]):
        module.register_forward_hook(lambda *parts: seen.append(parts[2]), always_call=True)
    model[0].register_forward_hook(lambda *parts: seen.append(parts[2]))
    model(x)
    assert len(seen) == 4
    seen.clear()
    weights = {name: p.detach() for name, p in model.named_parameters()}
    evidence = Evidence(weights, torch.Generator(), model, x, Calibration([x]))
    assert [*next(evidence.inputs(["2"]))] == ["2"]
    # Run whole for the example first, to see how often layers are called.
    assert [tuple(out.shape) for out in seen[4:]] == [(2, 16, 6, 6)]
