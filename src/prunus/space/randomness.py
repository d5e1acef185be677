"""Whether a network draws random numbers where it should not: in eval mode."""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunus.space.inputs import cloned
from prunus.space.recorder import schema
from prunus.space.running import preserved
from prunus.types import Example, call_arguments


def random_calls(model: nn.Module, example: Example) -> list[str]:
    """Return the ATen operations with which a network draws random numbers in eval mode."""
    args, kwargs = call_arguments(cloned(example))
    with preserved(model), _Draws() as draws:
        model(*args, **kwargs)
    return list(dict.fromkeys(draws.found))


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes random operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            known = schema(func).defaults
            given = known | dict(zip(known, args, strict=False)) | kwargs
            if given.get("dropout_p", 1.0) > 0:  # fused attention without dropout draws nothing
                self.found.append(schema(func).name)
        return func(*args, **kwargs)
