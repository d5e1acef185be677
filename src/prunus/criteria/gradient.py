"""Scores from gradients of a loss, and of the network's own flow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call

from prunus.criteria.base import Evidence, gradient
from prunus.space import UnitGroup
from prunus.space.running import output_tensors, preserved
from prunus.types import Scores, call_arguments


@dataclass(frozen=True)
class Taylor:
    """First-order estimate of what the loss loses with a unit: (sum over its weights of g w)^2.

    The mean over the calibration's batches. Source: Molchanov et al., CVPR 2019, arXiv:1906.10771,
    section 3.1, equation 8.
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the estimates, >= 0."""

        def squares(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
            values = {name: g * evidence.weights[name] for name, g in found.items()}
            return {group.name: _sums(group, values).square() for group in groups}

        return mean(squares(found) for found in evidence.gradients())


@dataclass(frozen=True)
class Connection:
    """|g w| with g the gradient over all batches: how much the loss depends on a connection.

    Run in train mode, since batch norms have no statistics before training. Source: Lee, Ajanthan
    and Torr, "SNIP", ICLR 2019, arXiv:1810.02340, section 4.1.
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the magnitudes, >= 0; of a filter their sum."""
        total, _ = summed(evidence.gradients(training=True))
        values = {name: (g * evidence.weights[name]).abs() for name, g in total.items()}
        return {group.name: _sums(group, values) for group in groups}


@dataclass(frozen=True)
class GradientFlow:
    """w (H g): the lower, the more the gradient's norm grows, or the less it shrinks, without it.

    Without a weight the squared norm of the gradient changes by about -2 w (H g): weights whose
    removal raises it have negative scores, and those that raise it most go first. H and g are those
    of the mean loss over all batches, and g holds what is scored only: no biases, no norms. Two
    passes over the calibration. Source: Wang, Zhang and Grosse, "GraSP", ICLR 2020,
    arXiv:2002.07376, section 4.2.
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the scores; of a filter their sum."""
        whole = mean(evidence.gradients(training=True))

        def products() -> Iterator[dict[str, Tensor]]:
            for loss, named in evidence.losses(training=True):
                own = gradient(loss, named, create_graph=True)
                flow = [(group.gather(whole) * group.gather(own)).sum() for group in groups]
                yield gradient(torch.stack(flow).sum(), named)

        values = {name: hg * evidence.weights[name] for name, hg in mean(products()).items()}
        return {group.name: _sums(group, values) for group in groups}


@dataclass(frozen=True)
class SynapticFlow:
    """|w dR/d|w||, with R the sum of the outputs for an input of ones and positive weights.

    Needs no data. Source: Tanaka et al., "SynFlow", NeurIPS 2020, arXiv:2006.05467, section 5.
    Deviation: floating-point inputs become ones and others stay as in the example; the flow is in
    float64, which does not overflow in deep networks.
    """

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the flow through each unit, >= 0.

        Raises:
            ValueError: What comes out does not grow with the weights.
        """
        model = evidence.model
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        positive = {n: _positive(x) for n, x in tensors.items()}
        named = {n: positive[n].requires_grad_() for n in evidence.weights if n in positive}
        args, kwargs = call_arguments(evidence.example)
        args = tuple(_ones(x) for x in args)
        kwargs = {key: _ones(x) for key, x in kwargs.items()}
        with preserved(model), torch.enable_grad():
            out = functional_call(model, positive, args, kwargs)
            flow = torch.stack([x.sum() for x in output_tensors(out) if x.requires_grad]).sum()
            found = gradient(flow, named)
        values = {name: (g * named[name]).detach().abs() for name, g in found.items()}
        through = torch.stack([group.gather(values).sum() for group in groups]).sum()
        if flow < 0 or through <= 1e-9 * flow:
            raise ValueError(
                f"the outputs, which add up to {float(flow.detach()):.3g}, do not grow with the "
                "weights, so there is no flow to score by; give a network that ends in a softmax "
                "or a log-softmax without it."
            )
        return {group.name: _sums(group, values) for group in groups}


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """1/2 h w^2: what the loss gains without a weight at a minimum, by a diagonal Hessian.

    Source: LeCun, Denker and Solla, "Optimal Brain Damage", NIPS 1989, section 2.
    Deviation: a negative h, which no minimum has, counts as zero.

    Args:
        hessian: "fisher" takes the mean of g^2 over samples for h; "exact" takes the second
            derivatives themselves, one backward pass for each weight, for small networks.
    """

    hessian: Literal["fisher", "exact"] = "fisher"

    def __post_init__(self) -> None:
        if self.hessian not in ("fisher", "exact"):
            raise ValueError(f"hessian must be 'fisher' or 'exact', got {self.hessian!r}.")

    def score(self, groups: Sequence[UnitGroup], evidence: Evidence) -> Scores:
        """Return the saliencies, >= 0; of a filter their sum."""
        found = _fisher(evidence) if self.hessian == "fisher" else _second(evidence)
        values = {
            name: h.clamp(min=0) * evidence.weights[name].square() / 2 for name, h in found.items()
        }
        return {group.name: _sums(group, values) for group in groups}


def summed(found: Iterable[Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], int]:
    """Add up tensors of equal name, and count the sets of them."""
    total: dict[str, Tensor] = {}
    count = 0
    for values in found:
        count += 1
        for name, value in values.items():
            total[name] = total[name] + value if name in total else value
    return total, count


def mean(found: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average tensors of equal name."""
    total, count = summed(found)
    return {name: value / count for name, value in total.items()}


def _fisher(evidence: Evidence) -> dict[str, Tensor]:
    found = evidence.gradients(single=True)
    return mean({name: g.square() for name, g in sample.items()} for sample in found)


def _second(evidence: Evidence) -> dict[str, Tensor]:
    def diagonals() -> Iterator[dict[str, Tensor]]:
        for loss, named in evidence.losses():
            first = gradient(loss, named, create_graph=True)
            yield {name: _diagonal(first[name], parameter) for name, parameter in named.items()}

    return mean(diagonals())


def _diagonal(first: Tensor, parameter: Tensor) -> Tensor:
    """Return the derivative of each entry of a gradient by its own parameter."""
    flat = first.reshape(-1)
    diagonal = torch.zeros_like(flat)
    for k in range(len(flat) if flat.requires_grad else 0):
        (second,) = torch.autograd.grad(flat[k], parameter, retain_graph=True, allow_unused=True)
        diagonal[k] = 0.0 if second is None else second.reshape(-1)[k]
    return diagonal.detach().view_as(parameter)


def _sums(group: UnitGroup, values: Mapping[str, Tensor]) -> Tensor:
    return group.gather(values).sum(dim=1).float().cpu()


def _positive(x: Tensor) -> Tensor:
    return x.detach().double().abs() if x.is_floating_point() else x.detach()


def _ones(x: object) -> object:
    if isinstance(x, Tensor) and x.is_floating_point():
        return torch.ones_like(x, dtype=torch.float64)
    return x
