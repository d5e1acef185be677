"""Metrics against numbers worked by hand, and data whose labels are pixels or words."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from prunus.errors import DataError
from prunus.training import ArrayData, TrainSettings, evaluate, fit
from prunus.training.evaluation import Metrics, confusion_matrix, mean_iou
from prunus.training.metrics import best_record


class Fixed:
    """Data of one batch, the same for every split."""

    name, batch_size, steps_per_epoch, shape = "fixed", 2, 1, (2,)

    def __init__(self, inputs, labels, classes, metric):
        self.batch, self.classes, self.metric = (inputs, labels), classes, metric

    def train_batches(self, epoch, start=0):
        yield from [self.batch][start:]

    def eval_batches(self, split):
        yield self.batch


class Echo(nn.Module):
    def forward(self, x):
        return x


def test_mean_iou_by_hand():
    # Labels 0 0 1 1 2 and one ignored; predictions 0 1 1 1 0 and whatever.
    # Class 0: 1 of 3 pixels in the union, class 1: 2 of 3, class 2: 0 of 1, class 3: nowhere.
    labels = torch.tensor([[[0, 0, 1], [1, 2, -100]]])
    predicted = torch.tensor([[[0, 1, 1], [1, 0, 3]]])
    confusion = confusion_matrix(predicted, labels, 4)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert mean_iou(confusion) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)

    logits = functional.one_hot(predicted, 4).movedim(3, 1).float() * 10
    metrics = evaluate(Echo(), Fixed(logits, labels, 4, "mean_iou"))
    assert metrics.mean_iou == pytest.approx(1 / 3)
    assert (metrics.accuracy, metrics.count) == (3 / 5, 5)
    right, wrong = math.log(1 + 3 * math.exp(-10)), math.log(math.exp(10) + 3)
    assert metrics.loss == pytest.approx((3 * right + 2 * wrong) / 5)


def test_perplexity_by_hand():
    # The words that come have probabilities 1/2, 1/8 and 1/4: 4 = the third root of 2 * 8 * 4.
    chances = torch.tensor([[[0.5, 0.125, 0.25], [0.5, 0.875, 0.75]]])
    labels = torch.tensor([[0, 0, 0]])
    metrics = evaluate(Echo(), Fixed(chances.log(), labels, 2, "perplexity"))
    assert metrics.perplexity == pytest.approx(4)
    assert metrics.loss == pytest.approx(math.log(4))
    assert metrics.mean_iou is None
    assert metrics.named("perplexity").keys() == {"loss", "accuracy", "perplexity"}
    lost = Metrics(loss=800.0, accuracy=0.1, count=10).named("perplexity")
    assert lost == {"loss": 800.0, "accuracy": 0.1, "perplexity": None}


def test_nothing_but_ignored_labels_is_an_error():
    data = Fixed(torch.zeros(1, 2, 3), torch.full((1, 3), -100), 2, "perplexity")
    with pytest.raises(DataError, match="no test samples"):
        evaluate(Echo(), data)


def test_the_best_record_is_that_of_the_datas_metric():
    records = [
        {"val_loss": 3.0, "val_accuracy": 0.5, "val_perplexity": 20.0, "val_mean_iou": 0.1},
        {"val_loss": 2.0, "val_accuracy": 0.4, "val_perplexity": 7.0, "val_mean_iou": 0.1},
    ]
    assert best_record(records) is records[0]
    assert best_record(records, "perplexity") is records[1]
    assert best_record(records, "mean_iou") is records[1]


class TwoInputs(nn.Module):
    """Words read and words written, to logits of the next ones."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Embedding(5, 8), nn.Embedding(5, 8), nn.Linear(8, 5)

    def forward(self, source, target):
        return self.out(self.one(source).mean(1, keepdim=True) + self.two(target)).transpose(1, 2)


def test_the_loop_takes_several_inputs_and_labels_that_do_not_count():
    source = torch.tensor([[1, 2, 3], [4, 4, 1]])
    target = torch.tensor([[1, 2, 3, 4], [2, 3, 1, 0]])
    labels = torch.tensor([[2, 3, 4, 1], [3, 1, -100, -100]])
    data = Fixed((source, target), labels, 5, "perplexity")
    model = TwoInputs()
    before = evaluate(model, data)
    history = fit(model, data, TrainSettings(length="40it", lr=0.5, keep="best"))
    after = evaluate(model, data)
    assert before.count == after.count == 6
    assert after.perplexity < before.perplexity / 2
    assert history.best["val_perplexity"] == min(r["val_perplexity"] for r in history.records)
    assert history.final["val_perplexity"] == pytest.approx(after.perplexity, rel=1e-5)


def pixel_data(**options):
    """Images whose value is their label, with a column of pixels that do not count."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (20, 6, 8), generator=random)
    images = (labels * 100).to(torch.uint8).unsqueeze(1).repeat(1, 3, 1, 1)
    labels[:, :, 0] = -100
    part = lambda a, b: (images[a:b], labels[a:b])  # noqa: E731
    return ArrayData(
        *("pixels", part(0, 12), part(12, 16), 3, (0.0,), (1.0,)),
        val=part(16, 20),
        **{"batch_size": 5, "flip": True} | options,
    )


def test_pixels_keep_their_labels_when_images_are_mirrored():
    data = pixel_data()
    assert (data.metric, data.shape) == ("mean_iou", (3, 6, 8))
    seen = set()
    for images, labels in data.train_batches(0):
        value = (images[:, 0] * 255 / 100).round().long()
        assert torch.equal(value[labels != -100], labels[labels != -100])
        for one in labels:
            left, right = (bool((one[:, k] == -100).all()) for k in (0, -1))
            assert left != right
            seen.add(right)
    assert seen == {True, False}
    assert [len(y) for _, y in data.eval_batches("val")] == [4]
    assert all((y[:, :, 0] == -100).all() for _, y in data.eval_batches("test"))


def test_a_network_learns_the_class_of_each_pixel():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    history = fit(model, pixel_data(), TrainSettings(length="20ep", lr=0.5, keep="best"))
    assert history.records[0]["val_mean_iou"] < 0.9
    assert history.best["val_mean_iou"] == evaluate(model, pixel_data(), "val").mean_iou > 0.95


@pytest.mark.parametrize(
    ("options", "words"),
    [({"val_size": 2}, "leave val_size out"), ({"crop_padding": 2}, "one label each")],
)
def test_what_does_not_fit_pixel_labels_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        pixel_data(**options)
