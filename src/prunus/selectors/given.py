"""Keep what a mask in a file keeps, or as much of every layer by chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.errors import CheckpointError
from prunus.files import read_tensors
from prunus.selectors.base import Decision
from prunus.space import Space, UnitGroup
from prunus.types import Mask, Scores, Target


@dataclass(frozen=True, kw_only=True)
class Given:
    """The decision of an earlier run, for the controls of a lottery ticket.

    Args:
        path: A `mask.safetensors` of the same network: parameter name -> bool, True = kept.
        shuffled: Keep as many weights of every layer, drawn at random.
    """

    path: str
    shuffled: bool = False

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; the size is the mask's, whatever the target.

        Raises:
            CheckpointError: The file is missing or damaged, or of another network.
        """
        mask = read_tensors(self.path)[0]
        keep = {}
        for group in groups:
            own = {name: self._of(name, mask, evidence.weights) for name in group.tensors}
            kept = group.gather(own).bool().all(dim=1).cpu()
            if self.shuffled:
                kept = kept[torch.randperm(len(kept), generator=evidence.generator)]
            keep[group.name] = kept
        return Decision(keep)

    def _of(self, name: str, mask: Mask, weights: Mapping[str, Tensor]) -> Tensor:
        shape = weights[name].shape
        if name not in mask:  # what is kept whole need not be in it
            return torch.ones(shape, dtype=torch.bool)
        if mask[name].shape != shape:
            raise CheckpointError(
                f"{self.path} keeps {tuple(mask[name].shape)} of {name!r}, whose shape is "
                f"{tuple(shape)}; it is of another network."
            )
        return mask[name]
