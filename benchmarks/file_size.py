"""What a sparse network takes on the disk, and how fast it is written and read, by file format.

The weights of ResNet-50 (two and more dimensions, 25.5 M, 97.3 MiB) at random, normal with the
deviations of torchvision's initialisation, without the smallest: of each layer ("uniform"), or of
all layers together ("global"). "over" is what a file takes beyond its bound, the entropy of each
layer's mask and the nonzeros: as they are in float32 and float16, and for int8 the entropy of each
layer's codes, without their scales. GB/s are bytes of the dense float32 weights by seconds of one
core (process time, so that neighbours who take the core do not count), median of the rounds, in
which all formats take turns; "of memcpy" compares with np.copyto in the same rounds.

    python benchmarks/file_size.py [rounds] [folder]

The bitmask is that of compressed-tensors 0.10.2 where it is installed (later versions have none),
and otherwise computed here in the same way.
"""

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torchvision
import zstandard
from rich.console import Console
from rich.table import Table
from scipy import sparse
from torch import Tensor

from prunus.deploy import pack, unpack
from prunus.deploy.values import scales_of

Weights = dict[str, Tensor]
CASES = [(sparsity, scope) for sparsity in (0.9, 0.95) for scope in ("uniform", "global")]
EXACT, HALF, CHANNEL, TENSOR = "float32", "float16", "int8 channel", "int8 tensor"

try:
    from compressed_tensors.compressors.sparse_compressors.sparse_bitmask import (
        bitmask_compress,
        bitmask_decompress,
    )

    BITMASK = "bitmask, comp.-tensors"
