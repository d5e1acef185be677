"""What travels is read as it was written, small, and never trusted."""

import random
import zlib
from math import log2

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunus.errors import WireError
from prunus.federated.packet import Packet
from prunus.federated.sums import sealed, unsealed
from prunus.federated.wire import Layout, tensors_of


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 70))


NET = network()
LAYOUT = Layout.of(NET, {"0.weight", "3.weight", "absent"})


def masked_at(density, seed=0):
    chance = torch.Generator().manual_seed(seed)
    return {n: torch.rand(m.shape, generator=chance) < density for n, m in LAYOUT.whole().items()}


def same(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_counters_do_not_travel_and_tied_weights_travel_once():
    assert "1.num_batches_tracked" not in LAYOUT.shapes and "1.running_mean" in LAYOUT.shapes
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert list(Layout.of(tied, ()).shapes) == ["0.weight", "0.bias", "1.bias"]


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=3),
    st.integers(0, 2**30),
    st.sampled_from([0.0, 0.01, 0.03125, 0.1, 0.6, 1.0]),
)
def test_a_structure_and_its_values_come_back(sizes, seed, density):
    chance = np.random.default_rng(seed)
    shapes = {str(k): (n,) for k, n in enumerate(sizes)}
    layout = Layout(shapes, set(shapes))
    mask = {str(k): torch.from_numpy(chance.random(n) < density) for k, n in enumerate(sizes)}
    tensors = {n: torch.from_numpy(chance.standard_normal(len(m))).float() for n, m in mask.items()}
    same(layout.mask(layout.structure(mask)), mask)
    expected = {name: x * mask[name] for name, x in tensors.items()}
    values = layout.values(tensors, mask)
    assert len(values) == 4 * sum(int(m.sum()) for m in mask.values())
    same(layout.tensors(values, mask), expected)


def test_what_is_not_masked_travels_whole_and_fp16_rounds():
    mask, tensors = masked_at(0.2), tensors_of(NET)
    found = LAYOUT.tensors(LAYOUT.values(tensors, mask), mask)
    for name, x in tensors.items():
        assert torch.equal(found[name], x * mask[name] if name in mask else x)
    half = LAYOUT.tensors(LAYOUT.values(tensors, mask, "fp16"), mask, "fp16")
    assert all(torch.allclose(half[n], found[n], rtol=2**-11, atol=1e-7) for n in half)
    assert len(LAYOUT.values(tensors, mask, "fp16")) * 2 == len(LAYOUT.values(tensors, mask))
    with pytest.raises(OverflowError, match="65504"):
        LAYOUT.values(tensors | {"0.bias": torch.full((6,), 1e6)}, mask, "fp16")


def entropy(size, count):
    """Bytes that no code of a random mask can go below, on average."""
    share = count / size
    return size * -(share * log2(share) + (1 - share) * log2(1 - share)) / 8


def raw(mask):
    return zlib.decompress(Layout({"w": (len(mask),)}, {"w"}).structure({"w": mask}))


def test_gaps_are_written_as_worked_out_by_hand():
    mask = torch.zeros(64, dtype=torch.bool)
    mask[[5, 6, 40]] = True  # gaps of 5, 0 and 33: halves of 2, 0 and 16, odd, even, odd
    unary = [0b1100, 0, 0b10000]
    assert raw(mask) == bytes([1, 3, 0, 0, 0, 21, 0, 0, 0, *unary, 0b101])
    assert raw(~mask) == bytes([0x81]) + raw(mask)[1:]  # the rarer side
    assert raw(mask | True) == bytes([0x80, *bytes(8)])  # no weight is absent


@given(
    st.floats(0.03, 0.12),
    st.integers(20_000, 100_000),
    st.integers(0, 2**30),
)
def test_values_and_structure_take_two_per_cent_more_than_their_entropy(density, size, seed):
    layout = Layout({"w": (size,)}, {"w"})
    kept = torch.rand(size, generator=torch.Generator().manual_seed(seed)) < density
    count = int(kept.sum())
    structure = layout.structure({"w": kept})
    assert len(structure) + 4 * count < 1.02 * (entropy(size, count) + 4 * count)
    assert len(structure) < 1.04 * entropy(size, count) + 24


@pytest.mark.parametrize("density", [0.003, 0.01, 0.2, 0.3, 0.5, 0.7, 0.97])
def test_other_densities_come_as_near_to_their_entropy(density):
    size = 200_000
    kept = torch.rand(size, generator=torch.Generator().manual_seed(0)) < density
    structure = Layout({"w": (size,)}, {"w"}).structure({"w": kept})
    assert len(structure) < 1.04 * entropy(size, int(kept.sum()))


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("pattern", ["rows", "columns", "blocks"])
def test_a_mask_with_a_pattern_takes_no_more_than_its_deflated_bitmap(pattern, density):
    chance = torch.Generator().manual_seed(0)
    rows, columns = torch.rand(300, 1, generator=chance), torch.rand(1, 200, generator=chance)
    drawn = {"rows": rows, "columns": columns, "blocks": torch.maximum(rows, columns)}
    kept = (drawn[pattern] < density).expand(300, 200)
    structure = Layout({"w": (300, 200)}, {"w"}).structure({"w": kept.contiguous()})
    bitmap = np.packbits(kept.numpy().reshape(-1), bitorder="little").tobytes()
    assert len(structure) <= len(zlib.compress(bitmap, 6)) + 16


