"""A damaged or hostile compact sparse file is refused with one error, and costs no memory."""

import itertools
import json
import random
import re
import tracemalloc
import zlib

import pytest
import torch
import zstandard

from damage import damaged, renumbered
from deploy.reference_reader import START, content, index_of
from prunus.deploy import pack, unpack
from prunus.errors import CheckpointError


def block(data, **told):
    frame = zstandard.ZstdCompressor(write_content_size=told.get("told", True)).compress(data)
    return frame + zlib.crc32(frame).to_bytes(4, "little")


def forge(path, index, blocks=b""):
    """Write a file whose checksums are right, whatever it says."""
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    sealed = block(text)
    path.write_bytes(START + blocks + sealed + len(sealed).to_bytes(4, "little") + START)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file with every coding: gaps with and without low bits and escapes, bits, none, int8."""
    generator = torch.Generator().manual_seed(0)

    def sparse(count, density):
        kept = torch.rand(count, generator=generator) < density
        return torch.where(kept, torch.randn(count, generator=generator), 0)

    weight = sparse(48, 0.3).reshape(4, 12)
    tied = sparse(20, 1)
    state = {
        "gaps": sparse(120, 0.1),
        "far": sparse(3000, 0.002),
        "int8": weight,
        "none": tied,
        "bool": weight != 0,
        "tied": tied,
        "zeros": torch.zeros(5),
    }
    path = tmp_path_factory.mktemp("small") / "x.prunus"
    pack(state, path, values="int8", metadata={"plan": "{}"})
    return path


def test_the_small_file_has_every_coding(small):
    index = index_of(small.read_bytes())
    runs = [run for tensor in index["tensors"] for run in tensor["runs"]]
    assert {run["mask"] for run in runs} == {"gaps", "bits", "none"}
    assert any(run.get("shift") for run in runs)
    assert index["tied"] and any("scales" in tensor for tensor in index["tensors"])


def test_a_file_cut_anywhere_is_refused(small, tmp_path):
    data, path = small.read_bytes(), tmp_path / "x.prunus"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            unpack(path)


@pytest.mark.parametrize("bits", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_found(small, tmp_path, bits):
    data, path = bytearray(small.read_bytes()), tmp_path / "x.prunus"
    for place, other in itertools.product(range(len(data)), range(bits)):
        bit = 1 << (place + other) % 8
        data[place] ^= bit
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            unpack(path)
        data[place] ^= bit


def tensor(**changed):
    one = {"name": "w", "dtype": "F32", "shape": [4], "runs": []}
    one["runs"] = [{"mask": "none", "nonzero": 4, "size": len(block(bytes(16)))}]
    return {"tensors": [one | changed]}


def test_what_is_forged_below_is_read_when_it_is_right(tmp_path):
    got = unpack(forge(tmp_path / "x.prunus", tensor(), block(bytes(16))))
    assert torch.equal(got["w"], torch.zeros(4))


HUGE = 2**40


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (b"", "its index is wrong"),
        (b"[" * 10_000, "its index is wrong"),
        (b'{"tensors": ' + b"9" * 5000 + b"}", "its index is wrong"),
        (b"\xff\xfe", "its index is wrong"),
        ({"code": "import os"}, "its index is wrong at 'code'"),
        (tensor(shape=[-1]), r"its index is wrong at 'tensors.0.shape.0'"),
        (tensor(shape=[2.5]), r"its index is wrong at 'tensors.0.shape.0'"),
        (tensor(shape=["4"]), r"its index is wrong at 'tensors.0.shape.0'"),
        (tensor(shape=[2**64]), r"its index is wrong at 'tensors.0.shape.0'"),
        (tensor(shape=[True] * 4), r"its index is wrong at 'tensors.0.shape.0'"),
        (tensor(shape=[HUGE], runs=[]), r"'w' must have 1,?048,?576 runs of words for its shape"),
        (tensor(shape=[HUGE, 0], runs=[]), r"must take at most limit=17,179,869,184 bytes"),
        (tensor(shape=[1] * 65), "at most 64 dimensions, got 65"),
        (tensor(dtype="F128"), "of a type that safetensors has, got 'F128'"),
        (tensor(dtype="I32", stored="I8"), "must not be I32 stored as 'I8'"),
        (tensor(stored="I8"), "must have scales if it is stored as I8"),
        (tensor(scales=40), "must have scales if it is stored as I8, and none otherwise"),
        (tensor(runs=[]), "must have 1 runs of words for its shape, got 0"),
        (tensor(runs=[{"mask": "none", "nonzero": 4, "size": 0}]), "must have a block for each"),
        (tensor(runs=[{"mask": "none", "nonzero": 0, "size": 9}]), "must have a block for each"),
        (tensor(runs=[{"mask": "exec", "nonzero": 4, "size": 9}]), "its index is wrong"),
        (tensor(runs=[{"mask": "none", "nonzero": 4, "size": HUGE}]), "blocks no larger than what"),
        (tensor(runs=[{"mask": "none", "nonzero": 4, "size": 99}]), "its blocks must have"),
        (tensor(runs=[{"mask": "none", "nonzero": 2**30, "size": 99}]), "its index is wrong"),
        ({"tensors": tensor()["tensors"] * 2}, "its names must differ"),
        (tensor() | {"tied": {"w": "w"}}, "its names must differ"),
        (tensor() | {"tied": {"v": "u"}}, "tied names must be those of tensors, got 'u'"),
        (tensor() | {"tied": {"v": "u", "u": "v"}}, "tied names must be those of tensors"),
        (tensor() | {"tied": {"../v": "w"}}, "no path that leads out of a folder, got '../v'"),
        (tensor(name="../../etc/passwd"), "no path that leads out of a folder"),
        (tensor(name="/etc/passwd"), "no path that leads out of a folder"),
        (tensor(name="a\x00b"), "must be printable"),
        (tensor(name="\x1b]0;owned\x07"), "must be printable"),
        (tensor(name=""), "must be printable"),
        ({"metadata": {"a": 1}}, r"its index is wrong at 'metadata.a'"),
    ],
)
def test_an_index_that_is_forged_is_refused(tmp_path, index, said):
    path = forge(tmp_path / "x.prunus", index, block(bytes(16)))
    with pytest.raises(CheckpointError, match=said):
        unpack(path)


BITS = {"mask": "bits", "nonzero": 2}
GAPS = {"mask": "gaps", "nonzero": 2}


@pytest.mark.parametrize(
    ("run", "data", "said"),
    [
        ({"mask": "none", "nonzero": 4}, bytes(15), "must hold 16 to 16 bytes, got 15"),
        ({"mask": "none", "nonzero": 4}, bytes(10**6), "must hold 16 to 16 bytes, got 1000000"),
        ({"mask": "none", "nonzero": 5}, bytes(16), "a run of 4 words must not hold more, got 5"),
        (BITS, b"\xf0" + bytes(8), "2 bits of a mask must be set, got 4"),
        (BITS, b"\xc1" + bytes(8), "a mask of 4 bits must end in zeros"),
        (GAPS, b"\x00" + bytes(8), "a block must hold 10 to 12 bytes, got 9"),
        (GAPS, bytes(8) + b"\x00" * 10**6, "a block must hold 10 to 12 bytes"),
        (GAPS, b"\xfe\xfe" + bytes(8), "gaps must end within 4 words, got 510"),
        (GAPS, b"\xff\x00" + bytes(8), "2 gaps must be told, got 1"),
        (GAPS | {"escape": 2}, b"\x03\x00" + bytes(8), "symbol of a gap must be at most 2"),
        (GAPS | {"shift": 4}, b"\x00\x00\x10\x00" + bytes(8), "must be at most"),
        (
            GAPS | {"shift": 8},
            b"\xfe\xfe\xfe\xfe" + bytes(8),
            "must end within 4 words, got 130558",
        ),
        (GAPS | {"shift": 9}, bytes(12), "its index is wrong"),
        (GAPS | {"escape": 0}, bytes(10), "its index is wrong"),
    ],
)
def test_a_block_that_is_forged_is_refused(tmp_path, run, data, said):
    sealed = block(data)
    path = forge(tmp_path / "x.prunus", tensor(runs=[run | {"size": len(sealed)}]), sealed)
    with pytest.raises(CheckpointError, match=said):
        unpack(path)


@pytest.mark.parametrize(
    "frame",
    [
        b"not zstd at all",
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(16)),
        zstandard.ZstdCompressor().compress(bytes(16))[:-1],
        zstandard.ZstdCompressor().compress(bytes(16)) + b"more",
        zstandard.ZstdCompressor().compress(bytes(16)) * 2,
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip",
    ],
)
def test_a_block_that_is_no_frame_is_refused(tmp_path, frame):
    sealed = frame + zlib.crc32(frame).to_bytes(4, "little")
    runs = [{"mask": "none", "nonzero": 4, "size": len(sealed)}]
    with pytest.raises(CheckpointError, match="a block must"):
        unpack(forge(tmp_path / "x.prunus", tensor(runs=runs), sealed))


def test_a_bool_is_zero_or_one(tmp_path):
    sealed = block(b"\x00\x01\x02\x01")
    runs = [{"mask": "none", "nonzero": 3, "size": len(sealed)}]
    with pytest.raises(CheckpointError, match="a bool must be 0 or 1"):
        unpack(forge(tmp_path / "x.prunus", tensor(dtype="BOOL", runs=runs), sealed))


@pytest.mark.parametrize("rows", [0, 2, 5])
def test_scales_are_as_many_as_rows_or_one(tmp_path, rows):
    scales, codes = block(bytes(2 * rows)), block(bytes(12))
    runs = [{"mask": "none", "nonzero": 12, "size": len(codes)}]
    index = tensor(stored="I8", shape=[4, 3], scales=len(scales), runs=runs)
    with pytest.raises(CheckpointError, match=r"1 or 4 scales|2 to 8 bytes"):
        unpack(forge(tmp_path / "x.prunus", index, scales + codes))


def test_a_later_version_says_so(small, tmp_path):
    data = small.read_bytes()
    (tmp_path / "x.prunus").write_bytes(data[:7] + b"\x02" + data[8:-1] + b"\x02")
    with pytest.raises(CheckpointError, match="must be of version 1, got 2; a newer Prunus may"):
        unpack(tmp_path / "x.prunus")


def test_a_pickle_is_refused(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "x.prunus")
    with pytest.raises(CheckpointError, match="must begin with"):
        unpack(tmp_path / "x.prunus")


def bombs():
    run = {"mask": "gaps", "nonzero": 0, "size": 0}
    yield "tensors of zeros", {"tensors": [tensor(shape=[2**35], runs=[run] * 2**15)["tensors"][0]]}
    many = [{"name": f"w{i}", "dtype": "F64", "shape": [2**20], "runs": [run]} for i in range(4096)]
    yield "many tensors", {"tensors": many}
    yield "a long index", b'{"metadata": {"a": "' + b"a" * 2**27 + b'"}}'


@pytest.mark.parametrize(("name", "index"), [*bombs()], ids=["zeros", "many", "index"])
def test_a_bomb_is_refused_before_it_takes_memory(tmp_path, name, index):
    path = forge(tmp_path / "x.prunus", index)
    assert path.stat().st_size < 2**19, name
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"must take at most limit|must hold 0 to 16777216"):
        unpack(path, limit=2**33)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def hollow(path, index, size):
    """Write a file whose blocks are a hole of so many bytes, which take no room on the disk."""
    sealed = block(json.dumps(index).encode())
    with path.open("wb") as file:
        file.write(START)
        file.seek(size, 1)
        file.write(sealed + len(sealed).to_bytes(4, "little") + START)
    return path


def swollen():
    run = {"mask": "none", "nonzero": 4, "size": 2**28}
    yield "a run", tensor(runs=[run])
    codes = {"mask": "none", "nonzero": 4, "size": 20}
    yield "scales", tensor(stored="I8", scales=2**28 - 20, runs=[codes])


@pytest.mark.parametrize(("name", "index"), [*swollen()], ids=["run", "scales"])
def test_a_block_larger_than_its_content_is_refused_before_it_is_read(tmp_path, name, index):
    path = hollow(tmp_path / "x.prunus", index, 2**28)
    tracemalloc.start()
    with pytest.raises(
        CheckpointError, match=r"'w' must have blocks no larger than what they hold"
    ):
        unpack(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26, name


def test_an_index_larger_than_its_content_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.prunus"
    with path.open("wb") as file:
        file.write(START)
        file.seek(2**28, 1)
        file.write((2**28).to_bytes(4, "little") + START)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"its index must take at most 16,\d+,\d+ bytes"):
        unpack(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def test_the_limit_is_the_readers_to_set(tmp_path):
    pack({"a": torch.zeros(1000), "b": torch.zeros(1000)}, tmp_path / "x.prunus")
    assert unpack(tmp_path / "x.prunus", limit=8000)["a"].shape == (1000,)
    with pytest.raises(CheckpointError, match=r"at most limit=7,999 bytes, got more at 'b'"):
        unpack(tmp_path / "x.prunus", limit=7999)


def mutated(data, rng):
    """Return the data damaged in one to three places, and then made right again in its checksums.

    Half of the time the file is damaged as it lies, otherwise what its checksums are of.
    """
    if rng.random() < 0.5:
        return damaged(data, rng)
    index_size = int.from_bytes(data[-12:-8], "little")
    text, blocks = content(data[-12 - index_size : -12]), data[8 : -12 - index_size]
    what = rng.choice(["text", "numbers", "content", "frame"])
    if what == "text":
        text = damaged(text, rng)
    elif what == "numbers":
        text = renumbered(text, rng)
    else:
        index, pieces, at = json.loads(text), [], 0
        owners = [
            (owner, key)
            for one in index["tensors"]
            for owner, key in [(one, "scales"), *((run, "size") for run in one["runs"])]
            if owner.get(key)
        ]
        chosen = rng.randrange(len(owners))
        for number, (owner, key) in enumerate(owners):
            piece = blocks[at : at + owner[key]]
            at += owner[key]
            if number == chosen:
                frame = piece[:-4]
                if what == "content":
                    piece = block(damaged(content(piece), rng))
                else:
                    frame = damaged(frame, rng)
                    piece = frame + zlib.crc32(frame).to_bytes(4, "little")
                owner[key] = len(piece)
            pieces.append(piece)
        text, blocks = json.dumps(index).encode(), b"".join(pieces)
    sealed = block(text)
    return START + blocks + sealed + len(sealed).to_bytes(4, "little") + START


@pytest.mark.parametrize(
    ("first", "count"), [(0, 400), pytest.param(400, 10_000, marks=pytest.mark.slow)]
)
def test_mutations_are_refused_or_read_but_nothing_else(small, tmp_path, first, count):
    data, path, refused = small.read_bytes(), tmp_path / "x.prunus", 0
    for seed in range(first, first + count):
        rng = random.Random(seed)
        path.write_bytes(mutated(data, rng))
        try:
            unpack(path, limit=2**26)
        except CheckpointError as error:
            refused += 1
            assert str(error).startswith(str(path)), seed
    assert count / 2 < refused < count