except ImportError:
    BITMASK = "bitmask, computed here"

    def bitmask_compress(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        here = tensor != 0
        counts = here.sum(dim=-1)
        packed = np.packbits(here.numpy(), axis=-1, bitorder="little")
        return tensor[here], torch.from_numpy(packed), torch.cumsum(counts, 0) - counts

    def bitmask_decompress(values: Tensor, packed: Tensor, shape: torch.Size) -> Tensor:
        unpacked = np.unpackbits(packed.numpy(), axis=-1, count=shape[-1], bitorder="little")
        tensor = torch.zeros(shape)
        tensor[torch.from_numpy(unpacked).bool()] = values
        return tensor


@dataclass(frozen=True)
class Format:
    """How weights are written to a file and read again, and in which type their values are."""

    name: str
    write: Callable[[Weights, Path], object]
    read: Callable[[Path, Weights], object]
    values: str = EXACT


def rows(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    return ((name, weight.flatten(1)) for name, weight in weights.items())


def write_zstd(weights: Weights, path: Path) -> None:
    path.write_bytes(zstandard.compress(safetensors.torch.save(weights), 3))


def read_zstd(path: Path, weights: Weights) -> Weights:
    return safetensors.torch.load(zstandard.decompress(path.read_bytes()))


def write_csr(weights: Weights, path: Path) -> None:
    parts: Weights = {}
    for name, weight in rows(weights):
        matrix = sparse.csr_matrix(weight.numpy())
        for part in ("indptr", "indices", "data"):
            parts[f"{name}.{part}"] = torch.from_numpy(getattr(matrix, part))
    safetensors.torch.save_file(parts, path)


def read_csr(path: Path, weights: Weights) -> list[np.ndarray]:
    parts = safetensors.torch.load_file(path)
    return [
        sparse.csr_matrix(
            tuple(parts[f"{name}.{part}"].numpy() for part in ("data", "indices", "indptr")),
            shape=weight.shape,
        ).toarray()
        for name, weight in rows(weights)
    ]


def read_torch(path: Path, weights: Weights) -> list[Tensor]:
    return [tensor.to_dense() for tensor in torch.load(path, weights_only=True).values()]


def write_bitmask(weights: Weights, path: Path) -> None:
    parts: Weights = {}
    for name, weight in rows(weights):
        for part, tensor in zip("vbo", bitmask_compress(weight), strict=True):
            parts[f"{name}.{part}"] = tensor
    safetensors.torch.save_file(parts, path)


def read_bitmask(path: Path, weights: Weights) -> list[Tensor]:
    parts = safetensors.torch.load_file(path)
    return [
        bitmask_decompress(parts[f"{name}.v"], parts[f"{name}.b"], weight.shape)
        for name, weight in rows(weights)
    ]


def packed(**how: str) -> Callable[[Weights, Path], object]:
    return lambda weights, path: pack(weights, path, **how)  # type: ignore[arg-type]


FORMATS = [
    Format(
        "safetensors",
        lambda weights, path: safetensors.torch.save_file(weights, path),
        # It maps the file; the copy is what reads it.
        lambda path, _: {n: t.clone() for n, t in safetensors.torch.load_file(path).items()},
    ),
    Format("safetensors, zstd 3", write_zstd, read_zstd),
    Format("CSR, int32", write_csr, read_csr),
    Format(
        "torch COO, torch.save",
        lambda weights, path: torch.save({n: w.to_sparse() for n, w in rows(weights)}, path),
        read_torch,
    ),
    Format(
        "torch CSR, torch.save",
        lambda weights, path: torch.save({n: w.to_sparse_csr() for n, w in rows(weights)}, path),
        read_torch,
    ),
    Format(BITMASK, write_bitmask, read_bitmask),
    *(
        Format(f".prunus {values}", packed(**how), lambda path, _: unpack(path), values)
        for values, how in {
            EXACT: {},
            HALF: {"values": "float16"},
            CHANNEL: {"values": "int8"},
            TENSOR: {"values": "int8", "scale": "tensor"},
        }.items()
    ),
]


def resnet50(sparsity: float, scope: str) -> Weights:
    """Return the weights without the smallest, of each layer or of all."""
    torch.manual_seed(0)
    weights = {
        name: torch.randn(weight.shape) * weight.std().item()
        for name, weight in torchvision.models.resnet50(weights=None).named_parameters()
        if weight.ndim > 1
    }
    magnitudes = {name: weight.abs().flatten().numpy() for name, weight in weights.items()}
    if scope == "global":
        magnitudes = dict.fromkeys(magnitudes, np.concatenate(list(magnitudes.values())))
    thresholds: dict[int, float] = {}
    for each in magnitudes.values():
        if id(each) not in thresholds:
            place = int(sparsity * len(each))
            thresholds[id(each)] = np.partition(each, place)[place]
    return {
        name: torch.where(weight.abs() >= thresholds[id(magnitudes[name])], weight, 0)
        for name, weight in weights.items()
    }


def entropy(counts: np.ndarray) -> float:
    """Return the bits of symbols that occur so often, coded by their frequency."""
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def bound(weights: Weights, values: str) -> float:
    """Return the bytes of each layer's mask and nonzeros."""
    bits = 0.0
    for weight in weights.values():
        here = weight != 0
        count = int(here.sum())
        bits += entropy(np.array([count, weight.numel() - count]))
        if values in (EXACT, HALF):
            bits += count * (32 if values == EXACT else 16)
        else:
            scales = scales_of(weight, "channel" if values == CHANNEL else "tensor").float()
            codes = (weight.flatten(1) / scales[:, None])[here.flatten(1)].round().int()
            bits += entropy(np.bincount(codes.numpy() + 127))
    return bits / 8


def seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def measure(weights: Weights, rounds: int, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield one row per format."""
    dense = sum(weight.nbytes for weight in weights.values())
    flat = torch.cat([weight.flatten() for weight in weights.values()]).numpy()
    other = np.zeros_like(flat)
    paths = {each.name: folder / f"{number}" for number, each in enumerate(FORMATS)}
    times: dict[str, list[tuple[float, float]]] = {each.name: [] for each in FORMATS}
    copies = []
    for _ in range(rounds):
        copies.append(seconds(lambda: np.copyto(other, flat)))
        for each in FORMATS:
            path = paths[each.name]
            written = seconds(lambda: each.write(weights, path))  # noqa: B023
            times[each.name].append((written, seconds(lambda: each.read(path, weights))))  # noqa: B023
    copy = statistics.median(copies)
    for each in FORMATS:
        size = paths[each.name].stat().st_size
        write, read = (statistics.median(part) for part in zip(*times[each.name], strict=True))
        yield (
            each.name,
            f"{size:,}",
            f"{dense / size:.1f}",
            f"{100 * (size / bound(weights, each.values) - 1):+.1f}",
            f"{dense / write / 1e9:.2f}",
            f"{dense / read / 1e9:.2f}",
            f"{copy / write:.2f}",
            f"{copy / read:.2f}",
        )
    yield ("np.copyto", "", "", "", f"{dense / copy / 1e9:.2f}", "", "1.00", "")


def main(rounds: int = 5, folder: str | None = None) -> None:
    """Measure all formats on all four networks."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Sparse CSR|Validating sparse")
    for sparsity, scope in CASES:
        weights = resnet50(sparsity, scope)
        table = Table(title=f"ResNet-50, {sparsity:.0%} zeros, {scope}; {rounds} rounds")
        headings = ("bytes", "smaller", "over, %", "write GB/s", "read GB/s")
        for heading in ("format", *headings, "write / memcpy", "read / memcpy"):
            table.add_column(heading, justify="left" if heading == "format" else "right")
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for row in measure(weights, rounds, Path(temporary)):
                table.add_row(*row)
        Console(width=120).print(table)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
