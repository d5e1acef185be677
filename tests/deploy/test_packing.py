"""Tensors come back from a compact sparse file as they were, and the file is small."""

import errno
import json
import math
import os
import tracemalloc
import zlib
from collections.abc import Mapping
from pathlib import Path

import hypothesis.strategies as st
import pytest
import safetensors.torch
import torch
import zstandard
from hypothesis import given, settings
from torch import nn

from deploy.reference_reader import index_of, read
from prunus.deploy import PackedFile, pack, unpack
from prunus.deploy.container import DTYPES
from prunus.deploy.runs import LENGTH


def bits(tensor):
    """A tensor's type, shape and bytes, in which -0.0 and each NaN are themselves."""
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return tensor.dtype, tuple(tensor.shape), plain.view(torch.uint8).numpy().tobytes()


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    assert {name: bits(t) for name, t in got.items()} == {n: bits(t) for n, t in expected.items()}


def sparse(*shape, density=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(shape, generator=generator) < density
    return torch.where(kept, torch.randn(shape, generator=generator), 0)


def test_the_bytes_of_a_small_file(tmp_path):
    tensor = torch.tensor([0, 0, 1.5, 0, 0, 0, 0, 0, 0, 0, -0.0, 0], dtype=torch.float16)

    pack({"w": tensor}, tmp_path / "x.prunus")

    data = (tmp_path / "x.prunus").read_bytes()
    start = b"\x89PRUNUS\x01"
    assert data[:8] == data[-8:] == start
    index_size = int.from_bytes(data[-12:-8], "little")
    index, block = data[-12 - index_size : -12], data[8 : -12 - index_size]
    for one in (index, block):
        assert zlib.crc32(one[:-4]) == int.from_bytes(one[-4:], "little")
    # Two and seven zeros before a stored word; 1.5 is 3E00 and -0.0 is 8000, low bytes first.
    content = zstandard.ZstdDecompressor().decompress(block[:-4])
    assert content == bytes([2, 7]) + bytes([0x00, 0x00]) + bytes([0x3E, 0x80])
    assert json.loads(zstandard.ZstdDecompressor().decompress(index[:-4])) == {
        "tensors": [
            {
                "name": "w",
                "dtype": "F16",
                "shape": [12],
                # A gap of 31 zeros has 8 bits of information: (10 / 12) ** 31 is below 2 ** -8.
                "runs": [{"mask": "gaps", "nonzero": 2, "size": len(block), "escape": 31}],
            }
        ]
    }


def test_the_types_are_those_of_safetensors():
    # its table of names lacks one, which it writes and reads all the same
    known = safetensors.torch._TYPES | {"F8_E8M0": torch.float8_e8m0fnu}
    assert known == DTYPES
    held = {"x": torch.ones(2).to(torch.float8_e8m0fnu)}
    assert b'"F8_E8M0"' in safetensors.torch.save(held)


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    shape = draw(st.lists(st.integers(0, 12), max_size=4))
    density = draw(st.sampled_from([0, 0.001, 0.02, 0.1, 0.3, 0.7, 0.99, 1]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    count = math.prod(shape)
    top = 2 if dtype == torch.bool else 256
    words = torch.randint(0, top, (count, dtype.itemsize), generator=generator, dtype=torch.uint8)
    words[torch.rand(count, generator=generator) >= density] = 0
    return words.reshape(-1).view(dtype).reshape(shape)


@given(st.lists(tensors(), max_size=4))
@settings(max_examples=100)
def test_every_bit_of_every_type_comes_back_to_us_and_to_a_reader_of_the_specification(
    tmp_path_factory, given_tensors
):
    path = tmp_path_factory.mktemp("packed") / "x.prunus"
    expected = {f"t{i}": tensor for i, tensor in enumerate(given_tensors)}
    pack(expected, path)
    assert_same(unpack(path), expected)
    for name, (dtype, shape, _, words, _) in read(path.read_bytes()).items():
        assert (DTYPES[dtype], shape, bytes(words)) == bits(expected[name])


@pytest.mark.parametrize("density", [1e-6, 1e-4, 0.004, 0.09, 0.2, 0.8, 1])
@pytest.mark.parametrize("length", [1, LENGTH - 1, LENGTH + 1])
def test_runs_of_every_length_and_density(tmp_path, density, length):
    expected = {"w": sparse(length, density=density), "n": sparse(length, density=density).byte()}
    pack(expected, tmp_path / "x.prunus")
    assert_same(unpack(tmp_path / "x.prunus"), expected)


@pytest.mark.parametrize("gap", [0, 14, 15, 254, 255, 256, 4095, 4096, 65536, LENGTH - 2])
def test_one_gap_of_any_length_among_short_ones(tmp_path, gap):
    for dense in (0, 100, 10_000):
        words = torch.cat([torch.ones(dense), torch.zeros(gap), torch.ones(2), torch.zeros(3)])
        pack({"w": words}, tmp_path / "x.prunus")
        assert torch.equal(unpack(tmp_path / "x.prunus")["w"], words)


def test_numbers_that_equal_zero_or_not_even_themselves(tmp_path):
    nan = torch.tensor([0x7FC00001, -1, 0x7F800001, 0, 0], dtype=torch.int32).view(torch.float32)
    expected = {"zeros": torch.tensor([0.0, -0.0] * 8), "nan": nan, "inf": -1 / torch.zeros(3)}
    pack(expected, tmp_path / "x.prunus")
    assert_same(unpack(tmp_path / "x.prunus"), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("density", [0.1, 0.3, 0.9])
def test_the_signs_of_zeros_need_not_be_kept(tmp_path, dtype, density):
    weight = sparse(100, 100, density=density).to(dtype)
    signed = torch.where(weight == 0, -weight, weight)
    pack({"w": weight}, tmp_path / "plain.prunus")
    pack({"w": signed}, tmp_path / "x.prunus", signed_zeros=False)
    assert (tmp_path / "x.prunus").read_bytes() == (tmp_path / "plain.prunus").read_bytes()
    assert_same(unpack(tmp_path / "x.prunus"), {"w": weight})


def test_views_parameters_scalars_and_empty_tensors(tmp_path):
    base = sparse(6, 8)
    expected = {
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "expanded": base[:1].expand(4, 8),
        "conjugate": torch.complex(base, base).conj(),
        "negative": torch.complex(base, base).conj().imag,
        "parameter": nn.Parameter(base),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "zero": torch.tensor(0),
        "empty": torch.empty(3, 0, 2),
        "bool": base != 0,
    }
    pack(expected, tmp_path / "x.prunus")
    assert_same(unpack(tmp_path / "x.prunus"), expected)
    assert all(type(tensor) is torch.Tensor for tensor in unpack(tmp_path / "x.prunus").values())


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    model[1].weight = model[0].weight
    state = model.state_dict() | {"view": model[0].weight.t(), "copy": model[0].weight.clone()}

    pack(state, tmp_path / "x.prunus")

    got = unpack(tmp_path / "x.prunus")
    assert_same(got, state)
    assert got["0.weight"] is got["1.weight"]
    assert index_of((tmp_path / "x.prunus").read_bytes())["tied"] == {"1.weight": "0.weight"}
    assert got["0.weight"].data_ptr() != got["view"].data_ptr() != got["copy"].data_ptr()


def test_metadata_and_single_tensors(tmp_path):
    expected = {"a": sparse(50), "b": sparse(3, 4)}
    pack(expected, tmp_path / "x.prunus", metadata={"plan": "{}"})
    with PackedFile(tmp_path / "x.prunus") as file:
        assert file.metadata == {"plan": "{}"}
        assert file.names == ("a", "b")
        assert file.entry("b").shape == (3, 4)
        assert_same({name: file.read(name) for name in ("b", "a", "b")}, expected)
        with pytest.raises(KeyError):
            file.read("c")


@pytest.mark.parametrize("values", ["float16", "bfloat16"])
def test_half_precision_is_that_of_torch_and_spares_what_is_no_weight(tmp_path, values):
    weight, bias = sparse(40, 30, density=0.3), torch.randn(40)
    state = {"w": weight, "d": weight.double(), "h": weight.half(), "b": bias, "i": weight.long()}

    pack(state, tmp_path / "x.prunus", values=values)

    rounded = weight.to(getattr(torch, values))
    expected = state | {"w": rounded.float(), "d": rounded.double()}
    assert_same(unpack(tmp_path / "x.prunus"), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", ["channel", "tensor"])
@pytest.mark.parametrize("density", [0.1, 0.4, 1])
def test_int8_moves_no_value_by_more_than_half_a_scale(tmp_path, dtype, scale, density):
    weight = sparse(30, 5, 40, density=density) * torch.logspace(-4, 2, 30)[:, None, None]
    weight[3] = 0
    weight = weight.to(dtype)

    pack({"w": weight}, tmp_path / "x.prunus", values="int8", scale=scale)

    got = unpack(tmp_path / "x.prunus")["w"]
    assert got.dtype == dtype
    largest = weight.abs().double().amax((1, 2) if scale == "channel" else None, keepdim=True)
    # A scale is up to 2**-7 above the 127th of the largest; the result is rounded to its type.
    half = largest / 127 * (1 + 2**-7) / 2
    assert ((got - weight).double().abs() <= half + largest * torch.finfo(dtype).eps).all()
    assert (got[weight == 0] == 0).all()
    (_, _, stored, codes, scales) = read((tmp_path / "x.prunus").read_bytes())["w"]
    plain = torch.frombuffer(codes, dtype=torch.int8).reshape(weight.shape).double()
    by_hand = plain * torch.tensor(scales, dtype=torch.float64).reshape(-1, 1, 1)
    assert stored == "I8" and len(scales) == (30 if scale == "channel" else 1)
    assert torch.allclose(got.double(), by_hand, rtol=float(torch.finfo(dtype).eps), atol=1e-7)


def test_int8_over_the_ends_of_runs(tmp_path):
    weight = sparse(3, LENGTH // 2 + 5)
    pack({"w": weight}, tmp_path / "x.prunus", values="int8")
    scale = weight.abs().amax(1, keepdim=True) / 127
    error = (unpack(tmp_path / "x.prunus")["w"] - weight).abs()
    assert (error <= 0.505 * scale).all() and error.max() > 0


@pytest.mark.parametrize(
    ("tensor", "values", "said"),
    [
        (torch.full((2, 2), 1e5), "float16", r"'w': F16 holds magnitudes up to 65504, got 100000"),
        (torch.full((2, 2), float("nan")), "int8", "'w': int8 holds finite values"),
        (torch.full((2, 2), -float("inf")), "int8", "'w': int8 holds finite values"),
        (torch.full((2, 2), 1e300, dtype=torch.float64), "int8", "or a larger one"),
        (torch.ones(2, 2), "int4", "values must be one of exact, float16, bfloat16, int8"),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path, tensor, values, said):
    with pytest.raises(ValueError, match=said):
        pack({"w": tensor}, tmp_path / "x.prunus", values=values)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (
            torch.ones(2, dtype=torch.complex128),
            "of a type that safetensors has, got torch.complex",
        ),
        (torch.ones(2, 2).to_sparse(), "a dense tensor with data, got layout torch.sparse_coo"),
        (torch.ones(2, device="meta"), "a dense tensor with data"),
        (None, "must be a tensor, got NoneType"),
    ],
)
def test_what_is_no_plain_tensor_is_refused(tmp_path, tensor, said):
    with pytest.raises(TypeError, match=rf"'w'.*{said}"):
        pack({"w": tensor}, tmp_path / "x.prunus")


@pytest.mark.parametrize(
    "name", ["", "../w", "a/../../w", "/etc/w", "C:\\w", "~/w", "\x1b[2J", "x" * 1025]
)
def test_names_that_could_harm_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="a tensor's name must be printable"):
        pack({name: torch.ones(1)}, tmp_path / "x.prunus")


def test_names_are_any_text_that_prints_but_only_once(tmp_path):
    expected = {
        "encoder/kernel:0": torch.ones(1),
        "größe..x": torch.zeros(2),
        "層.0": torch.ones(3),
    }
    pack(expected, tmp_path / "x.prunus")
    assert_same(unpack(tmp_path / "x.prunus"), expected)
    with pytest.raises(ValueError, match="'a' twice"):
        pack([("a", torch.ones(1)), ("a", torch.ones(1))], tmp_path / "x.prunus")


def entropy(symbols):
    """Bits of all symbols, coded by their frequency alone."""
    counts = symbols.flatten().unique(return_counts=True)[1].double()
    return -(counts * (counts / counts.sum()).log2()).sum().item()


def magnitude_pruned(*shape, density):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    threshold = weight.abs().flatten().kthvalue(int((1 - density) * weight.numel())).values
    return torch.where(weight.abs() > threshold, weight, 0)


@pytest.mark.parametrize("density", [0.05, 0.1])
def test_a_mask_is_within_two_per_cent_of_its_entropy(tmp_path, density):
    mask = magnitude_pruned(256, 256, 3, 3, density=density) != 0
    size = pack({"w": mask}, tmp_path / "x.prunus")[-1]
    assert size.stored < 1.02 * entropy(mask) / 8


@pytest.mark.parametrize("density", [0.05, 0.1])
@pytest.mark.parametrize(("values", "most"), [("exact", 0.82), ("float16", 0.8)])
def test_exponents_that_are_alike_make_a_file_smaller_than_its_bound(
    tmp_path, density, values, most
):
    weight = magnitude_pruned(256, 256, 3, 3, density=density)
    size = pack({"w": weight}, tmp_path / "x.prunus", values=values)[-1]
    assert size.stored == (tmp_path / "x.prunus").stat().st_size < most * size.bound
    raw = weight.count_nonzero() * (4 if values == "exact" else 2)
    assert size.bound == pytest.approx(entropy(weight != 0) / 8 + raw)


@pytest.mark.parametrize("density", [0.05, 0.1])
@pytest.mark.parametrize("scale", ["tensor", "channel"])
def test_int8_is_within_three_per_cent_of_the_entropy_of_mask_and_codes(tmp_path, density, scale):
    weight = magnitude_pruned(256, 256, 3, 3, density=density)
    size = pack({"w": weight}, tmp_path / "x.prunus", values="int8", scale=scale)[-1]
    largest = weight.abs().amax((1, 2, 3) if scale == "channel" else None, keepdim=True)
    codes = (weight / largest * 127).round()[weight != 0]
    assert size.stored < 1.03 * (entropy(weight != 0) + entropy(codes)) / 8


def test_the_sizes_say_what_the_tensors_are(tmp_path):
    half = torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    *rows, whole = pack({"half": half, "none": torch.zeros(9)}, tmp_path / "x.prunus")
    assert [(row.name, row.elements, row.nonzero, row.dense) for row in rows] == [
        ("half", 4, 2, 16),
        ("none", 9, 0, 36),
    ]
    assert rows[0].bound == 4 / 8 + 2 * 4  # one bit per element, two float32
    assert (whole.elements, whole.dense, whole.bound) == (13, 52, rows[0].bound)
    with PackedFile(tmp_path / "x.prunus") as file:
        assert file.sizes == [*rows, whole]


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
    one = 4 * 2**20
    tracemalloc.start()

    def pairs():
        for number in range(12):
            array = sparse(1024, 1024, seed=number)
            yield f"layer{number}", array

    pack(pairs(), tmp_path / "x.prunus")
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    with PackedFile(tmp_path / "x.prunus") as file:
        for name in file.names:
            file.read(name)
    read_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The rest is a run's: a bool and a position per word, and what is coded.
    assert written < 3 * one and read_peak < 3 * one


def test_an_exception_while_packing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.prunus"
    pack({"w": torch.ones(3)}, path)

    def pairs():
        yield "a", torch.ones(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(pairs(), path)
    assert unpack(path)["w"].tolist() == [1, 1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["x.prunus"]


def test_a_disk_that_is_full_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.prunus"
    pack({"w": torch.ones(3)}, path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        pack({"w": torch.zeros(3)}, path)
    assert unpack(path)["w"].tolist() == [1, 1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["x.prunus"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tiny_disk):
    pack({"w": torch.ones(3)}, tiny_disk / "x.prunus")
    with pytest.raises(OSError, match="No space left"):
        pack({"w": torch.randn(1_000_000)}, tiny_disk / "x.prunus")
    assert unpack(tiny_disk / "x.prunus")["w"].tolist() == [1, 1, 1]
    assert [file.name for file in tiny_disk.iterdir()] == ["x.prunus"]


def test_a_missing_file_says_where(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*nowhere"):
        unpack(tmp_path / "nowhere")


class Made(Mapping):
    """Makes its tensors when they are asked for; their memory may serve the next."""

    def __getitem__(self, name):
        return torch.full((1000,), float(name))

    def __iter__(self):
        return iter("0123")

    def __len__(self):
        return 4


def test_tensors_that_are_made_on_access_are_not_taken_for_one(tmp_path):
    pack(Made(), tmp_path / "made.prunus")
    found = unpack(tmp_path / "made.prunus")
    assert {name: float(tensor[0]) for name, tensor in found.items()} == {
        str(k): k for k in range(4)
    }


@pytest.mark.parametrize("given", ["net.safetensors", Path("net.safetensors"), nn.Linear(2, 2)])
def test_what_is_no_tensors_by_name_is_refused_with_the_way_out(tmp_path, given):
    with pytest.raises(TypeError, match=r"got (str|.*Path|Linear); pass a"):
        pack(given, tmp_path / "x.prunus")
    assert not list(tmp_path.iterdir())
