"""Weights that others made, loaded without running any code of theirs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from prunus.errors import CheckpointError
from prunus.files import read_tensors


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Copy the weights in `path` into `model`, in place, after checking that all of them fit.

    Reads `.safetensors`, and PyTorch files with any other suffix (`.pt`, `.pth`, `.th`, ...) that
    hold tensors only. A dict under the key `state_dict` is unwrapped, and the prefix `module.` that
    `DataParallel` leaves is removed. Files from before PyTorch 0.4.1, which lack the batch norms'
    `num_batches_tracked`, leave that counter as it is. On an error the model is unchanged.

    Args:
        model: Its state dict names the tensors and their shapes.
        path: The file.

    Raises:
        CheckpointError: The file is damaged, holds pickled objects other than tensors, or its names
            or shapes differ from the model's.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        loaded: Any = read_tensors(path)[0]
    else:
        loaded = _read_torch(path)
    state = _unwrap(loaded, path)
    _check_fit(state, model.state_dict(), path)
    model.load_state_dict(state, strict=False)


def _read_torch(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # A damaged file makes torch.load raise almost anything: RuntimeError, EOFError, KeyError,
        # struct.error, UnpicklingError. Its own advice, weights_only=False, is not passed on.
        code = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, UnpicklingError) and code:
            raise CheckpointError(
                f"{path} was refused: unpickling it would call {code[1]}, and Prunus loads only "
                "tensors. Ask its author for a safetensors file, or a state dict of plain tensors."
            ) from None
        raise CheckpointError(
            f"{path} is not a whole PyTorch file of tensors "
            f"({type(error).__name__} while reading it); it may be truncated."
        ) from None


def _unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(
            f"{path} must hold a state dict (name -> tensor), got {type(loaded).__name__}."
        )
    others = [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(
            f"{path} must hold a state dict (name -> tensor), or one under the key 'state_dict'; "
            f"not tensors: {_some(others)}."
        )
    prefix = "module." if all(name.startswith("module.") for name in loaded) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in loaded.items()}


def _check_fit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in wanted]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, the model's {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    faults = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (("missing", missing), ("unknown", extra), ("of another shape", shapes))
        if names
    ]
    if faults:
        raise CheckpointError(
            f"{path} does not fit the model; tensors {'; '.join(faults)}. "
            "Build the network with the options that it was trained with."
        )


def _some(names: Sequence[str], limit: int = 5) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
