"""How much each layer alone can lose: the accuracy without some of its units, without training."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunus.criteria import Calibration, Deviations, Evidence, Learned
from prunus.methods import METHODS, Method
from prunus.pruning.plan import Plan, resolve
from prunus.pruning.progress import tracks
from prunus.selectors import TopK
from prunus.space.unwrap import unwrapped
from prunus.types import Example, Mask, Target

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class LayerScan:
    """One layer, pruned alone.

    Attributes:
        name: The layer or parameter.
        units: How many it has.
        values: What was measured at each sparsity, such as the accuracy.
        thresholds: In standard deviations of the layer's weights, the `q` of `prunus.methods.han`
            that removes as much; empty where units are not single weights.
    """

    name: str
    units: int
    values: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Sensitivity:
    """What was measured with each layer alone pruned.

    Attributes:
        dense: What was measured of the whole network.
        sparsities: How much of a layer was gone, in rising order.
        layers: In order of use.
    """

    dense: float
    sparsities: tuple[float, ...]
    layers: tuple[LayerScan, ...]

    def largest(self, tolerance: float) -> dict[str, float]:
        """Return for each layer the largest sparsity up to which the drop stays in `tolerance`.

        Args:
            tolerance: How much may be lost, such as 0.01 of accuracy.

        Returns:
            Layer -> sparsity, 0.0 where even the smallest one loses more.
        """
        return {
            layer.name: self.sparsities[count - 1] if count else 0.0
            for layer, count in self._counts(tolerance)
        }

    def q(self, tolerance: float) -> dict[str, float]:
        """Return the thresholds for `prunus.methods.han(q=...)` that prune as `largest` says.

        With `std="original"` only the first round does so, and later ones remove what retraining
        has made small; with han's default each round prunes on, by what is left.

        Args:
            tolerance: How much each layer alone may lose.

        Raises:
            ValueError: The units are not single weights, so there is no such threshold.
        """
        if any(not layer.thresholds for layer in self.layers):
            raise ValueError(
                "thresholds are for single weights, but others were scanned; scan with "
                "method='magnitude'."
            )
        return {
            layer.name: layer.thresholds[count - 1] if count else 0.0
            for layer, count in self._counts(tolerance)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def _counts(self, tolerance: float) -> list[tuple[LayerScan, int]]:
        found = []
        for layer in self.layers:
            passing = [self.dense - value <= tolerance for value in layer.values]
            found.append((layer, [*passing, False].index(False)))
        return found


def sensitivity(
    model: nn.Module,
    example: Example,
    measure: Callable[[nn.Module], float],
    *,
    method: Method | str = "magnitude",
    sparsities: Sequence[float] = SPARSITIES,
    calibration: Calibration | None = None,
    exact: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> Sensitivity:
    """Prune every layer alone, at several sparsities, and measure the network without training it.

    Source: Han, Pool, Tran and Dally, NeurIPS 2015, arXiv:1506.02626, section 4.3. Weights are
    masked in place and put back, to the bit, also when `measure` fails: nothing is copied but the
    tensors of one layer.

    Args:
        model: The trained network.
        example: An input of it.
        measure: Says how good a network is, larger = better: (model) -> its accuracy, say. It sees
            to the mode itself and leaves weights alone.
        method: Its units and its criterion decide what goes first in a layer.
        sparsities: Shares of a layer's units that go, each in (0, 1).
        calibration: Samples for criteria that look at data.
        exact: See `prunus.prune`.
        seed: Of criteria that choose at random.
        progress: Draw how far it is, where standard error is a terminal.

    Raises:
        ValueError: A sparsity is out of range, or the method has no criterion or nothing to prune.

    Example:
        >>> from prunus.methods import han
        >>> network, x = nn.Linear(4, 2), torch.eye(4)
        >>> labels = network(x).argmax(dim=1)
        >>> def accuracy(net):
        ...     return float((net(x).argmax(dim=1) == labels).float().mean())
        >>> method = han(q=sensitivity(network, x, accuracy).q(tolerance=0.01))
    """
    shares = tuple(sorted(set(sparsities)))
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"sparsities must be in (0, 1), got {tuple(sparsities)}.")
    model = unwrapped(model)
    method = ranking(method)
    plan = Plan(model, example, method, None, exact=exact, calibration=calibration)
    criterion = method.criterion
    assert criterion is not None
    evidence = Evidence(
        weights={name: p.detach() for name, p in model.named_parameters()},
        generator=torch.Generator().manual_seed(seed),
        model=model,
        example=example,
        calibration=calibration,
    )
    scores = criterion.score(plan.groups, evidence)
    single = not plan.method.structured and getattr(plan.method.granularity, "unit", "") == "weight"
    deviations = Deviations().score(plan.groups, evidence) if single else {}
    chooser = TopK(scope="layer", min_keep=1)
    layers = []
    with tracks(shown=progress) as track:
        for group in track(plan.groups, "layers"):
            values, thresholds = [], []
            for share in shares:
                target = Target(sparsity=share)
                keep = chooser.select(plan.space, [group], scores, target, evidence).keep
                values.append(_masked(model, plan.mask(keep), measure))
                if single:
                    thresholds.append(float(deviations[group.name][keep[group.name]].min()))
            layers.append(LayerScan(group.name, group.size, tuple(values), tuple(thresholds)))
    return Sensitivity(float(measure(model)), shares, tuple(layers))


def ranking(method: Method | str) -> Method:
    """Return a method, or that of a name, which can rank units without having trained.

    Raises:
        ValueError: It cannot, or there is no such method.
        TypeError: It is no method.
    """
    found = resolve(method)
    if not _ranks(found):
        raise ValueError(
            f"method {found.name!r} has no criterion to rank units by before training; take "
            f"one of {', '.join(name for name, make in METHODS.items() if _ranks(make()))}."
        )
    return found


def _ranks(method: Method) -> bool:
    """Say whether a method can tell which units go first, without having trained."""
    return not isinstance(method.criterion, Learned | None)


@torch.no_grad()
def _masked(model: nn.Module, mask: Mask, measure: Callable[[nn.Module], float]) -> float:
    """Measure the network with a mask on it, and put back what was there."""
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(model.named_buffers(remove_duplicate=False))
    before = {name: tensors[name].clone() for name, kept in mask.items() if not kept.all()}
    try:
        for name in before:
            tensors[name].masked_fill_(~mask[name].to(tensors[name].device), 0)
        return float(measure(model))
    finally:
        for name, values in before.items():
            tensors[name].copy_(values)
