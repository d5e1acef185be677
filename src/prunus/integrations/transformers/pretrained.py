"""Pruned transformers in a folder of Hugging Face's own form, and back, without code in it."""

import copy
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from prunus.errors import CheckpointError, EquivalenceError
from prunus.integrations.transformers.widths import Sizes, made, reduced, shapes_of, uniform
from prunus.modes import modes_kept
from prunus.pruning import Result
from prunus.space.attributes import held_sizes
from prunus.space.graph_network import GraphNetwork
from prunus.types import Example, call_arguments

_ENTRY = "prunus"
_TOLERANCE = 1e-5  # of the largest output; kernels choose their order of sums by shape
_WIDTHS = TypeAdapter(dict[str, tuple[int, ...]])
_SIZES = TypeAdapter(dict[str, dict[str, int | tuple[int, ...]]])
_KERNELS = (None, "eager", "sdpa")
"""What may compute attention without code from elsewhere."""


def save_pretrained(
    model: nn.Module | Result,
    folder: Path | str,
    example: Example,
    *,
    dense: PreTrainedModel | None = None,
) -> Path:
    """Write a pruned transformer as `config.json` and safetensors, which are read back and checked.

    Where the widths are alike in all layers and the configuration has fields for them
    (`intermediate_size`, `num_attention_heads`, ...), these say the new widths, and any
    `from_pretrained` of transformers reads the folder. Elsewhere the entry "prunus" of the
    configuration has the shape of each smaller tensor, and `load_pretrained` reads it.

    Args:
        model: A pruned `PreTrainedModel`, a graph of one, or a result that holds either.
        folder: Where to; made if missing. Other files in it stay.
        example: An input of the model, on which what is read back must give the same outputs.
        dense: The model it was pruned from, whose class and configuration are taken; needed where
            it is a rewritten graph.

    Returns:
        `folder`.

    Raises:
        EquivalenceError: The class cannot have these widths; `prunus.save(model, path, example)`
            holds what it cannot.
        TypeError: `model` is no `PreTrainedModel`, and `dense` is missing.
        OSError: The folder cannot be written.
    """
    small = model.model if isinstance(model, Result) else model
    like = small if isinstance(small, PreTrainedModel) else dense
    if not isinstance(like, PreTrainedModel):
        raise TypeError(
            f"{type(small).__name__} does not say its class of transformers and its configuration; "
            "pass dense=, the PreTrainedModel it was pruned from."
        )
    kind, folder = type(like), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".prunus-", dir=folder) as beside:
        built = _built(kind, like.config, small)
        built.save_pretrained(beside)
        read = load_pretrained(beside, dtype=built.dtype)
        for each in (built, read):
            nn.Module.to(each, built.device)
            _compare(small, each, example)
        found = sorted(Path(beside).iterdir(), key=lambda file: file.name == "config.json")
        for file in found:
            os.replace(file, folder / file.name)
    return folder


def _built(
    kind: type[PreTrainedModel], config: PreTrainedConfig, small: nn.Module
) -> PreTrainedModel:
    """Make the model of its class that has the small one's tensors."""
    own, config = kind, copy.deepcopy(config)
    vars(config).pop(_ENTRY, None)
    state = small.state_dict()
    wanted = shapes_of(state.items())
    fields = uniform(kind, config, wanted)
    if fields is None:
        dense = shapes_of(made(kind, config).state_dict().items())
        if isinstance(small, GraphNetwork) and small.gone:
            raise EquivalenceError(f"{kind.__name__} cannot go without {small.gone[0]}.")
        widths = {name: shape for name, shape in wanted.items() if dense.get(name) != shape}
        sizes = _changed(held_sizes(made(kind, config)), held_sizes(small))
        entry = {"widths": {name: list(shape) for name, shape in widths.items()}, "sizes": sizes}
        setattr(config, _ENTRY, entry)
        kind = reduced(kind, widths, sizes)
    else:
        config = fields
    first = next(small.parameters())
    try:
        built = kind(config)
        nn.Module.to(built, first.device, first.dtype)
        built.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise EquivalenceError(f"{kind.__name__} cannot have these widths ({error}).") from error
    built.__class__ = own
    built.train(small.training)
    return built


