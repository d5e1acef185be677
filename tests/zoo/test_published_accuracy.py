"""The networks, CIFAR-10 and its normalisation together reach the accuracy of published weights."""

import functools
import itertools

import pytest
import torch

from prunus import zoo

CHECKPOINTS = {
    "resnet20": "cifar10_resnet20-12fca82f.th",
    "resnet56": "cifar10_resnet56-4bfd9763.th",
}


@functools.cache  # decoding takes seconds
def cifar10(root):
    return zoo.dataset("cifar10", batch_size=500, root=root)


def correct(name, root, count):
    """How many of the first `count` test images the published network recognises."""
    path = root / "pretrained" / CHECKPOINTS[name]
    if not path.is_file():
        pytest.skip(f"needs pretrained/{CHECKPOINTS[name]} in PRUNUS_DATA")
    model = zoo.network(name)
    zoo.load_weights(model, path)
    model.eval()
    batches = itertools.islice(cifar10(root).eval_batches("test"), count // 500)
    with torch.inference_mode():
        return sum((model(x).argmax(1) == y).sum().item() for x, y in batches)


def test_cifar10_pixels_and_labels(real_data):
    data = cifar10(real_data)
    assert (data.classes, data.shape, data.steps_per_epoch) == (10, (3, 32, 32), 90)
    assert (data.crop_padding, data.flip) == (4, True)
    images, labels = next(data.eval_batches("test"))
    assert labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    pixel = images[0, :, 0, 0] * torch.tensor([0.229, 0.224, 0.225])
    pixel += torch.tensor([0.485, 0.456, 0.406])
    torch.testing.assert_close(pixel * 255, torch.tensor([158.0, 112.0, 49.0]))


def test_resnet20_on_1000_images(real_data):
    assert correct("resnet20", real_data, 1000) == pytest.approx(917, abs=15)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("resnet20", 9173), ("resnet56", 9339)])
def test_all_images(real_data, name, expected):
    # Two images either way for another build's rounding.
    assert correct(name, real_data, 10_000) == pytest.approx(expected, abs=2)
