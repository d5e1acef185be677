"""Removal with its proof: the first form of the small network that passes is returned."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from prunus.errors import EquivalenceError
from prunus.space.check import Verification, verify
from prunus.space.remove import remove
from prunus.space.rewrite import rewrite
from prunus.space.space import Space
from prunus.types import Example, Keep


@dataclass(frozen=True)
class Shrunk:
    """A smaller network and what is known of it.

    Attributes:
        model: The network.
        form: "original classes", or "rewritten graph" where the forward had sizes as constants.
        verification: The comparison with the masked network, or None when it was turned off.
    """

    model: nn.Module
    form: str
    verification: Verification | None


def shrink(
    model: nn.Module, space: Space, keep: Keep, example: Example, *, check: bool = True
) -> Shrunk:
    """Remove what `keep` drops and prove the result equal to the masked network.

    The user's own classes with sliced tensors are tried first; where their forward has sizes
    written as constants, a graph of the same modules with those constants rewritten is tried.

    Args:
        model: The network `space` was traced from; it stays as it was.
        space: Its removable units.
        keep: Group name -> bool, shape (units,), True = kept.
        example: An input, as for `trace`.
        check: Compare in float64 (1e-10). Without it the first form is returned unproved.

    Raises:
        EquivalenceError: No form computes what the masked network does.
        EmptyLayerError: A layer would lose all its channels.
    """
    forms: dict[str, Callable[[nn.Module], nn.Module]] = {
        "original classes": lambda dense: remove(dense, space, keep),
        "rewritten graph": lambda dense: rewrite(dense, space, keep, example),
    }
    mask = space.mask(keep)
    awake = _awake(model) if check else None
    failures = []
    for form, build in forms.items():
        try:
            small = build(model)
            if not check:
                return Shrunk(small, form, None)
            verification = verify(mask, small, example, model=model)
            if verification.passed and awake is not None:
                verification = verify(mask, build(awake), example, model=awake)
        except EquivalenceError as error:
            failures.append(f"{form}: {error}")
            continue
        if verification.passed:
            return Shrunk(small, form, verification)
        failures.append(
            f"{form}: outputs differ by {verification.max_relative_difference:.2g} of the largest "
            "output"
        )
    raise EquivalenceError(
        "the network without the removed channels does not compute what the masked one does, so "
        "nothing was returned. " + "; ".join(failures)
    )


def _awake(model: nn.Module) -> nn.Module | None:
    """Return a copy in which weights that are all zero are random, or None if there are none.

    A zero-initialised head or normalisation hides everything before it, and a comparison of zeros
    proves nothing.
    """
    asleep = [
        name for name, p in model.named_parameters() if name.endswith("weight") and not p.any()
    ]
    if not asleep:
        return None
    awake = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in asleep:
            weight = awake.get_parameter(name)
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return awake
