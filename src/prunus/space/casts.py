"""Networks in another precision, and casts inside of them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunus.space.running import copied


def in_precision(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy in `dtype`, its complex tensors in the complex type of that precision."""
    small = copied(model)
    small._apply(lambda tensor: cast(tensor, dtype))  # type: ignore[no-untyped-call]
    for module in small.modules():  # tensors that are neither parameters nor buffers
        own = vars(module)
        own.update((name, cast(x, dtype)) for name, x in own.items() if isinstance(x, Tensor))
    return small


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Return a tensor of floating or complex numbers in the precision of `dtype`."""
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return value
    return value.to(dtype.to_complex() if value.is_complex() else dtype)


_LOWER = (torch.float32, torch.float16, torch.bfloat16)


class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, or prevents, that a network goes on in less than the float64 that it is given.

    Args:
        keep: Whether what is cast to less stays in float64. In real numbers that is the same.

    Attributes:
        lowered: Whether anything was cast to less.
    """

    def __init__(self, *, keep: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._keep = keep
        self.lowered = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, or its cast to float64, and look at what it gives."""
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") in _LOWER:
            if self._keep and args[0].dtype not in _LOWER and not args[0].is_complex():
                kwargs = {**kwargs, "dtype": torch.float64}
            self.lowered |= args[0].dtype == torch.float64 and not self._keep
        return func(*args, **kwargs)
