"""Files are whole or absent, whatever happens while they are written."""

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from prunus import files
from prunus.errors import CheckpointError

TENSORS = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([True, False])}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_tensors_come_back_as_they_were(tmp_path):
    base = torch.randn(4, 4)
    shared = TENSORS | {"a": base, "b": base.t(), "empty": torch.empty(0, 3)}
    files.write_tensors(tmp_path / "new" / "x.safetensors", shared, {"step": "3"})

    tensors, metadata = files.read_tensors(tmp_path / "new" / "x.safetensors")

    assert metadata == {"step": "3"}
    assert tensors.keys() == shared.keys()
    assert all(torch.equal(tensors[name], value) for name, value in shared.items())


def test_tensors_written_one_at_a_time_are_those_written_together(tmp_path):
    tensors = TENSORS | {
        "half": torch.ones(3).half(),
        "scalar": torch.tensor(1),
        "no": torch.empty(0),
    }
    files.write_tensors(tmp_path / "together", tensors, {"step": "3"})
    types = {"w": "F32", "n": "BOOL", "half": "F16", "scalar": "I64", "no": "F32"}
    layout = {name: (types[name], tuple(t.shape), t.itemsize) for name, t in tensors.items()}
    files.write_each(tmp_path / "one", layout, tensors.__getitem__, {"step": "3"})
    got, metadata = files.read_tensors(tmp_path / "one")
    expected = files.read_tensors(tmp_path / "together")
    assert metadata == expected[1]
    assert got.keys() == expected[0].keys()
    assert all(torch.equal(got[name], value) for name, value in expected[0].items())


def test_json_comes_back_and_nan_is_refused(tmp_path):
    files.write_json(tmp_path / "a.json", {"ä": [1, 2.5, None]})
    assert files.read_json(tmp_path / "a.json") == {"ä": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert files.read_json(tmp_path / "a.json") == {"ä": [1, 2.5, None]}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")
    with pytest.raises(error), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_the_data_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    path, order = tmp_path / "x.txt", []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (order.append("replace"), replace(self, to))[1]
    )
    files.write_text(path, "new")
    assert order == ["fsync", "replace"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_a_file_is_the_umasks_affair(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "x.txt", "x")
        files.write_tensors(tmp_path / "x.safetensors", TENSORS)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


def test_a_failing_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    files.write_tensors(path, TENSORS)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_tensors(path, {"w": torch.zeros(2)})
    assert files.read_tensors(path)[0].keys() == TENSORS.keys()
    assert names(tmp_path) == ["x.safetensors"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tiny_disk):
    path = tiny_disk / "x.safetensors"
    files.write_tensors(path, TENSORS)
    with pytest.raises(OSError, match=r"No space left|cannot write"):
        files.write_tensors(path, {"w": torch.zeros(1_000_000)})
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "x" * 1_000_000)
    assert names(tiny_disk) == ["x.safetensors"]
    assert torch.equal(files.read_tensors(path)[0]["w"], TENSORS["w"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_directory_is_an_error_at_once(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        files.write_text(tmp_path / "x.txt", "text")


@pytest.mark.parametrize(
    ("begin", "way"), [(b"\x89PRUNUS\x01", "prunus unpack"), (b"PK\x03\x04", "prunus.save")]
)
def test_a_file_of_another_kind_is_refused_with_the_way_out(tmp_path, begin, way):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(begin + bytes(64))
    with pytest.raises(CheckpointError, match=way):
        files.read_tensors(path)


@pytest.mark.parametrize("length", [0, 4, 20, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = tmp_path / "x.safetensors"
    files.write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="may be truncated"):
        files.read_tensors(path)


def test_a_pickle_is_refused_and_its_code_never_runs(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        files.read_tensors(path)
    assert not (tmp_path / "harm").exists()


def test_damaged_json_is_refused(tmp_path):
    for content in (b'{"a": 1', b"\xff\xfe\x00"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(CheckpointError, match="not valid JSON"):
            files.read_json(tmp_path / "x.json")


def test_a_missing_file_says_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*nowhere"):
        files.read_tensors(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_named_before_anything_is(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    files.check_folder(tmp_path / "new" / "newer")
    with pytest.raises(NotADirectoryError, match=r"below must be a folder, but .*file is a file\."):
        files.check_folder(tmp_path / "file" / "below")
    with pytest.raises(NotADirectoryError, match=r"file is a file\."):
        files.write_text(tmp_path / "file" / "a.txt", "a")
    with pytest.raises(IsADirectoryError, match=r"folder is a folder; name a file, such as .*NAME"):
        files.write_text(tmp_path / "folder", "a")
    assert names(tmp_path) == ["file", "folder"]
