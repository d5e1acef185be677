"""What layers read and put out in one run, and the sums that their outputs go into."""

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from prunus.criteria.base import SeenAll
from prunus.criteria.calibration import forward
from prunus.selectors.reconstruction.windows import outputs
from prunus.space.running import preserved
from prunus.types import Example

_SUMS = ("add", "add_", "__add__", "__iadd__", "__radd__")


@dataclass
class Passage:
    """One layer in one run.

    Attributes:
        read: Its input.
        made: Its output.
        scale: By what a batch norm right behind it multiplies each output, shape (out,); None where
            there is none.
        other: What the output, or that of the batch norm, is added to: in a residual network the
            shortcut; None where it is not added as it is.
    """

    read: Tensor
    made: Tensor
    scale: Tensor | None = None
    other: Tensor | None = None


class Watch(TorchFunctionMode):
    """Runs a model and follows what layers put out into batch norms and sums.

    A tensor is known by its identity, as long as nothing writes into it. A run ends when all layers
    have been reached and nothing can be added to what they put out any more, because the model has
    let go of it.

    Args:
        model: Run in eval mode; it stays as it was.
        layers: Names of the layers.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str]) -> None:
        super().__init__()
        self.model = model
        self.layers = {model.get_submodule(name): name for name in layers}
        self.found: dict[str, Passage] = {}
        self._followed: Any = WeakIdKeyDictionary()

    def run(self, inputs: Example) -> dict[str, Passage]:
        """Return what the layers do with `inputs`; those that are not reached are left out.

        Raises:
            ValueError: The model fails on them.
        """
        self.found, self._followed = {}, WeakIdKeyDictionary()
        with preserved(self.model), ExitStack() as stack:
            for module in self.model.modules():
                if module in self.layers or isinstance(module, _BatchNorm):
                    stack.callback(module.register_forward_hook(self._after).remove)
            stack.enter_context(self)
            stack.enter_context(suppress(SeenAll))
            forward(self.model, inputs)
        return self.found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`; where it adds a tensor to a followed one, note it first."""
        if len(self.found) == len(self.layers) and not any(map(self._of, [*self._followed])):
            raise SeenAll
        if getattr(func, "__name__", "") in _SUMS and len(args) == 2 and not kwargs:
            for one, other in (args, args[::-1]):
                passage = self._of(one)
                if passage is not None and isinstance(other, Tensor) and one.shape == other.shape:
                    passage.other = other.clone()
        return func(*args, **(kwargs or {}))

    def _after(self, module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        name = self.layers.get(module)
        if name is not None and name not in self.found:
            made = Passage(given[0].clone(), out.clone())
            self._follow(out, made)  # first: what is found but not followed ends the run
            self.found[name] = made
        elif isinstance(module, _BatchNorm) and module.running_var is not None:
            passage = self._of(given[0])
            if passage is not None and passage.other is None:
                factor = (module.running_var.double() + module.eps).rsqrt()
                passage.scale = factor if module.weight is None else factor * module.weight.double()
                self._follow(out, passage)

    def _follow(self, tensor: Tensor, passage: Passage) -> None:
        self._followed[tensor] = (tensor._version, passage)

    def _of(self, tensor: Any) -> Passage | None:
        known = self._followed.get(tensor) if isinstance(tensor, Tensor) else None
        return known[1] if known is not None and tensor._version == known[0] else None


def missing(layer: nn.Module, before: Passage, now: Passage) -> tuple[Tensor, Tensor]:
    """Return what the outputs of a layer lack, and what it would have to add for that.

    Where its output goes through a batch norm and into a sum, that of the norm should also make up
    for what has become of the other operand: Y1 - Y1' + Y2 of a residual branch.

    Args:
        layer: A convolution or linear layer.
        before: In the network as it was.
        now: In the network as it is.

    Returns:
        What is lacking behind the batch norm, and the factor of the norm; float64, of shape
        (samples, outputs, positions) and (outputs,).
    """
    was, made = (outputs(layer, passage.made).double() for passage in (before, now))
    factor = torch.ones_like(made[0, :, 0]) if now.scale is None else now.scale
    lacking = (was - made) * factor[:, None]
    if before.other is not None and now.other is not None:
        lacking += outputs(layer, before.other).double() - outputs(layer, now.other).double()
    return lacking, factor
