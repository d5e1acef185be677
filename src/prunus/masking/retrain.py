"""Hard masks with what belongs to retraining: adjusted dropout, and layers that are held fixed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

from prunus.masking.base import Masking, Site
from prunus.masking.hard import Hard, clear_state
from prunus.space.running import preserved
from prunus.types import Mask, call_arguments


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """Holds the mask while the network is retrained as in Han et al.

    Source: Han, Pool, Tran and Dally, NeurIPS 2015, arXiv:1506.02626, sections 3.2 and 3.3.

    Args:
        dropout: Lower the rate of every dropout module to D sqrt(C_r / C_o), with C_o and C_r the
            dense and the remaining connections of the layers whose outputs it drops. The modules'
            own `p` changes and stays changed in the result; `state` holds the original rates.
        local: After an update, layers whose mask it left as it was stay fixed, with their biases,
            until the next; after the last one all are trained. Normalisations are always trained.
    """

    dropout: bool = True
    local: bool = False

    def on(self, site: Site) -> Masking:
        """Begin on a network."""
        return Retraining(site, self)


class Retraining(Hard):
    """The masks of one network that is pruned and retrained.

    Args:
        site: Where.
        how: What belongs to it.
    """

    def __init__(self, site: Site, how: Retrain) -> None:
        super().__init__(site.model, site.dense)
        self._how = how
        self._weights_of = _drops(site) if how.dropout else {}
        self._modules = dict(site.model.named_modules())
        self._rates = {name: float(self._modules[name].p) for name in self._weights_of}
        self._pruned = [group.name for group in site.groups]
        self._fixed: dict[str, Tensor] = {}

    def set(self, mask: Mask, optimizer: Optimizer | None = None) -> None:
        """Replace the mask, adjust dropout, and fix what the mask leaves as it was."""
        before = self.mask
        self._release(optimizer)
        super().set(mask, optimizer)
        self._adjust()
        if self._how.local:
            same = [name for name in self._pruned if _equal(before.get(name), self.mask.get(name))]
            self._fix(same if len(same) < len(self._pruned) else [])

    def load(self, mask: Mask) -> None:
        """Take up a mask that was in place before."""
        super().set(mask)

    @torch.no_grad()
    def apply(self, rate: float | None = None, scale: float = 1.0) -> None:
        """Put the fixed layers back and set the masked weights to zero."""
        for name, values in self._fixed.items():
            self._parameters[name].copy_(values)
        super().apply()

    def settle(self) -> None:
        """Train everything from now on."""
        self._fixed = {}

    def state(self) -> Mapping[str, Tensor]:
        """Return the original dropout rates, and which layers are fixed."""
        rates = {
            f"dropout.{name}": torch.tensor(rate, dtype=torch.float64)
            for name, rate in self._rates.items()
        }
        return rates | {
            f"fixed.{name}": torch.tensor(name in self._fixed)
            for name in (self._pruned if self._how.local else ())
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore rates and fixed layers; the weights are those that the model has now."""
        for name in self._rates:
            self._rates[name] = float(state[f"dropout.{name}"])
        self._adjust()
        self._fix([name for name in self._pruned if bool(state.get(f"fixed.{name}", False))])

    def _adjust(self) -> None:
        for name, weights in self._weights_of.items():
            dense = sum(self._parameters[weight].numel() for weight in weights)
            left = sum(
                int(self.mask[weight].sum())
                if weight in self.mask
                else self._parameters[weight].numel()
                for weight in weights
            )
            self._modules[name].p = self._rates[name] * sqrt(left / dense)

    def _fix(self, weights: list[str]) -> None:
        for name in weights:
            layer, dot, own = name.rpartition(".")
            for one in (name, layer + dot + own.replace("weight", "bias", 1)):
                if one in self._parameters:
                    self._fixed[one] = self._parameters[one].detach().clone()

    def _release(self, optimizer: Optimizer | None) -> None:
        """Let fixed layers train again, without the momentum that gathered meanwhile."""
        if optimizer is not None:
            for name in self._fixed:
                weight = self._parameters[name]
                clear_state(optimizer, weight, torch.zeros(weight.shape, dtype=torch.bool))
        self._fixed = {}


def _drops(site: Site) -> dict[str, list[str]]:
    """Return for each dropout module the weights last used before it: name -> parameters.

    Dropout of the network's own input belongs to no layer and is left out.
    """
    weights: dict[str, list[str]] = {}
    for weight in site.space.weights if site.space is not None else ():
        weights.setdefault(weight.name.rpartition(".")[0], []).append(weight.name)
    found: dict[str, list[str]] = {}
    last: list[str] = []

    def note(name: str) -> Callable[..., None]:
        def before(*_: object) -> None:
            if name in weights:
                last[:] = weights[name]
            elif last:
                found[name] = list(dict.fromkeys([*found.get(name, []), *last]))

        return before

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in site.model.named_modules()
        if name in weights or isinstance(module, _DropoutNd)
    ]
    try:
        args, kwargs = call_arguments(site.example)
        with preserved(site.model):
            site.model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)
