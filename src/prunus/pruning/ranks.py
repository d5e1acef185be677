"""One decision for all ranks of a data-parallel training."""

import torch
from torch import distributed

from prunus.ranks import alone
from prunus.selectors import Decision


def agreed(decision: Decision, device: torch.device) -> Decision:
    """Return the first rank's decision on every rank; alone, the decision itself.

    Each rank may have seen other samples, and then scored otherwise.

    Args:
        decision: This rank's, over the same groups and parameters as the other ranks'.
        device: Where the ranks exchange tensors: the model's.
    """
    if alone():
        return decision
    kept = torch.cat([kept.to(device, torch.uint8) for kept in decision.keep.values()])
    distributed.broadcast(kept, 0)
    parts = torch.split(kept.cpu().bool(), [len(kept) for kept in decision.keep.values()])
    patch = {name: values.to(device).contiguous() for name, values in decision.patch.items()}
    for values in patch.values():
        distributed.broadcast(values, 0)
    return Decision(dict(zip(decision.keep, parts, strict=True)), patch)
