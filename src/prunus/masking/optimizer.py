"""Taking an optimizer along when its parameters are replaced by smaller ones."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.space.remove import sliced


def carry_over(
    optimizer: Optimizer,
    old: nn.Module,
    new: nn.Module,
    index: Mapping[str, Mapping[int, Tensor]],
    gone: Collection[str] = (),
) -> None:
    """Let `optimizer` go on with `new`'s parameters, with groups kept and state sliced.

    Args:
        optimizer: Holds parameters of `old`; changed in place.
        old: The network before removal.
        new: The network after it, with the same parameter names.
        index: Parameter name -> dimension -> positions that stayed.
        gone: Names of parameters that the new network does without.

    Raises:
        ValueError: A parameter has no successor, or its state cannot be sliced (factored moments);
            the optimizer stays as it was.
    """
    named = dict(old.named_parameters())
    lost = {id(named[name]): named[name] for name in gone if name in named}
    names = {id(x): name for name, x in named.items() if id(x) not in lost}
    fresh = dict(new.named_parameters())
    _check(optimizer, names, fresh)
    states = {}
    for parameter, state in optimizer.state.items():
        name = names.get(id(parameter))
        if name is not None:
            states[parameter] = {
                key: _follow(value, parameter, index.get(name, {})) for key, value in state.items()
            }
    for parameter in lost.values():  # nothing can fail from here on
        optimizer.state.pop(parameter, None)
    for parameter, state in states.items():
        del optimizer.state[parameter]
        optimizer.state[fresh[names[id(parameter)]]] = state
    for group in optimizer.param_groups:
        held = group["params"]
        stay = [p for p in held if id(p) not in lost]
        held[:] = [fresh[names[id(p)]] if id(p) in names else p for p in stay]


def _follow(value: Any, parameter: Tensor, index: Mapping[int, Tensor]) -> Any:
    """Return a state sliced as its parameter; of factored moments, the dimensions they have."""
    if not isinstance(value, Tensor) or not _repeats(value, parameter):
        return value
    return sliced(value, {dim: kept for dim, kept in index.items() if value.shape[dim] > 1})


def _repeats(value: Tensor, parameter: Tensor) -> bool:
    """Say whether a state has the sizes of its parameter, or one where it is an average."""
    return value.ndim == parameter.ndim and all(
        size in (1, whole) for size, whole in zip(value.shape, parameter.shape, strict=True)
    )


def _check(optimizer: Optimizer, names: Mapping[int, str], fresh: Mapping[str, Tensor]) -> None:
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(parameter) in names for parameter in held):
        raise ValueError(
            "the optimizer holds none of the model's parameters; pass the one that trains it."
        )
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names.get(id(parameter))
            if name is None:
                continue
            if name not in fresh:
                raise ValueError(
                    f"the small network has no {name!r} for the optimizer to go on with; make a "
                    "new optimizer for it."
                )
            for key, value in optimizer.state.get(parameter, {}).items():
                follows = isinstance(value, Tensor) and _repeats(value, parameter)
                if isinstance(value, Tensor) and value.numel() > 1 and not follows:
                    raise ValueError(
                        f"the optimizer's {key!r} of {name!r} has shape {tuple(value.shape)}, not "
                        f"the parameter's {tuple(parameter.shape)}, and cannot follow the removal; "
                        "make a new optimizer for the small network."
                    )
