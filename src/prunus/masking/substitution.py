"""Tensors that stand in for parameters while a model runs.

A gate or a sampled mask is a factor of the weights inside the forward only. Gradients reach the
parameter through the factor, dL/dw = m * dL/d(w m), and everything outside sees a plain module.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Compute = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""The parameters by name -> what stands in for some of them, each of the same shape."""


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`, fit to be trained with even where inference mode is on."""
    if tensor.device == device:
        return tensor
    with torch.inference_mode(False):
        return tensor.detach().to(device).requires_grad_(tensor.requires_grad)


class Substitution:
    """Replaces parameters by computed tensors during each forward of a model.

    `compute` runs when the forward begins, with whatever graph it makes, and the parameters are
    back when it ends, also by an error. There is one computation for a forward in which the model
    calls itself. Layers that share a parameter share what stands in for it. Copies of the model and
    pickles of it are plain modules, and a layer called alone is plain. Activation checkpointing
    inside the model is refused, since it runs layers again when the forward is over.

    Args:
        model: The root module, without wrappers such as DistributedDataParallel or torch.compile,
            which may be put around it.
        compute: Called at the beginning of each forward.
    """

    def __init__(self, model: nn.Module, compute: Compute) -> None:
        self._model = model
        self._compute = compute
        self._depth = 0
        self._places: dict[str, list[tuple[nn.Module, str]]] = {}
        first = {id(p): name for name, p in model.named_parameters()}
        for module in model.modules():
            for leaf, parameter in module._parameters.items():
                if parameter is not None:
                    self._places.setdefault(first[id(parameter)], []).append((module, leaf))
        self._replaced: dict[str, nn.Parameter] = {}
        self._hooks = [
            model.register_forward_pre_hook(_Hook(self._begin), prepend=True),
            model.register_forward_hook(_Hook(self._end), always_call=True),
        ]
        owners = dict.fromkeys(module for places in self._places.values() for module, _ in places)
        self._hooks += [
            module.register_forward_pre_hook(_Hook(self._refuse_again))
            for module in owners
            if module is not model
        ]

    @property
    def active(self) -> bool:
        """Whether the model is running."""
        return self._depth > 0

    def restore(self) -> None:
        """Put the parameters back, where an interrupt (ctrl-C) has ended a forward."""
        for name, parameter in self._replaced.items():
            self._put(name, parameter)
        self._replaced, self._depth = {}, 0

    def detach(self) -> None:
        """Leave the model for good."""
        self.restore()
        for hook in self._hooks:
            hook.remove()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _begin(self, model: nn.Module) -> None:
        if model is not self._model:
            raise RuntimeError(
                f"{type(model).__name__} was replicated while its parameters are substituted; use "
                "DistributedDataParallel in place of DataParallel."
            )
        if self._depth == 0:
            parameters: dict[str, nn.Parameter] = {
                name: places[0][0]._parameters[places[0][1]]  # type: ignore[misc]
                for name, places in self._places.items()
            }
            computed = self._compute(parameters)
            for name, value in computed.items():
                self._replaced[name] = parameters[name]
                self._put(name, value)
        self._depth += 1

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _end(self, model: nn.Module) -> None:
        if self._depth == 1:
            self.restore()
        elif self._depth:  # 0 where the computation has failed
            self._depth -= 1

    def _refuse_again(self, module: nn.Module) -> None:
        if self._depth == 0 and torch._C._current_graph_task_id() != -1:  # in a backward pass
            raise RuntimeError(
                f"activation checkpointing runs a {type(module).__name__} again during the "
                "backward pass, when its masked weights are gone; turn it off while the method "
                "learns."
            )

    def _put(self, name: str, value: Tensor) -> None:
        for module, leaf in self._places[name]:
            module._parameters[leaf] = value  # type: ignore[assignment]
            if isinstance(module, nn.RNNBase):  # it keeps a list of its weights
                module._flat_weights = [
                    getattr(module, other, None) for other in module._flat_weights_names
                ]


class _Hook:
    """A hook of one module, which does nothing in a copy of it."""

    def __init__(self, act: Callable[[nn.Module], None] | None = None) -> None:
        self._act = act

    def __call__(self, module: nn.Module, *_: Any) -> None:
        if self._act is not None:
            self._act(module)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Hook":
        return _Hook()

    def __reduce__(self) -> tuple[type["_Hook"], tuple[()]]:
        return _Hook, ()
