"""Gibbs pruning: masks are drawn anew for every forward, from a distribution that slowly hardens.

Source: Labach and Valaee, "A Framework for Neural Network Pruning Using Gibbs Distributions",
GLOBECOM 2020, arXiv:2006.04981.
Deviation: the inverse temperature rises at every step; in eval mode, and at the end, the units of
largest mean square stay, for single weights too. Filters of a residual sum, heads and recurrent
units stay whole, so that what goes can be removed.
"""

from typing import Literal

from prunus.criteria import L2
from prunus.masking import Gibbs
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import TopK
from prunus.space import Granularity, Structured, Unstructured
from prunus.types import Target


@naming
def gibbs(
    *,
    hamiltonian: Literal["weight", "kernel", "filter"] = "weight",
    end: str = "200ep",
    beta: tuple[float, float] | None = None,
    ramp: float = 0.64,
    coupling: float | None = None,
    sweeps: int = 50,
    skip: tuple[str, ...] = (),
) -> Method:
    """Train under sampled masks, at first coin flips and at last the pruned network's own.

    Neither a trained network nor fine-tuning is needed. A recipe measures the statistics of batch
    norms, collected under random masks, anew at the end; elsewhere that is for
    `prunus.recovery.recalibrate_batch_norm`.

    Args:
        hamiltonian: Whether single weights, kernels or filters go.
        end: When sampling ends and the mask is final: the length of training in the paper.
        beta: log10 of the first and the last inverse temperature; by default (0, 4), for filters
            (-2.5, 0).
        ramp: Share of that time after which the inverse temperature rises no more.
        coupling: How strongly the weights of a kernel (0.01) or of a filter (1) agree.
        sweeps: Of the sampler of filters, for each forward.
        skip: Shell patterns of layers to leave whole: the first and the last in the paper.

    Raises:
        ValueError: A setting is out of range.
    """
    granularity: Granularity = Structured(coupled=False, skip=skip)
    if hamiltonian != "filter":
        granularity = Unstructured(
            unit="kernel" if hamiltonian == "kernel" else "weight", skip=skip
        )
    return Method(
        name="gibbs",
        granularity=granularity,
        criterion=L2(),
        selector=TopK(scope="layer"),
        masking=Gibbs(
            hamiltonian=hamiltonian, beta=beta, ramp=ramp, coupling=coupling, sweeps=sweeps
        ),
        schedule=Schedule(begin=end),
        target=Target(sparsity=0.9),
        before_training=True,
        recalibrates=True,
    )
