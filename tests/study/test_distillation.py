import pytest
import torch
from torch import nn

from prunus import zoo
from prunus.errors import DataError
from prunus.recovery import predict
from prunus.study import distil_without, train_specialist
from prunus.training import ArrayData, TrainSettings, evaluate, fit


def blobs(count, seed, share=(1, 1, 1, 1, 1)):
    """Five classes around the corners of a pentagon, in proportions."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.tensor(share, dtype=torch.float)
    labels = torch.multinomial(weights, count, replacement=True, generator=random)
    angles = labels * 2 * torch.pi / 5
    centres = torch.stack([angles.cos(), angles.sin()], 1)
    return centres + 0.35 * torch.randn(count, 2, generator=random), labels


def data(**options):
    shares = {"share": options.pop("share", (1, 1, 1, 1, 1))}
    return ArrayData(
        "blobs", blobs(800, 0, **shares), blobs(500, 1, **shares), 5, (0,), (1,), batch_size=50,
        val_size=200,
    )  # fmt: skip


def network(width=24, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 5))


@pytest.fixture(scope="module")
def teacher():
    model = network()
    fit(model, data(), TrainSettings(length="10ep", lr=0.1))
    return model


def test_fewer_training_samples():
    whole = data()
    labels = whole.train_labels
    assert len(labels) == 600
    part = whole.with_training((labels > 2).nonzero()[:, 0].flip(0), name="part")
    assert part.name == "part"
    assert torch.equal(part.train_labels, labels[labels > 2])
    assert sum(len(y) for _, y in part.train_batches(0)) == len(part.train_labels)
    assert part.steps_per_epoch < whole.steps_per_epoch
    for split in ("val", "test"):
        old, new = list(whole.eval_batches(split)), list(part.eval_batches(split))
        assert all(map(torch.equal, [x for x, _ in old], [x for x, _ in new]))
    assert len(whole.train_labels) == 600
    with pytest.raises(DataError, match="none has no training samples"):
        whole.with_training(torch.tensor([], dtype=torch.long), name="none")


def test_classes_may_be_called_otherwise():
    whole = data()
    merged = whole.with_training(
        torch.arange(10), name="merged", labels=torch.tensor([2, 0, 2, 1, 2])
    )
    assert merged.classes == 3
    assert torch.equal(merged.train_labels == 0, whole.train_labels[:10] == 1)
    labels = torch.cat([y for _, y in merged.eval_batches("test")])
    assert torch.equal(labels == 1, torch.cat([y for _, y in whole.eval_batches("test")]) == 3)


def test_classes_never_seen_are_known_once_their_bias_is_raised(teacher):
    student = network(seed=1)
    settings = TrainSettings(length="4ep", lr=0.05)
    found = distil_without(teacher, student, data(), {2, 3}, settings, bias="2.bias")
    # 157 and 50 errors of 500, 144 and 26 of 201.
    assert (found.samples, found.samples_of_missing) == (500, 201)
    assert found.shift > 1
    assert found.errors[1] < 0.5 * found.errors[0]
    assert found.errors_on_missing[1] < 0.5 * found.errors_on_missing[0]
    # The student has the bias that was reported.
    logits, labels = predict(student, data().eval_batches("test"))
    assert int((logits.argmax(1) != labels).sum()) == found.errors[1]


def test_a_specialist_knows_how_rare_its_classes_are():
    rare = data(share=(1, 1, 8, 8, 8))
    generalist = network()
    fit(generalist, rare, TrainSettings(length="10ep", lr=0.1))
    before = torch.get_rng_state()
    found = train_specialist(
        generalist, rare, (1, 0), TrainSettings(length="30ep", lr=0.05), classifier="2"
    )
    assert torch.equal(torch.get_rng_state(), before)
    logits, _ = predict(found, rare.eval_batches("test"))
    labels = torch.cat([y for _, y in rare.eval_batches("test")])
    dustbin = logits.softmax(1)[:, -1].mean().item()
    assert dustbin == pytest.approx((labels > 1).float().mean().item(), abs=0.04)
    known = labels < 2
    assert (logits[known, :2].argmax(1) == 1 - labels[known]).float().mean() > 0.85


@pytest.mark.slow
def test_on_mnist_a_student_knows_threes_that_it_never_saw(real_data):
    mnist = zoo.dataset("mnist", batch_size=100)
    teacher, student = zoo.network("lenet300"), zoo.network("lenet300")
    settings = TrainSettings(length="10ep", lr=0.05, schedule="cosine")
    fit(teacher, mnist, settings)
    assert evaluate(teacher, mnist).accuracy > 0.975
    found = distil_without(
        teacher, student, mnist, {3}, settings.model_copy(update={"lr": 0.01}), bias="fc3.bias"
    )
    print(found)
    assert found.samples_of_missing == 1010
    assert found.errors_on_missing[1] < 0.05 * 1010
    assert found.errors[1] < found.errors[0]
