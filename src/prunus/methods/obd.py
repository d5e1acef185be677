"""Weights by a second-order estimate of the loss without them.

Source: LeCun, Denker and Solla, "Optimal Brain Damage", NIPS 1989,
pages 598-605, section 2.
Deviation: the diagonal of the Hessian is by default that of the empirical Fisher matrix; the
second derivatives themselves take a backward pass for each weight.
"""

from typing import Literal

from prunus.criteria import Curvature
from prunus.methods.base import Method
from prunus.names import naming
from prunus.selectors import TopK
from prunus.space import Unstructured, WeightUnit
from prunus.types import Target


@naming
def obd(
    *,
    hessian: Literal["fisher", "exact"] = "fisher",
    unit: WeightUnit = "weight",
    permute: bool = False,
    skip: tuple[str, ...] = (),
) -> Method:
    """Remove the weights of smallest saliency h w^2 / 2 from a trained network, once.

    Args:
        hessian: The mean square of the gradient over samples, or exact second derivatives.
        unit: Single weights (the paper), or blocks of them; see `prunus.space.Unstructured`.
        permute: Put output channels together that blocks lose least of, at first.
        skip: Shell patterns of parameter names to leave whole.
    """
    return Method(
        name="obd",
        granularity=Unstructured(unit=unit, permute=permute, skip=skip),
        criterion=Curvature(hessian=hessian),
        selector=TopK(scope="global"),
        target=Target(sparsity=0.5),
    )
