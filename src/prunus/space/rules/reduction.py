"""Reductions: what is summed or compared over cannot lose a member unnoticed."""

from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunus.space.labels import Label
from prunus.space.statistics import OPERATIONS
from prunus.space.tracer import Call, Tracer

REDUCED = (
    *(
        "mean",
        "sum",
        "amax",
        "amin",
        "aminmax",
        "var",
        "std",
        "var_mean",
        "std_mean",
        "prod",
        "max",
    ),
    *("min", "argmax", "argmin", "any", "all", "logsumexp", "median", "mode", "norm", "nansum"),
    *("linalg_vector_norm", "count_nonzero"),
)
"""Operations over one dimension, several, or all."""

NORMS = ("linalg_vector_norm", "norm")
"""Roots of sums of powers, of zeros zero as long as the power is positive."""


MIXED = ("linalg_matrix_exp", "linalg_householder_product", "_linalg_solve_ex")
"""Functions of whole matrices."""


def reduction(tracer: Tracer, call: Call) -> None:
    """Freeze the dimensions reduced over, pass the others through."""
    source = call["self"]
    labels = tracer.of(source)
    gone = reduced(call)
    if call.name in OPERATIONS:
        tracer.average(call, sorted(gone), f"is averaged over by aten.{call.name}")
    else:
        adding = call.name == "sum" or (call.name in NORMS and is_adding(call))
        for dim in gone:
            tracer.ends.append(labels[dim])
            if not (adding and tracer.is_zero(source, dim)):
                tracer.labels.freeze(labels[dim], f"is reduced over by aten.{call.name}")
    origin = tracer.origin(source)
    kept: list[Label] = []
    slots: list[tuple[str, int] | None] = []
    for dim, label in enumerate(labels):
        if dim not in gone:
            kept.append(label)
            slots.append(origin[dim] if origin else None)
        elif call.arguments.get("keepdim"):
            kept.append("has a single position")
            slots.append(None)
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            tracer.assign(out, kept)
            if origin is not None:
                tracer.set_origin(out, slots)


def is_adding(call: Call) -> bool:
    """Say whether a position that is zero adds nothing to a norm."""
    order = call.arguments.get("ord", call.arguments.get("p"))
    return order is None or order >= 0


def reduced(call: Call) -> set[int]:
    """Return the dimensions that are reduced over."""
    ndim, dims = call["self"].ndim, call.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or range(ndim))
    return {dim % ndim for dim in dims} if ndim else set()


def mixed(tracer: Tracer, call: Call) -> None:
    """Every entry depends on all others, so nothing of them goes."""
    tracer.freeze_inputs(call, f"is mixed with all others by aten.{call.name}")


def softmax(tracer: Tracer, call: Call) -> None:
    """Every member of the dimension enters the sum below the fraction."""
    labels = tracer.of(call["self"])
    if labels:
        tracer.labels.freeze(labels[call["dim"]], "is inside a softmax")
    tracer.assign(call.out, labels)
