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
from prunus.space.tracer import cloned
from prunus.types import Example, Keep, Mask, call_arguments


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
    redrawn = _redrawn(model) if check else None
    failures = []
    for form, build in forms.items():
        try:
            small = build(model)
            if not check:
                return Shrunk(small, form, None)
            verification = verify(mask, small, example, model=model)
            if verification.passed and redrawn is not None:
                verification = _worse(verification, mask, build(redrawn), redrawn, example)
            if verification.passed:
                _check_training(model, small, example)
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


def _worse(
    first: Verification, mask: Mask, small: nn.Module, model: nn.Module, example: Example
) -> Verification:
    """Compare once more, with random weights, and return the worse of the two outcomes."""
    try:
        second = verify(mask, small, example, model=model, random_inputs=False)
    except EquivalenceError as error:
        if "not finite" in str(error):
            return first  # random weights are not always weights that the network can run with
        raise
    worst = max(first.max_relative_difference, second.max_relative_difference)
    return Verification(worst, first.dtype, first.inputs, first.passed and second.passed)


def _redrawn(model: nn.Module) -> nn.Module:
    """Return a copy with random weights of the same scale.

    A zero-initialised head, a gate at zero or a unit that never fires hides everything before it,
    and a comparison of what is hidden proves nothing.
    """
    redrawn = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in redrawn.parameters():
            if parameter.is_floating_point() and parameter.numel():
                scale = float(parameter.double().square().mean().sqrt())
                scale = min(scale, 1.0) if 0 < scale < float("inf") else 0.1
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return redrawn


def _check_training(model: nn.Module, small: nn.Module, example: Example) -> None:
    """Run the small network in train mode where the dense one can: it may use other layers there.

    Raises:
        EquivalenceError: Only the dense network runs.
    """
    args, kwargs = call_arguments(cloned(example))
    for network, needed in ((model, False), (small, True)):
        trained = copy.deepcopy(network).train()
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                trained(*args, **kwargs)
        except Exception as error:
            if not needed:
                return
            raise EquivalenceError(
                f"the small network fails in train mode, where the dense one runs: {error}. Layers "
                "used in training alone, such as auxiliary heads, are not seen; take them off."
            ) from error
