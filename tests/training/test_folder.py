from multiprocessing import current_process
from shutil import rmtree

import pytest
import torch
from PIL import Image

from prunus.errors import DataError
from prunus.training import FolderData


def write_images(folder, count, classes=("cat", "dog")):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (12, 10), (label * 100, number * 20, 0))
            image.save(folder / name / f"{number}.png")


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "train", 5)
    write_images(tmp_path / "test", 2)
    return tmp_path


def make(root, **options):
    return FolderData(root, **{"image_size": 8, "batch_size": 4, "workers": 0} | options)


def test_validation_is_held_out_and_batches_are_reproducible(root):
    data = make(root, val_size=3)
    assert (data.classes, data.shape, data.steps_per_epoch) == (2, (3, 8, 8), 2)
    assert sum(len(labels) for _, labels in data.eval_batches("val")) == 3
    before = torch.get_rng_state()
    whole = list(data.train_batches(1))
    assert torch.equal(torch.get_rng_state(), before)
    (inputs, labels), *_ = make(root, val_size=3).train_batches(1, start=1)
    assert torch.equal(inputs, whole[1][0])
    assert torch.equal(labels, whole[1][1])
    assert [len(labels) for _, labels in whole] == [4, 3]
    assert inputs.dtype == torch.float32


def test_a_worker_process_reads_the_same_batches(root):
    (inputs, _), *_ = make(root, workers=1).train_batches(0)
    (expected, _), *_ = make(root).train_batches(0)
    assert torch.equal(inputs, expected)


def test_a_process_that_may_start_none_reads_in_itself(root, monkeypatch):
    (expected, _), *_ = make(root).train_batches(0)
    monkeypatch.setitem(current_process()._config, "daemon", True)
    (inputs, _), *_ = make(root, workers=1).train_batches(0)
    assert torch.equal(inputs, expected)


def test_val_without_test_is_the_test_split(root):
    (root / "test").rename(root / "val")
    data = make(root)
    assert sum(len(labels) for _, labels in data.eval_batches("test")) == 4
    assert sum(len(labels) for _, labels in data.eval_batches("val")) == 1


def test_damaged_folders_are_refused(root, tmp_path_factory):
    with pytest.raises(DataError, match="'train'"):
        make(tmp_path_factory.mktemp("empty"))
    (root / "val" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="got no image"):
        make(root)
    rmtree(root / "val")
    (root / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cat/0\.png"):
        list(make(root, val_size=0).train_batches(0))
    write_images(root / "val", 1, classes=("cat", "bird"))
    with pytest.raises(DataError, match="same class folders"):
        make(root)
