import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from prunus import zoo
from prunus.errors import DataError


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No local data, an empty cache, and a network that refuses every connection."""

    def refuse(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.delenv("PRUNUS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return tmp_path / "cache" / "prunus"


def idx(array):
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx_folder(folder, count=20, suffix=".gz"):
    """Image i of each half is filled with i, its label is i % 10."""
    folder.mkdir(parents=True)
    for stem in ("train", "t10k"):
        images = np.repeat(np.arange(count), 28 * 28).reshape(count, 28, 28)
        for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            raw = idx(array)
            data = gzip.compress(raw) if suffix else raw
            (folder / f"{stem}-{kind}-ubyte{suffix}").write_bytes(data)


def split(data, name):
    images, labels = zip(*data.eval_batches(name), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_embedded_data_needs_no_files(offline):
    data = zoo.dataset("fashion-mnist-embedded", batch_size=500)
    assert (data.classes, tuple(data.shape)) == (10, (1, 28, 28))
    assert data.steps_per_epoch == 14
    for name, count in (("train", 7000), ("val", 1000), ("test", 2000)):
        images, labels = split(data, name)
        assert images.shape == (count, 1, 28, 28)
        if name == "test":
            assert labels.bincount().tolist() == [200] * 10
        if name == "train":
            assert images.mean().abs().item() < 0.01
            assert images.std().item() == pytest.approx(1.0, abs=0.01)


def test_embedded_images_are_the_published_test_images(real_data):
    published = zoo.DATASETS["fashion-mnist"].files.read(real_data / "fashion-mnist", "test")
    halves = [zoo.readers.read_embedded(half) for half in ("train", "test")]
    embedded = torch.cat([h[0] for h in halves]), torch.cat([h[1] for h in halves])

    def rows(images, labels):
        return sorted(
            bytes([label]) + image.numpy().tobytes()
            for image, label in zip(images, labels.tolist(), strict=True)
        )

    assert rows(*embedded) == rows(*published)


def test_embedded_file_is_small_and_has_its_licence():
    folder = zoo.readers.files("prunus.zoo")
    assert len((folder / "fashion_mnist_10k.png").read_bytes()) < 4_000_000
    assert "Permission is hereby granted" in (folder / "fashion_mnist_10k.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "first_ten"),
    [("mnist", [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]), ("fashion-mnist", [9, 2, 1, 1, 6, 1, 4, 6, 5, 7])],
)
def test_real_idx_data(real_data, name, first_ten):
    data = zoo.dataset(name, batch_size=1000, root=real_data)
    images, labels = next(data.eval_batches("test"))
    assert images.shape == (1000, 1, 28, 28)
    assert labels[:10].tolist() == first_ten
    assert data.steps_per_epoch == 55
    train = torch.cat([x for x, _ in data.eval_batches("train")])
    assert train.mean().abs().item() < 0.01
    assert train.std().item() == pytest.approx(1.0, abs=0.01)


def test_root_goes_before_the_environment(offline, tmp_path, monkeypatch):
    write_idx_folder(tmp_path / "a" / "mnist", count=20)
    write_idx_folder(tmp_path / "b" / "mnist", count=30)
    monkeypatch.setenv("PRUNUS_DATA", str(tmp_path / "b"))
    sizes = [
        len(split(zoo.dataset("mnist", batch_size=10, val_size=5, root=root), "test")[0])
        for root in (None, tmp_path / "a")
    ]
    assert sizes == [30, 20]


def test_torchvision_layout(offline, tmp_path):
    write_idx_folder(tmp_path / "FashionMNIST" / "raw", suffix="")
    data = zoo.dataset("fashion-mnist", batch_size=10, val_size=5, root=tmp_path)
    images, labels = split(data, "test")
    assert images.shape == (20, 1, 28, 28)
    assert labels.tolist() == [i % 10 for i in range(20)]


def test_val_size_and_augmentation(offline, tmp_path):
    write_idx_folder(tmp_path / "mnist", count=20)
    data = zoo.dataset("mnist", batch_size=4, val_size=8, root=tmp_path)
    assert len(split(data, "val")[0]) == 8
    assert len(split(data, "train")[0]) == 12
    x, y = next(iter(data.train_batches(0)))
    index = ((x * 0.3081 + 0.1307) * 255).round()
    assert torch.equal(index[:, 0, 0, 0].long() % 10, y), "images and labels were parted"
    assert (index.flatten(1).std(1) < 1e-3).all(), "MNIST must not be augmented"


def test_cifar10_sheets_are_cut_in_order(tmp_path):
    # Every pixel of image i is (i // 100, i % 100, 0).
    folder = tmp_path / "cifar10"
    folder.mkdir()
    rows, columns = np.meshgrid(np.arange(100), np.arange(100), indexing="ij")
    small = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)
    sheet = Image.fromarray(small.repeat(32, axis=0).repeat(32, axis=1))
    sheet.save(folder / "test_batch.webp", lossless=True, method=0)
    np.save(folder / "test_labels.npy", np.arange(10_000) % 10)

    images, labels = zoo.DATASETS["cifar10"].files.read(folder, "test")
    assert images.shape == (10_000, 3, 32, 32)
    i = torch.arange(10_000)
    expected = torch.stack([i // 100, i % 100, torch.zeros_like(i)], dim=1)
    assert torch.equal(images.amin((2, 3)).long(), expected)
    assert torch.equal(images.amax((2, 3)).long(), expected)
    assert torch.equal(labels, i % 10)

    (folder / "test_labels.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot read .*test_labels.npy"):
        zoo.DATASETS["cifar10"].files.read(folder, "test")
    (folder / "test_batch.webp").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"cannot read .*test_batch.webp"):
        zoo.DATASETS["cifar10"].files.read(folder, "test")


@pytest.mark.parametrize("fault", ["missing", "truncated", "not gzip", "short", "other magic"])
def test_damaged_idx_files_are_named(offline, tmp_path, fault):
    write_idx_folder(tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    raw = path.read_bytes()
    path.write_bytes(
        {
            "missing": b"",
            "truncated": raw[: len(raw) // 2],
            "not gzip": b"<html>404</html>",
            "short": gzip.compress(gzip.decompress(raw)[:-1]),
            "other magic": gzip.compress(b"\0\0\x0d\3" + gzip.decompress(raw)[4:]),
        }[fault]
    )
    if fault == "missing":
        path.unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz"):
        zoo.dataset("mnist", batch_size=10, val_size=5, root=tmp_path)


def test_failed_download_says_what_to_do(offline):
    with pytest.raises(DataError) as caught:
        zoo.dataset("cifar10", batch_size=10)
    message = str(caught.value)
    assert "could not be downloaded" in message
    assert str(offline) in message
    assert "PRUNUS_DATA" in message
    assert "network is unreachable" in message


def test_download_goes_to_the_cache(offline, monkeypatch):
    def download(url, download_root, filename, md5):
        array = np.zeros((20, 28, 28)) if "idx3" in filename else np.arange(20) % 10
        assert filename.endswith(".gz")
        (Path(download_root) / filename.removesuffix(".gz")).write_bytes(idx(array))

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", download)
    data = zoo.dataset("mnist", batch_size=10, val_size=5)
    assert len(split(data, "test")[0]) == 20
    assert (offline / "MNIST").is_dir()

    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(offline.parent))
    monkeypatch.delenv("PRUNUS_DATA", raising=False)
    assert len(split(zoo.dataset("mnist", batch_size=10, val_size=5), "test")[0]) == 20


class RunsACommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_planted_cifar10_pickles_are_not_opened(offline, tmp_path):
    folder, proof = tmp_path / "cifar-10-batches-py", tmp_path / "proof"
    folder.mkdir()
    for name in ("test_batch", "batches.meta", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(RunsACommand(f"touch {proof}")))
    with pytest.raises(DataError, match="damaged or incomplete"):
        zoo.dataset("cifar10", batch_size=10, root=tmp_path)
    assert not proof.exists()


def test_missing_folders_and_unknown_names(offline, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="root must be a folder"):
        zoo.dataset("mnist", batch_size=10, root=tmp_path / "none")
    monkeypatch.setenv("PRUNUS_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match="PRUNUS_DATA must be a folder"):
        zoo.dataset("mnist", batch_size=10)
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        zoo.dataset("cifar-10", batch_size=10)
    with pytest.raises(ValueError, match="Did you mean 'mnist'"):
        zoo.check_dataset("minst")


def test_user_folder(tmp_path):
    for half in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "pets" / half / label
            folder.mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (16, 16), (i, 100 * (label == "dog"), 0)).save(folder / f"{i}.png")
    data = zoo.dataset("folder:pets", batch_size=2, val_size=2, root=tmp_path, image_size=8)
    assert (data.classes, data.shape) == (2, (3, 8, 8))
    assert (data.steps_per_epoch, len(split(data, "val")[0])) == (3, 2)
    images, labels = split(zoo.dataset(f"folder:{tmp_path / 'pets'}", batch_size=4), "test")
    assert images.shape == (8, 3, 224, 224)
    assert labels.tolist() == [0] * 4 + [1] * 4
    with pytest.raises(DataError, match="none"):
        zoo.dataset(f"folder:{tmp_path / 'none'}", batch_size=2)
    with pytest.raises(ValueError, match="image_size"):
        zoo.dataset("mnist", batch_size=2, image_size=32)
