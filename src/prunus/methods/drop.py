"""Drop pruning: unimportant weights go by chance, and some of those that are gone return.

Source: Jia, Xiang, Fan, Huang, Sun, Meng, He and Chen, "DropPruning for Model Compression", 2018,
arXiv:1812.02035.
Deviation: what is known of the paper here is its idea, not its values. The probabilities are
constants, that of returning by default the one with which the sparsity settles at the target; the
last fifth of the schedule is deletion alone and ends at exactly the target. The last network is the
result, not the best that was met on the way.
"""

from collections.abc import Mapping
from typing import Literal

from prunus.criteria import L1
from prunus.masking import Hard, Remember
from prunus.methods.base import Method
from prunus.names import naming
from prunus.schedules import Schedule
from prunus.selectors import DropOutIn
from prunus.space import Unstructured
from prunus.types import Target


@naming
def drop(
    *,
    q: float | Mapping[str, float] = 0.2,
    p_out: float = 0.5,
    p_in: float | None = None,
    value: Literal["zero", "last"] = "zero",
    begin: str = "0it",
    end: str = "1000it",
    every: str = "25it",
    settle: float = 0.8,
    scope: Literal["layer", "global"] = "layer",
    skip: tuple[str, ...] = (),
) -> Method:
    """Remove some of the smallest weights at random, let random others return, and retrain.

    Args:
        q: Share of the present weights, those of smallest magnitude, that may go at an update; or
            shell pattern of parameter names -> a layer's own. Layers with a lower q, such as the
            first and the last, end less sparse; those that no pattern fits stay whole.
        p_out: With which probability each of them goes.
        p_in: With which probability each that is gone returns; by default such that as many return
            as go at the target.
        value: What a weight returns with: "zero", or the "last" value it had.
        begin: First update.
        end: Last update; training should go on for a while after it.
        every: Steps between updates. With the defaults the distance to the target shrinks by about
            a tenth at each, so there should be some tens of them.
        settle: From this share of the schedule on no weight returns.
        scope: The smallest of every layer, or of the whole network.
        skip: Shell patterns of parameter names to leave whole.

    Raises:
        ValueError: A share or probability is out of range, or `value` is unknown.
    """
    if value not in ("zero", "last"):
        raise ValueError(f"value must be 'zero' or 'last', got {value!r}.")
    return Method(
        name="drop",
        granularity=Unstructured(skip=skip),
        criterion=L1(),
        selector=DropOutIn(q=q, p_out=p_out, p_in=p_in, scope=scope, settle=settle),
        masking=Remember if value == "last" else Hard,
        schedule=Schedule(curve="constant", begin=begin, end=end, every=every),
        target=Target(sparsity=0.93),
    )
