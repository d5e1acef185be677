import pytest
import torch

from prunus.errors import DataError
from prunus.training import ArrayData


def images(count, channels=3, size=6, seed=0):
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=random)
    # The label is the image's number, so that a batch says which images it holds.
    return pixels, torch.arange(count)


def make(count=23, **options):
    defaults = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "batch_size": 5}
    return ArrayData(
        "toy", train=images(count), test=images(4, seed=1), classes=count, **defaults | options
    )


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in zip(left, right, strict=True)
    )


def test_a_batch_depends_on_seed_epoch_and_number_alone():
    whole = list(make(crop_padding=2, flip=True, seed=3).train_batches(4))
    again = make(crop_padding=2, flip=True, seed=3)
    torch.manual_seed(99)
    assert same(list(again.train_batches(4, start=2)), whole[2:])
    assert not same(list(again.train_batches(5)), whole)
    assert not same(list(make(crop_padding=2, flip=True, seed=4).train_batches(4)), whole)


def test_batches_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(make(crop_padding=2, flip=True).train_batches(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epoch_holds_each_training_image_once_and_no_validation_image():
    data = make(val_size=6)
    train = torch.cat([labels for _, labels in data.train_batches(0)])
    val = torch.cat([labels for _, labels in data.eval_batches("val")])
    assert len(val) == 6
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(23))
    assert [len(labels) for _, labels in data.train_batches(0)] == [5, 5, 5, 2]
    assert data.steps_per_epoch == 4


def test_a_single_left_over_image_joins_the_batch_before():
    assert [len(labels) for _, labels in make(count=11).train_batches(0)] == [5, 6]
    assert make(count=11).steps_per_epoch == 2
    assert make(count=5, batch_size=1).steps_per_epoch == 5


def test_evaluation_images_are_normalised_and_in_order():
    data = make(crop_padding=2, flip=True)
    inputs = torch.cat([inputs for inputs, _ in data.eval_batches("test")])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (data.mean, data.std))
    expected = (images(4, seed=1)[0] / 255 - mean) / std
    torch.testing.assert_close(inputs, expected)
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_floating_samples_are_not_divided_and_not_changed():
    samples = torch.rand(7, 4)
    before = samples.clone()
    data = ArrayData(
        "flat",
        train=(samples, torch.zeros(7, dtype=torch.int64)),
        test=(samples, torch.zeros(7, dtype=torch.int64)),
        classes=1,
        mean=(0.5,),
        std=(2.0,),
    )
    (inputs, _), *_ = data.eval_batches("test")
    torch.testing.assert_close(inputs, (before - 0.5) / 2)
    assert torch.equal(samples, before)


def test_augmentation_crops_the_padded_image_and_mirrors_half():
    data = make(count=400, crop_padding=2, flip=True, mean=(0,), std=(1,), batch_size=400)
    (inputs, labels), *_ = data.train_batches(0)
    padded = torch.nn.functional.pad(images(400)[0] / 255, (2, 2, 2, 2))
    offsets, mirrored = set(), 0
    for image, label in zip(inputs, labels, strict=True):
        crops = {
            (down, right, flip): crop.flip(-1) if flip else crop
            for down in range(5)
            for right in range(5)
            for flip in (False, True)
            for crop in [padded[label, :, down : down + 6, right : right + 6]]
        }
        found = [key for key, crop in crops.items() if torch.allclose(crop, image)]
        assert len(found) == 1
        offsets.add(found[0][:2])
        mirrored += found[0][2]
    assert len(offsets) == 25
    assert 150 < mirrored < 250


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"val_size": 23}, ValueError, "val_size"),
        ({"mean": (0.5, 0.5)}, ValueError, "1 or 3"),
        ({"std": (0,)}, ValueError, "std"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"classes": 22}, DataError, r"\[0, 22\), got 0 to 22"),
        ({"train": images(0)}, DataError, "no samples"),
        ({"train": (images(3)[0], torch.arange(4))}, DataError, "3 samples"),
        ({"train": images(3, size=5)}, DataError, "one shape"),
        ({"train": (images(3)[0][:, 0], torch.arange(3))}, DataError, "unsqueeze"),
    ],
)
def test_inconsistent_data_are_refused(options, error, words):
    arguments = {
        "train": images(23), "test": images(4), "classes": 23, "mean": (0,), "std": (1,)
    }  # fmt: skip
    with pytest.raises(error, match=words):
        ArrayData("toy", **arguments | options)
