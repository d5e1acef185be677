"""Whether a network gives numbers that can be compared, found out before anything is decided."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunus.errors import EquivalenceError
from prunus.space.check import verify
from prunus.space.inputs import cloned
from prunus.space.running import output_tensors, preserved
from prunus.types import Example, call_arguments


def refuse_nan(model: nn.Module, examples: Iterable[Example]) -> None:
    """Refuse inputs for which no small network could be proved equal.

    Raises:
        ValueError: The outputs contain NaN, in float64 too.
    """
    for given in examples:
        args, kwargs = call_arguments(cloned(given))
        with preserved(model):
            found = output_tensors(model(*args, **kwargs))
        if any(map(_nan, found)) and not _in_double(model, given):
            raise ValueError(
                f"the outputs of {type(model).__name__} contain NaN for the example, so nothing "
                f"could be proved equal: {_why(model, given)}."
            )


def _nan(x: Tensor) -> bool:
    return bool(x.isnan().any())


def _in_double(model: nn.Module, given: Example) -> bool:
    """Say whether the outputs are numbers in float64, in which they are compared."""
    try:
        verify(model, model, given, random=False)
    except EquivalenceError:
        return False
    return True


def _why(model: nn.Module, given: Example) -> str:
    for leaf in tree_leaves(given):
        if isinstance(leaf, Tensor) and _nan(leaf):
            return "the example itself holds NaN; pass one of finite numbers"
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    for kind, holds in (("NaN", torch.isnan), ("inf", torch.isinf)):
        for name, tensor in own.items():
            if holds(tensor).any() and (kind == "NaN" or isinstance(tensor, nn.Parameter)):
                return f"{name!r} holds {kind}; load finite weights"
    if any(isinstance(x, Tensor) and x.isinf().any() for x in tree_leaves(given)):
        return "the example holds inf; pass one of finite numbers"
    return (
        "its weights and the example are finite, so they are too large for each other; pass an "
        "example such as it is trained on"
    )
