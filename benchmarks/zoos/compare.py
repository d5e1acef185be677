"""Whether a small network computes what the masked original does, found out without Prunus."""

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from prunus.types import Example, Mask, call_arguments

TOLERANCE = {"float64": 1e-9, "mixed": 1e-4, "float32": 1e-4}
"""Largest difference of an output tensor, relative to its largest entry.

"mixed" is a network in float64 that itself computes some steps in a lower precision.
"""


def compared(
    dense: nn.Module, small: nn.Module, mask: Mask, example: Example, seed: int
) -> dict[str, Any]:
    """Compare the small network with the masked one on an input that neither has seen.

    The first precision and input with which the original works is used: float64 before float32, a
    fresh input before the example itself.

    Returns:
        The status, the difference, and `effect`: by how much the mask changes the outputs. Where
        it changes nothing, equality says nothing.
    """
    masked = copy.deepcopy(dense)
    for dtype, fresh in itertools.product((torch.float64, torch.float32), (True, False)):
        given = redrawn(example, seed if fresh else None, dtype)
        cast(masked, dtype)
        try:
            with LowerPrecision(dtype) as lower:
                unmasked = outputs(masked, given)
        except Exception as error:
            failure = error
            continue
        if finite(unmasked):
            break
        failure = RuntimeError("the original's outputs are not finite")
    else:
        return {"status": "crash", "error": f"the original cannot be run: {text(failure)}"}
    multiply(masked, mask)
    expected = outputs(masked, given)
    effect = difference(unmasked, expected)
    del masked, unmasked
    precision = "mixed" if lower.met else str(dtype).removeprefix("torch.")
    known = {"precision": precision, "fresh_input": fresh, "effect": effect}
    if not finite(expected):
        return known | {"status": "crash", "error": "the masked original's outputs are not finite"}
    candidate = copy.deepcopy(small)
    cast(candidate, dtype)
    try:
        apart = difference(expected, outputs(candidate, given))
    except Exception as error:
        return known | {"status": "wrong", "error": f"the result cannot be run: {text(error)}"}
    right = apart <= TOLERANCE[precision]
    problem = None if right else f"outputs differ by {apart:.2g} ({precision})"
    return known | {
        "status": "preserved" if right else "wrong",
        "difference": apart,
        "error": problem,
    }


class LowerPrecision(TorchDispatchMode):
    """Notices whether anything is computed in another floating-point type than the network's."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.met = dtype, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at what it returns."""
        out = func(*args, **(kwargs or {}))
        floats = (x for x in tree_leaves(out) if isinstance(x, Tensor) and x.is_floating_point())
        self.met |= any(x.dtype != self.dtype and x.ndim > 0 for x in floats)
        return out


@torch.no_grad()
def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Set the precision of all real tensors; `Module.to` would drop the imaginary parts too."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


@torch.no_grad()
def multiply(model: nn.Module, mask: Mask) -> None:
    tensors = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers(remove_duplicate=False))
    for name, kept in mask.items():
        tensors[name].mul_(kept)


def redrawn(example: Example, seed: int | None, dtype: torch.dtype) -> Example:
    """Return an input alike in mean and spread; integers are drawn from the values present."""
    generator = torch.Generator().manual_seed(seed or 0)

    def draw(x: Tensor) -> Tensor:
        if x.is_floating_point():
            if seed is None or x.numel() < 2:
                return x.to(dtype)
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            return (x.double().mean() + x.double().std() * noise).to(dtype)
        if seed is None or x.is_complex() or not x.numel():
            return x.clone()
        values = x.unique()
        return values[torch.randint(len(values), x.shape, generator=generator)]

    return tree_map_only(Tensor, draw, example)  # type: ignore[no-any-return]


@torch.no_grad()
def outputs(model: nn.Module, example: Example) -> list[Tensor]:
    return call(model.eval(), tree_map_only(Tensor, Tensor.clone, example))


def call(model: nn.Module, example: Example) -> list[Tensor]:
    """Run the model with a fixed random state and return the tensors of its output."""
    torch.manual_seed(0)
    args, kwargs = call_arguments(example)
    return list(tensors_in(model(*args, **kwargs), set()))


def tensors_in(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield torch.view_as_real(value) if value.is_complex() else value
    elif id(value) not in seen and not isinstance(value, str | bytes | type):
        seen.add(id(value))
        parts: Iterable[Any] = ()
        if isinstance(value, Mapping):
            parts = value.values()
        elif isinstance(value, list | tuple | set):
            parts = value
        elif hasattr(value, "__dict__"):
            parts = vars(value).values()
        for part in list(parts):
            yield from tensors_in(part, seen)


def difference(expected: list[Tensor], got: list[Tensor]) -> float:
    """Return the largest difference of a tensor relative to its largest entry, inf for a shape."""
    if [x.shape for x in expected] != [x.shape for x in got] or not expected:
        return float("inf")
    worst = 0.0
    for a, b in zip(expected, got, strict=True):
        if not a.is_floating_point():
            worst = max(worst, 0.0 if torch.equal(a, b) else float("inf"))
        elif a.numel():
            a, b = usual(a), usual(b)
            apart, size = float((a - b).abs().max()), float(a.abs().max())
            if apart != apart:  # not a number
                return float("inf")
            worst = max(worst, apart / size if size else apart)
    return worst


def finite(tensors: list[Tensor]) -> bool:
    return all(bool(usual(x).isfinite().all()) for x in tensors if x.is_floating_point())


def usual(x: Tensor) -> Tensor:
    """Return the tensor with 1 and -1 for infinities and for the numbers that stand for them."""
    return torch.where(x.abs() > 1e30, x.sign(), x)


def text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:600]
