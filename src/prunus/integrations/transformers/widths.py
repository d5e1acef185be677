"""The widths of a pruned transformer, as its configuration says them.

Where they are alike in all layers and the class has fields for them, those fields do. Everywhere
else the class is made as it was, and then reduced to the shapes that are listed.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from prunus.space.attributes import SIZES

Shapes = Mapping[str, tuple[int, ...]]
Sizes = Mapping[str, Mapping[str, int | tuple[int, ...]]]

_FIELDS = (
    *("hidden_size", "d_model", "n_embd", "intermediate_size", "n_inner", "d_ff", "ffn_dim"),
    *("encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size", "num_attention_heads"),
    *("n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"),
    *("num_key_value_heads", "head_dim"),
)
"""Fields of configurations that say widths."""

_MOST_RATIOS = 12  # of reduced dimensions; where there are more, layers differ

_QUERIES = ("q_proj", "query", "q", "q_lin")
_HEAD_SIZES = ("head_dim", "attention_head_size", "key_value_proj_dim")
_HEADS = ("num_heads", "n_heads", "num_attention_heads")
_ALL_HEADS = ("inner_dim", "all_head_size", "split_size")


def made(kind: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """Make a model without values."""
    with torch.device("meta"):
        return kind(config)


def shapes_of(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors}


def uniform(
    kind: type[PreTrainedModel], config: PreTrainedConfig, small: Shapes
) -> PreTrainedConfig | None:
    """Return a configuration whose fields give the small shapes, or None where none does.

    Fields are changed one by one, each to what fits the most tensors.

    Args:
        kind: The model's class.
        config: Of the dense model; stays as it was.
        small: The shapes of the small model's state dict.
    """
    dense = shapes_of(made(kind, config).state_dict().items())
    if dense.keys() != small.keys():
        return None
    ratios = {
        (before, after)
        for name, shape in dense.items()
        for before, after in zip(shape, small[name], strict=False)
        if before != after
    }
    if len(ratios) > _MOST_RATIOS:
        return None
    best = copy.deepcopy(config)
    heads = getattr(config, "num_attention_heads", None)
    if heads and getattr(config, "head_dim", None) is None:  # else it would follow their number
        best.head_dim = config.hidden_size // heads
    most = _fitting(kind, best, small)
    for field in _FIELDS * 2:
        value = getattr(best, field, None)
        if not isinstance(value, int) and field != "n_inner":
            continue
        scaled = {value * b // a for a, b in ratios if not value * b % a} if value else set()
        for number in sorted(scaled | {after for _, after in ratios}, reverse=True):
            tried = copy.deepcopy(best)
            setattr(tried, field, number)
            fitting = _fitting(kind, tried, small)
            if fitting > most:
                best, most = tried, fitting
    return best if most == len(small) else None


def _fitting(kind: type[PreTrainedModel], config: PreTrainedConfig, small: Shapes) -> int:
    """Return how many tensors have their small shapes; -1 where the class refuses."""
    try:
        found = shapes_of(made(kind, config).state_dict().items())
    except (ValueError, RuntimeError, ArithmeticError, AssertionError, TypeError):
        return -1
    return sum(found.get(name) == shape for name, shape in small.items())


def reduced(kind: type[PreTrainedModel], small: Shapes, sizes: Sizes) -> type[PreTrainedModel]:
    """Return the class whose instances are made as those of `kind` and then reduced.

    Args:
        kind: A model's class.
        small: The shapes of the tensors that are smaller.
        sizes: Module -> the sizes that it then holds, such as its groups, which no shape tells.
    """

    class Reduced(kind):  # type: ignore[misc, valid-type]
        def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
            super().__init__(config, *args, **kwargs)
            _reduce(self, small, sizes)

    Reduced.__name__, Reduced.__qualname__ = kind.__name__, kind.__qualname__
    Reduced.__module__ = kind.__module__
    return Reduced


def _reduce(model: nn.Module, small: Shapes, sizes: Sizes) -> None:
    """Cut tensors to shapes, and set the sizes that modules hold.

    Raises:
        ValueError: A tensor is missing, or no larger than its shape; or a size is none.
    """
    held: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    held |= dict(model.named_buffers(remove_duplicate=False))
    replaced: dict[int, Tensor] = {}
    for name, shape in small.items():
        old = held.get(name)
        if (
            old is None
            or len(shape) != old.ndim
            or not all(0 < n <= size for n, size in zip(shape, old.shape, strict=True))
        ):
            raise ValueError(
                f"the model must have a tensor {name[:80]!r} of at least the size {shape}, got "
                f"{'none' if old is None else tuple(old.shape)}."
            )
        if id(old) not in replaced:
            new = old.detach()[tuple(map(slice, shape))].clone()
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, requires_grad=old.requires_grad)
            replaced[id(old)] = new
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, replaced[id(old)])
    modules = dict(model.named_modules())
    for name, held_there in sizes.items():
        for key, value in held_there.items():
            if key not in SIZES or not hasattr(modules.get(name), key):
                raise ValueError(f"module {name[:80]!r} holds no size {key[:80]!r}.")
            setattr(modules[name], key, value)
    for module in model.modules():
        _correct(module)


def _correct(module: Any) -> None:
    """Correct the numbers that modules of transformers hold beside their layers."""
    if isinstance(module, Conv1D):
        module.nx, module.nf = module.weight.shape
    width = next(
        (x.out_features for name in _QUERIES if isinstance(x := _held(module, name), nn.Linear)), 0
    )
    together = _held(module, "c_attn")
    if isinstance(together, Conv1D):
        together.nx, together.nf = together.weight.shape
        width = together.nf // (3 if _held(module, "q_attn") is None else 2)
    size = next((x for name in _HEAD_SIZES if isinstance(x := _held(module, name), int)), 0)
    if width and size:
        for names, number in ((_HEADS, width // size), (_ALL_HEADS, width)):
            for name in names:
                if isinstance(_held(module, name), int):
                    setattr(module, name, number)


def _held(module: nn.Module, name: str) -> Any:
    return getattr(module, name, None)
