"""Integer attributes that repeat a tensor's shape, and how they follow it.

A norm without weights repeats the shape of what it reads: it is corrected by what was recorded.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def correct_attributes(model: nn.Module, changed: Mapping[int, Mapping[int, Tensor]]) -> None:
    """Set `out_channels`, `num_features` and the like of every module with a changed tensor.

    Args:
        model: The smaller network; modules of PyTorch's own layer classes are corrected in place.
        changed: `id` of every tensor whose shape changed -> dimension -> positions that stayed.
    """
    with _without_updates(model):
        for module in model.modules():
            if any(id(tensor) in changed for tensor in _own(module)):
                _compute_anew(module)
                kind = next((kind for kind in ATTRIBUTES if isinstance(module, kind)), None)
                if isinstance(module, nn.GroupNorm):
                    _group_norm(module, changed[id(module.weight)][0])
                elif kind is not None:
                    if isinstance(module, _ConvNd):
                        _regroup(module, changed)
                    ATTRIBUTES[kind][1](module)


def _own(module: nn.Module) -> list[Tensor]:
    """Return the tensors that a layer holds itself, or of which its own are computed."""
    held = [*module._parameters.values(), *module._buffers.values()]
    for computed in _parametrizations(module):
        held += [*computed.parameters(), *computed.buffers()]
    return [tensor for tensor in held if tensor is not None]


@torch.no_grad()
def _compute_anew(module: nn.Module) -> None:
    """Let what old-style weight and spectral norms have computed follow what they compute it of."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            setattr(module, hook.name, hook.compute_weight(module))
        elif isinstance(hook, SpectralNorm):
            setattr(module, hook.name, hook.compute_weight(module, do_power_iteration=False))


def _parametrizations(module: nn.Module) -> list[nn.Module]:
    """Return what computes tensors of a layer from others."""
    if not parametrize.is_parametrized(module):
        return []
    assert isinstance(module.parametrizations, nn.ModuleDict)
    return list(module.parametrizations.values())


@contextmanager
def _without_updates(model: nn.Module) -> Iterator[None]:
    """Let parametrised weights be read: in train mode that moves a spectral norm's vectors."""
    computed = [part for module in model.modules() for part in _parametrizations(module)]
    training = [part for whole in computed for part in whole.modules() if part.training]
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True


def bare_norms(model: nn.Module) -> dict[str, Any]:
    """Return the norms that hold a size but no tensor of that size, by name."""
    kinds = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, _NormBase)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, kinds)
        and all(x is None for x in (module._parameters | module._buffers).values())
    }


def sizes(module: Any) -> tuple[int, ...]:
    """Return the sizes that a norm holds."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return tuple(module.normalized_shape)
    return (module.num_channels if isinstance(module, nn.GroupNorm) else module.num_features,)


def sized_dims(module: Any, ndim: int) -> range:
    """Return the dimensions of a norm's input, of so many dimensions, whose sizes it holds."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return range(ndim - len(module.normalized_shape), ndim)
    one_sample = isinstance(module, _InstanceNorm) and ndim == module._get_no_batch_dim()  # type: ignore[no-untyped-call]
    return range(0, 1) if one_sample else range(1, 2)


def correct_bare(module: Any, kept: Sequence[Tensor]) -> None:
    """Correct a norm without tensors.

    Args:
        module: Is changed in place.
        kept: For each of its sizes the positions that stay, int64.
    """
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = tuple(map(len, kept))
    elif isinstance(module, nn.GroupNorm):
        _group_norm(module, kept[0])
    else:
        module.num_features = len(kept[0])


def _regroup(module: _ConvNd, changed: Mapping[int, Mapping[int, Tensor]]) -> None:
    """As many groups as have a position left of the first dimension of the weight."""
    whole = module.in_channels if module.transposed else module.out_channels
    for tensor in _own(module):
        kept = changed.get(id(tensor), {}).get(0)
        if kept is not None and tensor.ndim > 1:
            module.groups = _groups_left(kept, whole // module.groups)
            return


def _groups_left(kept: Tensor, width: int) -> int:
    return len(set((kept // width).tolist()))


def _transposed(module: _ConvTransposeNd) -> None:
    module.in_channels = module.weight.shape[0]
    module.out_channels = module.weight.shape[1] * module.groups


def _convolution(module: _ConvNd) -> None:
    module.out_channels = module.weight.shape[0]
    module.in_channels = module.weight.shape[1] * module.groups


def _linear(module: nn.Linear) -> None:
    module.out_features, module.in_features = module.weight.shape


def _bilinear(module: nn.Bilinear) -> None:
    module.out_features, module.in1_features, module.in2_features = module.weight.shape


def _prelu(module: nn.PReLU) -> None:
    module.num_parameters = module.weight.shape[0]


def _batch_norm(module: _NormBase) -> None:
    tensor = module.weight if module.weight is not None else module.running_mean
    assert tensor is not None
    module.num_features = tensor.shape[0]


def _group_norm(module: nn.GroupNorm, kept: Tensor) -> None:
    """As many groups as have a channel left."""
    module.num_groups = _groups_left(kept, module.num_channels // module.num_groups)
    module.num_channels = len(kept)


def _layer_norm(module: Any) -> None:
    if module.weight is not None:
        module.normalized_shape = tuple(module.weight.shape)


def _embedding(module: nn.Embedding | nn.EmbeddingBag) -> None:
    module.embedding_dim = module.weight.shape[1]


def _recurrent(module: Any) -> None:
    module.hidden_size = module.weight_ih_l0.shape[0] // _GATES[module.mode.partition("_")[0]]
    module.input_size = module.weight_ih_l0.shape[1]
    if module.proj_size:
        module.proj_size = module.weight_hh_l0.shape[1]


def _recurrent_cell(module: nn.RNNCellBase) -> None:
    module.hidden_size, module.input_size = module.weight_hh.shape[1], module.weight_ih.shape[1]


_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

_CHANNELS = ("in_channels", "out_channels", "groups")

ATTRIBUTES: dict[type[nn.Module], tuple[tuple[str, ...], Callable[..., None]]] = {
    _ConvTransposeNd: (_CHANNELS, _transposed),
    _ConvNd: (_CHANNELS, _convolution),
    nn.Linear: (("in_features", "out_features"), _linear),
    nn.Bilinear: (("in1_features", "in2_features", "out_features"), _bilinear),
    nn.PReLU: (("num_parameters",), _prelu),
    _NormBase: (("num_features",), _batch_norm),
    nn.GroupNorm: (("num_channels", "num_groups"), _group_norm),
    nn.LayerNorm: (("normalized_shape",), _layer_norm),
    nn.RMSNorm: (("normalized_shape",), _layer_norm),
    nn.Embedding: (("embedding_dim",), _embedding),
    nn.EmbeddingBag: (("embedding_dim",), _embedding),
    nn.RNNBase: (("hidden_size", "input_size", "proj_size"), _recurrent),
    nn.RNNCellBase: (("hidden_size", "input_size"), _recurrent_cell),
}
"""Layer class -> the sizes that it holds, and what corrects them."""

SIZES = tuple(dict.fromkeys(name for names, _ in ATTRIBUTES.values() for name in names))
"""All such sizes."""


def held_sizes(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the sizes that every module holds, whole numbers and tuples of them, by name."""
    found: dict[str, dict[str, Any]] = {}
    for name, layer in model.named_modules():
        held = {key: value for key in SIZES if _is_size(value := getattr(layer, key, None))}
        if held:
            found[name] = held
    return found


def _is_size(value: Any) -> bool:
    return all(type(x) is int and x >= 0 for x in (value if type(value) is tuple else (value,)))
