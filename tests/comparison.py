"""A comparison with the masked network that shares nothing with the one that Prunus makes."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from prunus.types import Example, Mask, call_arguments


@torch.no_grad()
def masked(model: nn.Module, mask: Mask) -> nn.Module:
    """Return a copy in float64 whose tensors are multiplied by the mask."""
    copied = copy.deepcopy(model).double().eval()
    tensors = dict(copied.named_parameters(remove_duplicate=False))
    tensors |= dict(copied.named_buffers(remove_duplicate=False))
    done: set[int] = set()
    for name, kept in mask.items():
        if id(tensors[name]) not in done:  # tied tensors are one
            tensors[name].mul_(kept)
            done.add(id(tensors[name]))
    return copied


def fresh(example: Example, seed: int, more: int = 0) -> Example:
    """Return an input alike in mean and spread, with `more` rows; integers are drawn from it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(x: Tensor) -> Tensor:
        shape = (x.shape[0] + more, *x.shape[1:]) if x.ndim else ()
        if not x.is_floating_point():
            return x.flatten()[torch.randint(x.numel(), shape, generator=generator)]
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return x.double().mean() + (x.double().std() if x.numel() > 1 else 1.0) * noise

    return tree_map_only(Tensor, draw, example)


@torch.no_grad()
def outputs(model: nn.Module, example: Example) -> list[Tensor]:
    """Return every tensor that the model gives in eval mode, from a fixed random state."""
    torch.manual_seed(0)
    args, kwargs = call_arguments(tree_map_only(Tensor, Tensor.clone, example))
    return list(tensors_in(model.eval()(*args, **kwargs)))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of an output of any form."""
    if isinstance(value, Tensor):
        yield torch.view_as_real(value) if value.is_complex() else value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)
    elif hasattr(value, "__dict__"):
        yield from tensors_in(vars(value))


def apart(expected: list[Tensor], got: list[Tensor]) -> float:
    """Return the largest difference of a tensor relative to its largest entry."""
    if not expected or [x.shape for x in expected] != [x.shape for x in got]:
        return float("inf")
    worst = 0.0
    for a, b in zip(expected, got, strict=True):
        a, b = a.detach(), b.detach()
        if not a.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(a, b) else float("inf"))
        elif a.numel():
            a, b = (torch.where(x.abs() > 1e30, x.sign(), x) for x in (a, b))
            difference = float((a - b).abs().max()) / (float(a.abs().max()) or 1.0)
            worst = max(worst, difference if difference == difference else float("inf"))
    return worst


def difference(model: nn.Module, small: nn.Module, mask: Mask, example: Example) -> float:
    """Return how far the small network is from the masked one, on inputs that neither has seen."""
    reference, candidate = masked(model, mask), copy.deepcopy(small).double()
    worst = 0.0
    for seed, more in ((11, 0), (12, 1)):
        given = fresh(example, seed, more)
        expected = outputs(reference, given)
        assert all(x.isfinite().any() for x in expected if x.is_floating_point())
        worst = max(worst, apart(expected, outputs(candidate, given)))
    return worst


def state(model: nn.Module) -> dict[str, Any]:
    """Return all that must not change of a network while it is pruned."""
    tensors = [*model.named_parameters(remove_duplicate=False)]
    tensors += [*model.named_buffers(remove_duplicate=False)]
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks")
    return {
        "values": {name: x.detach().clone() for name, x in (*tensors, *model.state_dict().items())},
        "objects": {name: id(x) for name, x in tensors},
        "gradients": {name: (x.requires_grad, id(x.grad)) for name, x in tensors},
        "modules": {name: (id(m), type(m), m.training) for name, m in model.named_modules()},
        "hooks": [[dict(getattr(m, kind)) for kind in hooks] for m in model.modules()],
        "keys": list(model.state_dict()),
    }


def same(before: Any, after: Any) -> bool:
    """Say whether two states are the same, tensors bit by bit."""
    if isinstance(before, Tensor):
        return torch.equal(before, after) and before.dtype == after.dtype
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(before[k], after[k]) for k in before)
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(same, before, after))
    return bool(before == after)
