"""The compact sparse file read as docs/format.md has it, slowly, with no code of Prunus."""

import json
import math
import struct
import zlib

import zstandard

START = bytes.fromhex("89505255 4E555301")
ITEMSIZES = {"BOOL": 1, "C64": 8}
RUN = 2**20


def itemsize(dtype):
    return ITEMSIZES.get(dtype) or int(dtype.partition("_")[0].strip("UIFB")) // 8


def content(block):
    assert zlib.crc32(block[:-4]) == int.from_bytes(block[-4:], "little")
    return zstandard.ZstdDecompressor().decompress(block[:-4])


def index_of(data):
    assert data[:8] == START and data[-8:] == START
    length = int.from_bytes(data[-12:-8], "little")
    return json.loads(content(data[-12 - length : -12]))


def run_of(run, data, length, size):
    """Return the position and bytes of each stored word."""
    values = (length if run["mask"] == "none" else run["nonzero"]) * size
    where, columns = data[: len(data) - values], data[len(data) - values :]
    if run["mask"] == "none":
        positions = list(range(length))
    elif run["mask"] == "bits":
        positions = [i for i in range(length) if where[i // 8] >> (7 - i % 8) & 1]
    else:
        shift, escape = run.get("shift", 0), run.get("escape", 255)
        symbols, low = (
            (where[: -run["nonzero"]], where[-run["nonzero"] :]) if shift else (where, [])
        )
        positions, at, more = [], 0, iter(low)
        for symbol in symbols:
            at += symbol << shift
            if symbol != escape:
                at += next(more, 0)
                positions.append(at)
                at += 1
    count = len(positions)
    return {p: bytes(columns[i::count][:size]) for i, p in enumerate(positions)}


def read(data):
    """Return name -> dtype, shape, type of the words, their bytes, and scales."""
    index, at, found = index_of(data), len(START), {}
    for tensor in index.get("tensors", []):
        stored = tensor.get("stored") or tensor["dtype"]
        size, elements = itemsize(stored), math.prod(tensor["shape"])
        words, scales = bytearray(elements * size), b""
        if bytes_of_scales := tensor.get("scales", 0):
            both = content(data[at : at + bytes_of_scales])
            half = len(both) // 2
            scales = [
                struct.unpack("<f", bytes([0, 0, both[i], both[half + i]]))[0] for i in range(half)
            ]
            at += bytes_of_scales
        for number, run in enumerate(tensor.get("runs", [])):
            length = min(RUN, elements - number * RUN)
            if run["nonzero"]:
                block = content(data[at : at + run["size"]])
                for position, word in run_of(run, block, length, size).items():
                    begin = (number * RUN + position) * size
                    words[begin : begin + size] = word
            at += run["size"]
        found[tensor["name"]] = (tensor["dtype"], tuple(tensor["shape"]), stored, words, scales)
    assert data[at : at + 4] == bytes.fromhex("28B52FFD")  # the index follows, a zstd frame
    return found | {name: found[same] for name, same in index.get("tied", {}).items()}
