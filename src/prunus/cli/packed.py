"""`prunus pack` and `prunus unpack`: safetensors to a compact sparse file, and back."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from prunus.cli.show import Json, print_json, print_table
from prunus.errors import CheckpointError

# torch is imported where it is needed, so that --help comes at once.
if TYPE_CHECKING:
    from torch import Tensor

    from prunus.deploy import Size


def pack(
    file: Path,
    out: Path,
    /,
    *,
    values: Literal["exact", "float16", "bfloat16", "int8"] = "exact",
    scale: Literal["channel", "tensor"] = "channel",
    plain_zeros: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Write the weights of a sparse network as one small file.

    Zeros take only the information of where they are. `prunus unpack` gives all of it back, to the
    bit unless --values says otherwise. The table compares each tensor with what it takes in memory
    and with the bound: the entropy of where its nonzeros are, and the nonzeros as they are stored.

    ```
    prunus pack pruned.safetensors net.prunus
    prunus pack runs/gradual-lstm-ptb-1a2b3c4d/seed-0 small.prunus --values int8
    ```

    Args:
        file: A safetensors file, or a folder of `prunus run` or `prunus shrink`, for its smaller
            network.
        out: The file to write; its name ends in .prunus by custom.
        values: Store the values of weights (what has two dimensions or more) in fewer bytes.
        scale: With int8, one scale for each output channel, or for each tensor.
        plain_zeros: Store -0.0 as 0, which it equals. Masks that multiply leave -0.0 where a weight
            was negative, and the signs take more than all else.
        json: Print as JSON.
    """
    from prunus.deploy import pack as write
    from prunus.files import open_tensors

    source = _smaller(file) if file.is_dir() else file
    negative = 0

    def pairs(opened: Any) -> Iterator[tuple[str, "Tensor"]]:
        nonlocal negative
        for name in opened.keys():  # noqa: SIM118
            tensor = opened.get_tensor(name)
            if tensor.is_floating_point() and tensor.itemsize > 1:
                negative += int(((tensor == 0) & tensor.signbit()).sum())
            yield name, tensor

    with open_tensors(source) as opened:
        sizes = write(
            pairs(opened),
            out,
            values=values,
            scale=scale,
            signed_zeros=not plain_zeros,
            metadata=opened.metadata(),
        )
    _show(sizes, json)
    if values == "exact" and not plain_zeros and negative > sizes[-1].nonzero / 100:
        print(
            f"{negative:,} of the nonzeros are -0.0, as masks that multiply leave them; "
            "--plain-zeros stores them as 0.",
            file=sys.stderr,
        )


def unpack(
    file: Path,
    out: Path,
    /,
    *,
    limit: Annotated[int, Parameter(name="--limit")] = 16,
    json: Json = False,
) -> None:
    """Write a compact sparse file as safetensors again, with its metadata.

    ```
    prunus unpack net.prunus again.safetensors
    ```

    Args:
        file: Written by `prunus pack`.
        out: The safetensors file to write.
        limit: GiB of tensors that are allowed; a small hostile file can ask for any number.
        json: Print as JSON.
    """
    from prunus.deploy import PackedFile
    from prunus.files import write_each

    with PackedFile(file, limit=limit * 2**30) as packed:
        entries = {name: packed.entry(name) for name in packed.names}
        layout = {name: (one.dtype, one.shape, one.itemsize) for name, one in entries.items()}
        whole = sum(one.elements * one.itemsize for one in entries.values())
        if whole > limit * 2**30:  # safetensors has no names for one and the same tensor
            raise CheckpointError(
                f"{file} holds {whole:,} bytes where every name has a tensor of its own, and "
                f"--limit allows {limit:g} GiB; if that is what you expect, allow for more."
            )
        write_each(out, layout, packed.read, packed.metadata)
        sizes = packed.sizes
    _show(sizes, json)


def _smaller(folder: Path) -> Path:
    """Return the file of the smaller network that a folder of a run, or of shrink, holds."""
    for path in (folder / "export" / "pruned.safetensors", folder / "pruned.safetensors"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{folder} must be a folder of `prunus run` or `prunus shrink`, but has no "
        "pruned.safetensors; name a file."
    )


def _show(sizes: Sequence["Size"], json: bool) -> None:
    """Print what each tensor takes, and the file."""
    from dataclasses import asdict

    *tensors, whole = sizes
    if json:
        print_json(asdict(whole) | {"tensors": [asdict(size) for size in tensors]})
        return
    print_table(
        whole.name,
        ("tensor", "zeros", "dense", "bound", "stored", "smaller", "over bound"),
        [*(_row(size.name, size) for size in tensors), _row("the file", whole)],
    )


def _row(name: str, size: "Size") -> tuple[str, ...]:
    from prunus.report.quantities import percent, times
    from prunus.report.quantities import size as in_bytes

    zeros = 1 - size.nonzero / max(1, size.elements)
    return (
        name,
        percent(zeros),
        in_bytes(size.dense),
        in_bytes(size.bound),
        in_bytes(size.stored),
        times(size.dense / size.stored) if size.stored else "-",
        percent(size.stored / size.bound - 1) if size.bound else "-",
    )