def test_a_structure_of_another_network_is_refused():
    other = Layout.of(nn.Sequential(nn.Linear(9, 9)), {"0.weight"})
    with pytest.raises(WireError):
        LAYOUT.mask(other.structure({"0.weight": torch.rand(9, 9) < 0.5}))
    with pytest.raises(WireError, match="at most"):
        LAYOUT.mask(zlib.compress(bytes(50_000_000)))  # 50 MB from 50 kB: not inflated
    with pytest.raises(WireError, match="bytes, got"):
        LAYOUT.tensors(b"1234", masked_at(0.5))


def record(k, count, length, *rest):
    return bytes([k]) + count.to_bytes(4, "little") + length.to_bytes(4, "little") + bytes(rest)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "ends inside"),
        (b"\0\1", "ends inside"),
        (record(7, 1, 1, 1), "no 7 low bits"),
        (record(0x87, 1, 1, 1), "no 7 low bits"),
        (record(0, 51, 51), "cannot have 51 gaps"),
        (record(0, 1, 102), "of 102 bits in unary"),
        (record(0, 2, 9, 0b11), "ends inside"),
        (record(0, 2, 3, 0b1101), "bits beyond them"),
        (record(0, 2, 3, 0b100), "must end as many times, got 1"),
        (record(0, 2, 4, 0b0011), "must end as many times, got 2"),
        (record(2, 1, 26, 0, 0, 0, 2, 0, 0), "below 100, got 100"),
        (record(2, 1, 1, 1, 1), "ends inside"),
        (record(0x80, 0, 0, 0), "end at 9"),
    ],
)
def test_damaged_records_are_refused(raw, message):
    with pytest.raises(WireError, match=message):
        Layout({"w": (100,)}, {"w"}).mask(zlib.compress(raw))


def fuzz(times):
    """Damage packets in every way; they are refused, or read as something of the right shape."""
    chance = random.Random(0)
    sums = Layout.of_sums(NET, LAYOUT.masked)
    squares = {name: torch.rand(shape) for name, shape in sums.shapes.items()}
    mask = masked_at(0.3)
    mask["0.weight"] = torch.arange(108).view(6, 2, 3, 3) % 40 == 0
    whole = {
        "structure": LAYOUT.structure(mask),
        "values": LAYOUT.values(tensors_of(NET), mask),
        **sealed(squares, sums, mask, "fp16", share=0.1),
    }
    refused = 0
    for _ in range(times):
        parts = dict(whole)
        name = chance.choice(list(parts))
        data = bytearray(parts[name])
        if name == "structure" and chance.random() < 0.5:  # damage below the deflation
            data = bytearray(zlib.decompress(data))
        for _ in range(chance.randint(1, 4)):
            way, place = chance.randrange(4), chance.randrange(len(data) + 1)
            if way == 0 and place < len(data):
                data[place] = chance.randrange(256)
            elif way == 1:
                del data[place : place + chance.randint(1, 40)]
            elif way == 2:
                data[place:place] = chance.randbytes(chance.randint(1, 40))
            else:
                data = data[:place]
        parts[name] = bytes(data)
        try:
            try:
                mask = LAYOUT.mask(parts["structure"])
            except WireError:
                mask = LAYOUT.mask(zlib.compress(parts["structure"]))
            found = LAYOUT.tensors(parts["values"], mask)
            more = unsealed(Packet({"kind": "trained"}, parts), sums)
        except WireError:
            refused += 1
            continue
        assert {n: tuple(x.shape) for n, x in found.items()} == LAYOUT.shapes
        assert {n: tuple(x.shape) for n, x in more.items()} == sums.shapes
    return refused


def test_damage_is_refused_and_never_crashes():
    assert 200 < fuzz(500) < 500


@pytest.mark.slow
def test_much_damage_is_refused_and_never_crashes():
    assert 4000 < fuzz(10_000) < 10_000


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_sums_come_back_and_the_smallest_of_the_absent_as_zero(precision, share):
    layout, mask = Layout.of_sums(NET, LAYOUT.masked), masked_at(0.5)
    assert "1.running_mean" not in layout.shapes
    random = torch.Generator().manual_seed(0)
    sums = {n: torch.rand(s, generator=random) ** 4 for n, s in layout.shapes.items()}
    missing = sums.pop("0.bias")
    parts = sealed(sums, layout, mask, precision, share)
    found = unsealed(Packet({}, parts), layout)
    assert not found.pop("0.bias").any() and missing.any()
    for name, value in sums.items():
        sent = torch.ones_like(value, dtype=torch.bool)
        if share < 1 and name in mask:
            absent = value[~mask[name]]
            count = int(share * len(absent))
            sent = mask[name] | (value >= absent.topk(count).values.min())
        close = {"fp32": (0.0, 0.0), "fp16": (2e-3, 1e-11)}[precision]
        expected = torch.where(sent, value, 0.0)
        assert torch.allclose(found[name], expected, rtol=close[0], atol=close[1])


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ({}, int),
        ({"x": True}, int),
        ({"x": "1"}, int),
        ({"x": float("nan")}, float),
        ({"x": 1}, str),
    ],
)
def test_a_header_is_checked(header, kind):
    with pytest.raises(WireError, match="'x' must be"):
        Packet(header).get("x", kind)
    assert Packet({"x": 2}).get("x", float) == 2.0