def _changed(before: Sizes, after: Sizes) -> dict[str, dict[str, Any]]:
    """Return the sizes of modules of a class that are others in the small model."""
    found = {
        name: {key: value for key, value in held.items() if after[name].get(key, value) != value}
        for name, held in before.items()
        if name in after
    }
    return {
        name: {key: after[name][key] for key in changed}
        for name, changed in found.items()
        if changed
    }


@torch.no_grad()
def _compare(small: nn.Module, read: nn.Module, example: Example) -> None:
    """Compare the outputs in eval mode.

    Raises:
        EquivalenceError: They differ.
    """
    args, kwargs = call_arguments(example)
    found: list[list[Tensor]] = []
    for network in (small, read):
        try:
            with modes_kept(network):
                outputs = tree_leaves(network.eval()(*args, **kwargs))
        except Exception as error:
            raise EquivalenceError(
                f"{type(read).__name__} does not run with these widths ({error}); "
                "prunus.save(model, path, example) holds what it cannot."
            ) from error
        found.append([x for x in outputs if isinstance(x, Tensor)])
    same = len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=False):
        scale = ours.double().abs().max() if ours.numel() else 0
        same = same and ours.shape == theirs.shape
        same = same and bool(((ours - theirs).double().abs() <= _TOLERANCE * scale).all())
    if not same:
        raise EquivalenceError(
            f"{type(read).__name__} with these widths computes something else; "
            "prunus.save(model, path, example) holds what it cannot."
        )


def load_pretrained(folder: Path | str, **options: Any) -> PreTrainedModel:
    """Return the model in a folder that `save_pretrained` wrote, in eval mode.

    Nothing is downloaded, unpickled or imported by a name in the folder but a model's class of
    transformers.

    Args:
        folder: The folder.
        options: For `from_pretrained` of transformers, such as `dtype` and `device_map`.

    Raises:
        CheckpointError: The folder is damaged, or its configuration and weights do not fit.
        FileNotFoundError: There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}")
    try:
        _refuse_code(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        own = kind = _class_of(config)
        entry = getattr(config, _ENTRY, None)
        if entry is not None:
            if not isinstance(entry, dict):
                raise ValueError("the entry 'prunus' must be an object")
            widths = _WIDTHS.validate_json(json.dumps(entry.get("widths")), strict=True)
            sizes = _SIZES.validate_json(json.dumps(entry.get("sizes", {})), strict=True)
            kind = reduced(kind, widths, sizes)
        with _at_most(_stored(folder)):
            read: Any = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{folder} cannot be read as a model ({_short(error)}).") from error
    except (SafetensorError, ValidationError, AssertionError) as error:
        raise CheckpointError(f"{folder} is damaged ({_short(error)}).") from error
    model: PreTrainedModel
    model, info = read
    wrong = {what: names for what, names in info.items() if names}
    if wrong:
        what, names = next(iter(wrong.items()))
        raise CheckpointError(f"{folder} is damaged: {what} {sorted(map(str, names))[:3]}.")
    model.__class__ = own
    return model


def _refuse_code(told: Any) -> None:
    """Refuse a configuration that names kernels or a quantiser, which may be fetched and run.

    Raises:
        ValueError: It does.
    """
    for part in told.values() if isinstance(told, dict) else ():
        _refuse_code(part)
    for key, value in told.items() if isinstance(told, dict) else ():
        named = value.values() if isinstance(value, dict) else (value,)
        if "_implementation" in key and any(one not in _KERNELS for one in named):
            raise ValueError(f"its configuration asks for {key} {value!r:.80}")
        if key == "quantization_config" and value is not None:
            raise ValueError("its configuration asks for a quantiser")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def _class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class of transformers that a configuration names."""
    names = getattr(config, "architectures", None)
    name = names[0] if isinstance(names, list) and names else None
    kind = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise ValueError(f"transformers has no model {name!r}")
    return kind


def _stored(folder: Path) -> int:
    """Return how many tensors lie in a folder."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            count += len(tensors.keys())
    return count


@contextmanager
def _at_most(stored: int) -> Iterator[None]:
    """Refuse to make a model of far more parameters than are stored: some are tied, or new.

    A configuration of a few bytes could else ask for a billion layers.
    """
    most, count = 4 * stored + 1000, 0

    def register(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError(f"its configuration asks for far more than {stored} tensors")

    hook = register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        hook.remove()
