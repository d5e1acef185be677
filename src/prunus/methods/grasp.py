"""Connections by the gradient flow that is left without them, before training.

Source: Wang, Zhang and Grosse, "Picking Winning Tickets Before Training by Preserving Gradient
Flow" (GraSP), ICLR 2020, arXiv:2002.07376, section 4.
Deviation: the loss is taken as it is; the paper divides the logits by a temperature of 200, which
`Calibration(loss=...)` can do.
"""

from prunus.criteria import GradientFlow
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def grasp(*, unit: WeightUnit = "weight", skip: tuple[str, ...] = ()) -> Method:
    """Remove the connections whose removal preserves the gradient flow best, before training.

    Args:
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="grasp",
        granularity=Unstructured(unit=unit, skip=skip),
        criterion=GradientFlow(),
        selector=TopK(scope="global"),
        target=Target(sparsity=0.9),
        before_training=True,
    )
