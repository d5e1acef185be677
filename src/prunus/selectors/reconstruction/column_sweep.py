"""Remove single weights column by column, and let the columns to come make up for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunus.criteria import Evidence
from prunus.criteria.sight import has_windows, unseen
from prunus.selectors.base import Decision
from prunus.selectors.rank import lowest
from prunus.selectors.reconstruction.course import Course, must_be_finite
from prunus.selectors.reconstruction.windows import windows
from prunus.selectors.rows import by_place, fits, highest, n_of_m, share_of
from prunus.space import Space, UnitGroup
from prunus.space.unit_groups import WeightGroup
from prunus.types import Scores, Target


@dataclass(frozen=True, kw_only=True)
class ColumnSweep:
    """Optimal brain surgery on the rows of a layer with one Hessian for all, X X' of its inputs.

    Columns are passed from first to last. What removing w_q from a row costs, w_q^2 / [H^-1]_qq
    with H over the columns from q on, decides; the weights to its right change by -w_q /
    [H^-1]_qq times its row of H^-1, so that the output of the row changes least. All these
    inverses are rows of one Cholesky factor. Layers are taken in order, each with the inputs that
    the pruned ones before it make. Convolutions are taken as matrix products.

    Source: Frantar and Alistarh, "SparseGPT", ICML 2023, arXiv:2301.00774, section 3.

    Args:
        pattern: "2:4" keeps two of every four weights that read adjacent inputs, of a kernel at one
            place of it, chosen when the sweep comes to them; layers whose inputs are no multiple
            stay whole. None for a share of each block.
        block: So many columns compete with each other, over all rows, and changes to the columns
            behind them are made at once.
        damping: Added to the diagonal of H, relative to its average.
        samples: Positions (tokens, pixels) of each sample from which H is made, at most.

    Raises:
        ValueError: A field is out of range.
    """

    pattern: str | None = None
    block: int = 128
    damping: float = 0.01
    samples: int = 128

    def __post_init__(self) -> None:
        if self.pattern is not None:
            n_of_m(self.pattern)
        for name in ("block", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.damping <= 0:
            raise ValueError(f"damping must be above 0, got {self.damping:g}.")

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; a pattern alone says how many.

        Raises:
            TargetError: The target is a cost, or another share than the pattern's.
            ValueError: The units are not single weights, there is no calibration, or the inputs of
                a layer are not seen or not finite.
        """
        share = share_of(target, self.pattern)
        course = Course(space, evidence)
        for group in evidence.track(groups, "layers"):
            if not isinstance(group, WeightGroup) or group.unit != "weight":
                raise ValueError(f"columns are of single weights, but {group.name!r} has others.")
            hessian = self._hessian(group.name, course)
            weight = course.weight(group.name)
            rows = weight.reshape(len(hessian), -1, hessian.shape[-1])
            if self.pattern is None:
                swept, keep = sweep(rows, hessian, share, None, self.block)
            elif fits(group, self.pattern):
                order = by_place(group.weight.shape[1], rows.shape[-1]).to(rows.device)
                placed = rows[..., order], hessian[:, order][..., order]
                swept, keep = sweep(*placed, share, self.pattern, self.block)
                back = order.argsort()
                swept, keep = swept[..., back], keep[..., back]
            else:
                swept, keep = rows, torch.ones_like(rows, dtype=torch.bool)
            patch = {group.name: swept.reshape(weight.shape)}
            course.settle(group, keep.reshape(-1).cpu(), patch)
        return course.decision()

    def unable(self, groups: Sequence[UnitGroup], evidence: Evidence) -> dict[str, str]:
        """Return the weights whose input is not seen."""
        return unseen(groups, evidence)

    def _hessian(self, name: str, course: Course) -> Tensor:
        """Return X X' of a layer, damped, for each of its groups: (groups, columns, columns)."""
        layer = name.rpartition(".")[0]
        module = course.model.get_submodule(layer)
        total: Tensor | None = None
        for found in course.evidence.inputs([layer]) if has_windows(module) else ():
            for given in found.get(layer, ()):
                seen = windows(module, given)
                places = seen.some(self.samples, course.evidence.generator)
                for _, read in seen.parts(*places):
                    x = read.flatten(2).transpose(0, 1)  # groups, places, columns
                    product = x.transpose(1, 2) @ x
                    total = product if total is None else total + product
        if total is None:
            raise ValueError(
                f"{name!r} is not the weight of a linear layer or convolution that is called as a "
                "module, so what it reads is not seen; leave it out with skip."
            )
        must_be_finite(layer, total)
        extra = self.damping * total.diagonal(dim1=1, dim2=2).mean(dim=1)
        extra = torch.where(extra > 0, extra, torch.ones_like(extra))
        return total + torch.diag_embed(extra[:, None].expand(total.shape[:2]))


def sweep(
    weight: Tensor, hessian: Tensor, share: float, pattern: str | None, block: int
) -> tuple[Tensor, Tensor]:
    """Pass over the columns of a layer.

    Args:
        weight: Shape (groups, rows, columns); the rows of a group read the same.
        hessian: Positive definite, shape (groups, columns, columns).
        share: Of the weights of each block to remove; the whole layer loses exactly that, rounded.
        pattern: "N:M" of columns next to each other, instead of the share.
        block: Columns of a block.

    Returns:
        The new weight, zero where something is removed, and bool of its shape, True = kept.
    """
    groups, rows, columns = weight.shape
    weight, keep = weight.clone(), torch.ones_like(weight, dtype=torch.bool)
    count, of = (1, 1) if pattern is None else n_of_m(pattern)
    block = max(of, block - block % of)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)  # row q: [H^-1] over the columns from q on
    spread = upper.diagonal(dim1=1, dim2=2)[:, None]
    removed = 0
    for start in range(0, columns, block):
        stop = min(start + block, columns)
        part = slice(start, stop)
        if pattern is None:
            cost = (weight[..., part] / spread[..., part]).square()
            due = min(round(share * groups * rows * stop), weight.numel() - 1) - removed
            keep[..., part] = ~lowest([cost.float().cpu()], due)[0].to(keep.device)
            removed += due
        errors = torch.zeros_like(weight[..., part])
        for q in range(start, stop):
            if of > 1 and q % of == 0:
                few = slice(q, q + of)
                cost = (weight[..., few] / spread[..., few]).square()
                keep[..., few] = highest(cost.flatten(0, 1), count).view_as(cost)
            error = weight[..., q].masked_fill(keep[..., q], 0) / spread[..., q]
            weight[..., q:stop] -= error[..., None] * upper[:, None, q, q:stop]
            weight[..., q].masked_fill_(~keep[..., q], 0)  # but for rounding it is
            errors[..., q - start] = error
        weight[..., stop:] -= errors @ upper[:, part, stop:]
    return weight, keep
