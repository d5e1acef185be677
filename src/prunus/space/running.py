"""Running a user's model so that nothing of it changes, and finding what it returns."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from prunus.errors import UntraceableError


@contextmanager
def preserved(
    model: nn.Module, *, training: bool = False, seed: int | None = None
) -> Iterator[None]:
    """Run the model in eval (or train) mode without gradients and leave it exactly as it was found.

    Training flags, attributes, buffer values and the global random state, which may be seeded
    inside, are restored; what lists and dicts hold is not looked into. The fused kernels of whole
    transformer layers are switched off inside, so that their operations are seen.
    """
    attributes = {module: dict(vars(module)) for module in model.modules()}
    modes = {module: module.training for module in model.modules()}
    buffers = [
        (module, leaf, buffer, buffer.clone())
        for module in model.modules()
        for leaf, buffer in module._buffers.items()
        if buffer is not None
    ]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        model.train(training)
        with ExitStack() as stack:
            gpus = {p.device for p in model.parameters() if p.device.type == "cuda"}
            stack.enter_context(torch.random.fork_rng(devices=gpus))
            if seed is not None:
                torch.default_generator.manual_seed(seed)
                for gpu in gpus:
                    torch.cuda.default_generators[gpu.index].manual_seed(seed)
            stack.enter_context(torch.inference_mode(False))  # in it no operation could be seen
            stack.enter_context(torch.no_grad())
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes.items():
            module.training = mode
        for module, before in attributes.items():
            own = vars(module)
            for name in [name for name in own if name not in before]:
                del own[name]
            own.update((name, x) for name, x in before.items() if own.get(name) is not x)
        with torch.no_grad():
            for module, leaf, buffer, value in buffers:
                module._buffers[leaf] = buffer
                if not buffer.is_meta and not torch.equal(buffer, value):
                    buffer.copy_(value)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in plain containers, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]


def held_tensors(model: nn.Module) -> list[Tensor]:
    """Return the tensors that a model's modules hold: parameters, buffers and plain attributes."""
    own = set(vars(nn.Module())) - {"_parameters", "_buffers"}
    return [
        tensor
        for module in model.modules()
        for name, value in vars(module).items()
        if name not in own
        for tensor in tensors_in(value)
    ]


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a deep copy; tensors with a gradient history, which PyTorch refuses, lose it.

    Args:
        model: An old-style weight norm leaves such tensors in it.
        memo: `id` of what is not copied -> what stands in its place.
    """
    memo = {} if memo is None else memo
    for tensor in held_tensors(model):
        if tensor.grad_fn is not None:
            memo.setdefault(id(tensor), tensor.detach().clone())
    return copy.deepcopy(model, memo)


def output_tensors(out: Any) -> list[Tensor]:
    """Return every tensor in a model's output, looking into any container or plain object.

    Raises:
        UntraceableError: A part of the output cannot be looked into.
    """
    found: list[Tensor] = []
    seen: set[int] = set()

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif value is None or isinstance(value, str | bytes | int | float | complex | type):
            return
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Mapping):
                parts = list(value.values())
            elif isinstance(value, Iterable):
                parts = list(value)
            elif hasattr(value, "__dict__"):
                parts = list(vars(value).values())
            elif isinstance(value, torch.dtype | torch.device | torch.layout):
                parts = []
            else:
                raise UntraceableError(
                    f"the output holds a {type(value).__name__}, which cannot be looked into for "
                    "tensors; return tensors in tuples, dicts or dataclasses."
                )
            for part in parts:
                walk(part)

    walk(out)
    return found
