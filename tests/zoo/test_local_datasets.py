"""CamVid, Omniglot and MNIST by writer: small archives made here, and the real ones."""

import gzip
import io
import struct
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from prunus import zoo
from prunus.errors import DataError
from prunus.training import TrainSettings, evaluate, fit
from prunus.zoo.camvid import CLASSES


def encoded(array, kind):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def write_camvid(folder, counts, size=(48, 64)):
    """The left half of image k is sky, the right one of class k % 11; the top row is unlabelled."""
    folder.mkdir(parents=True)
    with ZipFile(folder / "camvid_240x180.zip", "w") as archive:
        for split, count in counts.items():
            for k in range(count):
                labels = np.zeros(size, np.uint8)
                labels[:, size[1] // 2 :] = k % 11
                image = np.repeat(labels[:, :, None] * 20, 3, axis=2)
                labels[0] = 11
                archive.writestr(f"{split}/{k:04}.webp", encoded(image, "WEBP"))
                archive.writestr(f"{split}annot/{k:04}.png", encoded(labels, "PNG"))


def test_camvid_has_a_class_for_each_pixel(tmp_path):
    write_camvid(tmp_path / "camvid", {"train": 3, "val": 2, "test": 1})
    data = zoo.dataset("camvid", batch_size=2, root=tmp_path, augment=False)
    assert (data.classes, data.shape, data.metric) == (11, (3, 48, 64), "mean_iou")
    assert data.steps_per_epoch == 1, "a single image joins the batch before it"
    images, labels = next(data.eval_batches("train"))
    assert labels.shape == (2, 48, 64)
    assert labels[:, 0].unique().tolist() == [-100]
    assert labels[1, 1:, 32:].unique().tolist() == [1]
    assert ((images[1, 0] * 0.3019 + 0.4137) * 255).round()[1, 32] == 20
    assert [len(y) for _, y in data.eval_batches("val")] == [2]
    mirrored = [
        bool((y[:, 1:, :32] != 0).any())
        for epoch in range(8)
        for _, y in zoo.dataset("camvid", batch_size=4, root=tmp_path).train_batches(epoch)
    ]
    assert any(mirrored) and not all(mirrored)


def test_segnet_learns_two_classes_of_pixels(tmp_path):
    write_camvid(tmp_path / "camvid", {"train": 2, "val": 2, "test": 2}, size=(32, 32))
    data = zoo.dataset("camvid", batch_size=2, root=tmp_path)
    torch.manual_seed(0)
    model = zoo.network("segnet", width=0.0625)
    history = fit(model, data, TrainSettings(length="15it", lr=0.1, eval_every="5it"))
    assert history.records[-1]["train_loss"] < history.records[0]["train_loss"] / 2
    assert history.records[-1].keys() >= {"val_mean_iou", "val_accuracy"}
    assert evaluate(model, data).count == 2 * 31 * 32


@pytest.mark.slow
def test_the_real_camvid(real_data):
    data = zoo.dataset("camvid", batch_size=10, root=real_data)
    assert data.shape == (3, 180, 240)
    counts = []
    for split, images in (("train", 367), ("val", 101), ("test", 233)):
        batches = list(data.eval_batches(split))
        assert sum(len(y) for _, y in batches) == images
        labels = torch.cat([y for _, y in batches])
        assert labels.unique().tolist() == [-100, *range(11)]
        counts.append(labels)
    pixels = torch.cat([x for x, _ in data.eval_batches("train")])
    assert pixels.mean((0, 2, 3)).abs().max() < 0.01
    torch.testing.assert_close(pixels.std((0, 2, 3)), torch.ones(3), atol=0.01, rtol=0)
    share = (counts[0] == CLASSES.index("road")).double().mean().item()
    assert 0.2 < share < 0.35


def write_omniglot(folder):
    """Two characters of Greek in both archives, one of Korean in the second, by 20 drawers."""
    folder.mkdir(parents=True)
    for part, characters in ((1, ["Greek/c1", "Greek/c2"]), (2, ["Greek/c1", "Korean/c1"])):
        with ZipFile(folder / f"images_background_small{part}.zip", "w") as archive:
            archive.writestr(f"images_background_small{part}/", "")
            for number, character in enumerate(characters):
                for drawer in range(1, 21):
                    paper = np.ones((105, 105), bool)
                    paper[: 5 * drawer] = False
                    name = f"images_background_small{part}/{character}/{number:04}_{drawer:02}.png"
                    archive.writestr(name, encoded(paper, "PNG"))


def test_omniglot_by_alphabet_and_by_writer(tmp_path):
    write_omniglot(tmp_path / "omniglot")
    whole = zoo.dataset("omniglot", batch_size=8, root=tmp_path)
    assert (whole.classes, whole.shape, whole.steps_per_epoch) == (3, (1, 28, 28), 6)
    labels = torch.cat([y for _, y in whole.eval_batches("test")])
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    ink = torch.cat([x for x, _ in whole.eval_batches("train")]) * 0.2362 + 0.0807
    assert ink[0].mean().item() == pytest.approx(5 / 105, abs=0.01)

    alphabets = zoo.clients("omniglot", by="alphabet", batch_size=8, root=tmp_path)
    writers = zoo.clients("omniglot", by="writer", batch_size=8, root=tmp_path)
    own = {
        name: torch.cat([y for _, y in data.eval_batches("train")]).tolist()
        for name, data in (alphabets | writers).items()
    }
    assert own["Greek"] == [0] * 16 + [1] * 16
    assert own["Korean"] == [2] * 16
    assert own["Greek/03"] == [0, 1]
    assert len(writers) == 32
    for data in (alphabets["Korean"], writers["Greek/03"]):
        assert torch.equal(torch.cat([y for _, y in data.eval_batches("test")]), labels)
        assert data.classes == 3


@pytest.mark.slow
def test_the_real_omniglot(real_data):
    data = zoo.dataset("omniglot", batch_size=100, root=real_data)
    train = torch.cat([x for x, _ in data.eval_batches("train")])
    assert (data.classes, len(train)) == (242, 242 * 16)
    assert train.mean().abs() < 0.01
    assert train.std().item() == pytest.approx(1, abs=0.01)
    assert len(zoo.clients("omniglot", by="alphabet", batch_size=8, root=real_data)) == 8
    assert len(zoo.clients("omniglot", by="writer", batch_size=8, root=real_data)) == 128


def packed(magic, array, kind):
    header = bytes([0, 0, magic, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(kind).tobytes())


def test_mnist_by_writer(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    images, labels = np.arange(6)[:, None, None] * np.ones((6, 28, 28)), np.arange(6)
    for stem in ("train", "t10k"):
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(packed(8, images, ">u1"))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(packed(8, labels, ">u1"))
    table = np.array([[k, 0, writer, k] for k, writer in enumerate([7, 9, 7, 9, 9, 7])])
    path = folder / "qmnist-train-labels-idx2-int.gz"
    path.write_bytes(packed(12, table, ">i4"))
    found = zoo.clients("mnist", by="writer", batch_size=2, root=tmp_path)
    own = {
        name: torch.cat([y for _, y in data.eval_batches("train")]).tolist()
        for name, data in found.items()
    }
    assert own == {"7": [0, 2, 5], "9": [1, 3, 4]}
    path.write_bytes(packed(8, labels, ">u1"))
    with pytest.raises(DataError, match="not an IDX file of 2-dimensional integers"):
        zoo.clients("mnist", by="writer", batch_size=2, root=tmp_path)


@pytest.mark.slow
def test_the_writers_of_mnist(real_data):
    found = zoo.clients("mnist", by="writer", batch_size=500, root=real_data)
    sizes = [sum(len(y) for _, y in data.eval_batches("train")) for data in found.values()]
    assert (len(sizes), sum(sizes), min(sizes), max(sizes)) == (539, 60_000, 19, 131)


@pytest.mark.parametrize("name", [*zoo.LOCAL])
def test_data_that_are_not_there_say_where_to_put_them(name, tmp_path, monkeypatch):
    monkeypatch.delenv("PRUNUS_DATA", raising=False)
    folder = zoo.LOCAL[name].folder
    with pytest.raises(DataError, match=f"not downloaded; put its files into a folder '{folder}'"):
        zoo.dataset(name, batch_size=2, root=tmp_path)
    (tmp_path / folder).mkdir()
    with pytest.raises(DataError, match=rf"cannot read .*{folder}.*restore the file"):
        zoo.dataset(name, batch_size=2, root=tmp_path)


def test_what_does_not_fit_is_refused(tmp_path):
    zoo.check_dataset("ptb")
    with pytest.raises(ValueError, match="splits of its own, got val_size 5"):
        zoo.dataset("ptb", batch_size=2, val_size=5, root=tmp_path)
    with pytest.raises(ValueError, match="image_size is for"):
        zoo.dataset("camvid", batch_size=2, image_size=5, root=tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'camvid'"):
        zoo.dataset("camvids", batch_size=2)
    with pytest.raises(ValueError, match="'mnist' cannot be cut by 'role'; known are 'mnist' by"):
        zoo.clients("mnist", by="role", batch_size=2)
