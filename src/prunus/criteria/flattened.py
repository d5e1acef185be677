"""Feature maps that a linear layer reads flattened: which of its inputs were one map."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunus.criteria.base import Evidence
from prunus.space.running import preserved, tensors_in
from prunus.types import call_arguments

Shapes = Sequence[torch.Size]


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the shapes of what operations put out, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`."""
        out = func(*args, **(kwargs or {}))
        self.shapes += [tensor.shape for tensor in tensors_in(out)]
        return out


def before_flattening(evidence: Evidence, layers: Sequence[str]) -> dict[str, Shapes]:
    """Return the shapes that layers which read one row per sample may have had their input in.

    Returns:
        Layer -> the shapes (samples, ...), of three dimensions or more, of what the network has
        computed before it with as many entries, the latest first; none for a layer that reads rows
        of tokens.
    """
    found: dict[str, Shapes] = {}
    seen = _Seen()

    def note(name: str) -> Callable[..., None]:
        def before(_: nn.Module, given: tuple[Any, ...]) -> None:
            x = given[0] if given else None
            if isinstance(x, Tensor) and x.ndim == 2:
                rows = [s for s in reversed(seen.shapes) if len(s) > 2 and s[0] == len(x)]
                found.setdefault(name, [s for s in rows if prod(s) == x.numel()])

        return before

    args, kwargs = call_arguments(evidence.example)
    with preserved(evidence.model), ExitStack() as hooks:
        for name in layers:
            module = evidence.model.get_submodule(name)
            hooks.callback(module.register_forward_pre_hook(note(name)).remove)
        with seen:
            evidence.model(*args, **kwargs)
    return found


def as_maps(index: Tensor, shapes: Shapes) -> Tensor:
    """Arrange the inputs that each unit owns as maps.

    Channels lie before or behind the pixels in what was flattened. Inputs that were no map, such as
    what another linear layer has computed, are maps of a single pixel.

    Args:
        index: int64, shape (units, k).
        shapes: What `before_flattening` returned of the layer.

    Returns:
        int64, shape (units, maps, rows, columns).
    """
    units, count = index.shape
    for shape in sorted(shapes, key=len, reverse=True):
        rows, columns, size = prod(shape[2:-1]), shape[-1], prod(shape[2:])
        if count % size == 0 and (index.view(units, -1, size).diff(dim=2) == 1).all():
            return index.view(units, -1, rows, columns)
        rows, columns, channels = prod(shape[1:-2]), shape[-2], shape[-1]
        if count == rows * columns and (index.diff(dim=1) == channels).all():
            return index.view(units, 1, rows, columns)
    return index[:, :, None, None]
