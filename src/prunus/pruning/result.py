"""What pruning returns: the small network, its mask, and the account of both."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from prunus.deploy.stopwatch import Reading
from prunus.space import Verification
from prunus.space.graph_network import written
from prunus.types import Mask, Target

_SHOWN = 8  # of what decided the way are printed


@dataclass(frozen=True)
class Report:
    """What was asked, what was reached, and what stayed.

    Attributes:
        method: Name of the method.
        asked: What was asked for, or None where the method's own ratios decided.
        reached: The same metric of the result, measured on it.
        reading: How fast it is beside the dense network, where a time was asked for.
        costs: "macs", "params" and "bytes" -> (dense, pruned); MACs for the example as given.
        nonzero: Parameters that are not zero in the result.
        groups: Per group of channels: name, width before and after, coupled layers.
        branches: Residual branches that are gone, by name.
        frozen: Per layer with channels that may not go: name, channels, reason.
        form: "original classes" or "rewritten graph"; "masked" for single weights, "dense
            again" where those that were gone for a while are back.
        decisions: What decided the way that the forward took, so that no other way was followed:
            calls that look at values ("item", "__bool__"), questions about sizes
            ("x.shape[3] > 64: False"), plain inputs ("reverse=False"). A graph holds that way only
            and refuses other answers about sizes, and other plain inputs.
        also: How many further inputs were followed and proved; their ways are not in `decisions`.
        only: Shapes of the inputs that a graph takes (one list for the example, one for each of
            `also`), where its forward does something else for others; None for any size.
        verification: The comparison with the masked network; None where nothing was removed or
            the check was turned off.
        unknown: ATen operations without a rule, with how often they were met.
        unseen: Parameters that no run has met: what lies behind them has not been followed.
        notes: What did not go as asked, one line each.
    """

    method: str
    asked: Target | None
    reached: float | None
    reading: Reading | None
    costs: dict[str, tuple[int, int]]
    nonzero: int
    groups: list[dict[str, Any]]
    branches: list[str]
    frozen: list[dict[str, Any]]
    form: str
    decisions: list[str]
    also: int
    only: list[list[list[int | None]]] | None
    verification: Verification | None
    unknown: dict[str, int]
    unseen: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        asked = self.asked
        return {
            "method": self.method,
            "target": {"metric": asked.metric, "asked": asked.value, "reached": self.reached}
            if asked
            else None,
            "reading": asdict(self.reading) if self.reading else None,
            "costs": {k: {"dense": d, "pruned": p} for k, (d, p) in self.costs.items()},
            "nonzero": self.nonzero,
            "groups": self.groups,
            "branches": self.branches,
            "frozen": self.frozen,
            "form": self.form,
            "decisions": self.decisions,
            "also": self.also,
            "only": self.only,
            "verification": self.verification.to_dict() if self.verification else None,
            "unknown": self.unknown,
            "unseen": self.unseen,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        lines = [f"{self.method}: {self.form}"]
        if self.asked is not None:
            lines[0] += (
                f", {self.asked.metric} {self.asked.value:g} asked, {self.reached:.4g} reached"
            )
        for name, (dense, pruned) in self.costs.items():
            lines.append(
                f"  {name:6} {dense:>15,} -> {pruned:>15,}  ({pruned / max(1, dense):.3f})"
            )
        if self.reading is not None:
            read = self.reading
            lines.append(
                f"  {read.dense_ms:.3g} ms -> {read.pruned_ms:.3g} ms in {read.runtime}, "
                f"{read.precision}, threads {read.threads}, batch {read.batch}; side by side "
                f"{1 / read.ratio:.3g} times as fast ({1 / read.high:.3g} to {1 / read.low:.3g})"
            )
        if self.branches:
            lines.append(f"  without {len(self.branches)} residual branches")
        if self.verification is not None:
            proof = self.verification
            lines.append(
                f"  equal to the masked network within {proof.max_relative_difference:.1e} "
                f"({proof.dtype}, {proof.inputs} inputs)"
            )
            if proof.untrained:
                lines.append(f"  not compared in train mode: {proof.untrained}")
            if proof.sizes is not None and self.only is None:
                low, high = proof.sizes
                lines.append(
                    f"  its forward reads sizes: compared at {low:.2g} to {high:.2g} times the "
                    "example's, not beyond"
                )
        if self.only is not None:
            shapes = written(self.only)
            lines.append(f"  for inputs of shape {shapes} only: others take another way")
        if self.decisions:
            what = "holds" if self.form == "rewritten graph" else "followed"
            way = f"{what} only the way that the example took"
            if self.also and what == "followed":
                further = f"{self.also} further input" + "s" * (self.also > 1)
                way = f"followed only the ways of the example and {further}, the example's"
            shown = [*self.decisions[:_SHOWN], *["..."] * (len(self.decisions) > _SHOWN)]
            lines.append(f"  {way}, decided by {', '.join(shown)}")
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class Result:
    """A smaller network, the mask that it equals, and the account of both.

    Attributes:
        model: The small network, with its own memory, in the mode the original was in.
        mask: Name -> bool for every parameter and channel-carrying buffer, True = kept. Names are
            those of the module inside `torch.compile`, `DataParallel` and the like. The
            original's tensors, `patch` among them, multiplied by it give a network with the outputs
            of `model`; after `exact=False` it must also average over what remains
            (`verify(..., averages=)`).
        report: What was asked, reached and proved.
        patch: Parameter or buffer name -> values that replace the original's, where the method
            makes what remains make up for what goes.
    """

    model: nn.Module
    mask: Mask
    report: Report
    patch: Mapping[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return str(self.report)
