"""Connections by their synaptic flow, before training and without data.

Source: Tanaka, Kunin, Yamins and Ganguli, "Pruning neural networks without any data by iteratively
conserving synaptic flow", NeurIPS 2020, arXiv:2006.05467, algorithm 1.
Deviation: the flow is computed in float64.
"""

from prunus.criteria import SynapticFlow
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def synflow(
    *, rounds: int = 100, unit: WeightUnit = "weight", skip: tuple[str, ...] = ()
) -> Method:
    """Remove the connections of least synaptic flow in many small rounds, before training.

    Args:
        rounds: How often scores and removal alternate; the share that remains falls geometrically.
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="synflow",
        granularity=Unstructured(unit=unit, skip=skip),
        criterion=SynapticFlow(),
        selector=TopK(scope="global"),
        target=Target(sparsity=0.9),
        rounds=rounds,
        before_training=True,
    )
