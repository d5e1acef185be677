"""Removal with its proof: the first form of the small network that passes is returned."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from prunus.errors import EquivalenceError, UntraceableError
from prunus.space.capture import recorded
from prunus.space.casts import Casts, cast, in_precision
from prunus.space.check import Reference, Verification
from prunus.space.graph_network import GraphNetwork
from prunus.space.in_training import check_training
from prunus.space.inputs import cloned, doubled, varied
from prunus.space.masked import apply_mask
from prunus.space.remove import kept_index, remove
from prunus.space.rewrite import rewrite, what_stays
from prunus.space.running import copied, output_tensors, preserved, unchanged
from prunus.space.space import Space, trace
from prunus.space.structure import another_call
from prunus.types import Example, Keep, call_arguments


@dataclass(frozen=True)
class Shrunk:
    """A smaller network and what is known of it.

    Attributes:
        model: The network.
        form: "original classes", or "rewritten graph" where the forward had sizes as constants.
        verification: The comparison with the masked network, or None when it was turned off.
    """

    model: nn.Module
    form: str
    verification: Verification | None


def shrink(
    model: nn.Module, space: Space, keep: Keep, example: Example, *, check: bool = True
) -> Shrunk:
    """Remove what `keep` drops and prove the result equal to the masked network.

    The user's own classes with sliced tensors are tried first; where their forward has sizes
    written as constants, a graph of the same layers with those constants rewritten is tried.

    Args:
        model: The network `space` was traced from; it stays as it was.
        space: Its removable units.
        keep: Group name -> bool, shape (units,), True = kept.
        example: An input, as for `trace`.
        check: Compare in float64 (1e-10). Without it the first form that runs is returned.

    Raises:
        EquivalenceError: No form computes what the masked network does.
        EmptyLayerError: A layer would lose all its channels.
    """
    with unchanged(model):  # a hook of a copy may still write into the model
        return _shrunk(model, space, keep, example, check=check)


def _shrunk(model: nn.Module, space: Space, keep: Keep, example: Example, *, check: bool) -> Shrunk:
    small = remove(model, space, keep)
    reference = None
    if check:
        mask, averages = space.mask(keep), space.remaining(keep)
        reference = Reference(model, mask, example, averages=averages, also=space.also)
    failures = []
    for form, build in FORMS.items():
        try:
            network = build(model, space, keep, example, small)
            if reference is None:
                if network is not small or space.recording.failure:  # it has not been run yet
                    _check_runs(model, network, example, training=False)
                return Shrunk(network, form, None)
            verification = _prove(model, network, space, keep, example, reference)
            return Shrunk(network, form, verification)
        except EquivalenceError as error:
            failures.append(f"{form}: {error}")
    raise EquivalenceError(
        "the network without the removed channels does not compute what the masked one does, so "
        "nothing was returned. " + "; ".join(failures)
    )


def as_graph(model: nn.Module, example: Example) -> GraphNetwork:
    """Return a copy of a network as a graph of its layers, proved equal to it.

    Args:
        model: Stays as it was.
        example: An input, as for `trace`.

    Raises:
        EquivalenceError: Its forward cannot be recorded as a graph.
        UntraceableError: It fails on `example`.
    """
    space = trace(model, example)
    keep: Keep = {}
    network = rewrite(model, space, keep, example, remove(model, space, keep))
    _prove(model, network, space, keep, example, Reference(model, space.mask(keep), example))
    return network


def inexpressible(model: nn.Module, space: Space, keep: Keep, example: Example) -> dict[str, str]:
    """Return the groups of `keep` that no form can do without, with what stood in the way.

    Groups at the same place of repeated blocks ("blocks.3.fc1" and "blocks.7.fc1") are tried
    together, each kind alone, and the halves of a kind that fails, until those at fault are found.
    """
    kinds: dict[str, Keep] = {}
    for name, kept in keep.items():
        if not kept.all():
            kinds.setdefault(re.sub(r"\d+", "#", name), {})[name] = kept

    def failure(alone: Keep) -> str:
        return _failure(model, space, alone, example)

    found: dict[str, str] = {}
    for kind in kinds.values():
        for name, why in _at_fault(kind, failure).items():
            found[name] = f"cannot be taken out of its forward ({why})"
    return found


def _at_fault(kind: Keep, failure: Callable[[Keep], str]) -> dict[str, str]:
    """Return the groups that fail, by halving; where four parts of a kind all fail, all do.

    Args:
        kind: Groups that are likely to behave alike.
        failure: Says why some of them fail together; empty where they do not.
    """
    found: dict[str, str] = {}
    why = failure(kind)
    failing = [(kind, why)] if why else []
    while failing:
        found |= {name: why for alone, why in failing for name in alone if len(alone) == 1}
        parts: list[tuple[Keep, str]] = []
        halved = 0
        for whole, why in failing:
            names = list(whole)
            if len(names) == 1:
                continue
            middle = len(names) // 2
            halves = [{n: whole[n] for n in part} for part in (names[:middle], names[middle:])]
            failed = [(half, said) for half in halves if (said := failure(half))]
            halved += 2
            parts += failed
            if not failed:  # only together
                found |= dict.fromkeys(names, why)
        if len(parts) == halved >= 4:
            return found | {name: why for alone, why in parts for name in alone}
        failing = parts
    return found


def _failure(model: nn.Module, space: Space, keep: Keep, example: Example) -> str:
    """Return what stands in the way of a decision; empty where some form can do it."""
    small = remove(model, space, keep)
    averages, mask = space.remaining(keep), space.mask(keep)
    reference = Reference(model, mask, example, averages=averages, also=space.also)
    failure = ""
    for form, build in FORMS.items():
        try:
            network = build(model, space, keep, example, small)
            _prove(model, network, space, keep, example, reference)
            return ""
        except EquivalenceError as error:
            failure = f"{form}: {error}"
    return failure


def _unchanged(
    model: nn.Module, space: Space, keep: Keep, example: Example, small: nn.Module
) -> nn.Module:
    """Return the user's own classes.

    Raises:
        EquivalenceError: Residual branches are to go, or the calls are others than in the dense
            network.
    """
    if space.gone(keep):
        raise EquivalenceError("its forward runs the residual branches that are to go")
    try:
        calls = recorded(small, example, labelled=False)
    except UntraceableError as error:
        if space.recording.failure:  # it cannot be watched
            return small
        raise EquivalenceError(
            f"the small network fails where the dense one runs: {error}"
        ) from error
    index = kept_index(space, keep)
    dense = space.recording.copy()
    if not another_call(dense, what_stays(dense, index), calls):
        return small
    # With zeros for what goes, values may decide otherwise: the way, or how many rows there are.
    masked = copied(model)
    apply_mask(masked, space.mask(keep))
    dense = recorded(masked, example, tracer=space.recording.tracer.alike())
    other = another_call(dense, what_stays(dense, index), calls)
    if other and _another_call_in_double(masked, small, space, index, example):
        raise EquivalenceError(other)
    return small


def _another_call_in_double(
    masked: nn.Module,
    small: nn.Module,
    space: Space,
    index: dict[str, dict[int, Tensor]],
    example: Example,
) -> bool:
    """Say whether calls differ in float64, too: in float32 rounding decides which boxes overlap."""
    given: Example = tree_map(lambda x: cast(x, torch.float64), example)
    try:
        with Casts(keep=True):
            tracer = space.recording.tracer.alike()
            dense = recorded(in_precision(masked, torch.float64), given, tracer=tracer)
            calls = recorded(in_precision(small, torch.float64), given, labelled=False)
    except UntraceableError:  # it knows no float64
        return True
    return bool(another_call(dense, what_stays(dense, index), calls))


FORMS: dict[str, Callable[[nn.Module, Space, Keep, Example, nn.Module], nn.Module]] = {
    "original classes": _unchanged,
    "rewritten graph": rewrite,
}
"""How the small network can be made, the preferred way first; `small` has its sliced layers."""


def _prove(
    model: nn.Module,
    small: nn.Module,
    space: Space,
    keep: Keep,
    example: Example,
    reference: Reference,
) -> Verification:
    """Compare a small network with the masked one in all ways.

    Raises:
        EquivalenceError: It is another.
    """
    verification = reference.compare(small)
    if verification.passed:
        untrained = _check_further(model, small, space, keep, example, reference)
        again = reference.compare_redrawn(small, kept_index(space, keep))
        reference.release()
        sizes = reference.sizes if space.recording.reads_sizes else None
        worst = verification.worse(again or verification)
        verification = replace(worst, untrained=untrained, sizes=sizes)
    if not verification.passed:
        difference = verification.max_relative_difference
        why = ", and it draws random numbers in eval mode" if reference.draws else ""
        raise EquivalenceError(f"outputs differ by {difference:.2g} of the largest output{why}")
    return verification


def _check_further(
    model: nn.Module,
    small: nn.Module,
    space: Space,
    keep: Keep,
    example: Example,
    reference: Reference,
) -> str:
    """Prove what the comparison in eval mode does not show: training, and other sizes of a graph.

    A graph that is right for the sizes of the example only will take no others. The user's own
    classes cannot refuse any, so they must be right for others, too, where they ask about sizes.

    Returns:
        Why train mode was not compared, "" where it was.

    Raises:
        EquivalenceError: The small network is wrong in train mode, or for other sizes.
    """
    examples = [example, *space.also] if isinstance(small, GraphNetwork) else [example]
    graph, recording = isinstance(small, GraphNetwork), space.recording
    if graph or recording.reads_sizes:
        ratios = recording.unseen_ratios() if graph else recording.ratios()
        matter = reference.sizes_that_matter(small, ratios)
        if matter and isinstance(small, GraphNetwork):
            small.hold_to(examples, batch=matter == "batch")
        elif matter:
            raise EquivalenceError(f"it is wrong for other {matter.replace('batch', 'batches')}")
    index = kept_index(space, keep)
    untrained = [check_training(reference, small, index, given) for given in examples]
    if any(untrained):
        _check_runs(model, small, example, training=True)
    if isinstance(small, GraphNetwork):
        _check_precision(model, small, example)
        if small.in_training is not small.evaluating:
            try:
                check_training(reference, small, index, varied(example))
            except EquivalenceError:
                small.hold_to(examples, batch=True)
    return next(filter(None, untrained), "")


def _check_precision(model: nn.Module, small: nn.Module, example: Example) -> None:
    """Compare the precisions of the outputs, which a context inside the forward may set.

    Raises:
        EquivalenceError: They differ.
    """
    types = []
    for network in (model, small):
        args, kwargs = call_arguments(cloned(example))
        with preserved(network):
            types.append([x.dtype for x in output_tensors(network(*args, **kwargs))])
    if types[0] != types[1]:
        raise EquivalenceError(f"its outputs are of {types[1]}, those of the dense one {types[0]}")


def _check_runs(model: nn.Module, small: nn.Module, example: Example, *, training: bool) -> None:
    """Run copies: the small network must run where the dense one does.

    Raises:
        EquivalenceError: Only the dense network runs.
    """

    def failure(network: nn.Module, given: Example) -> Exception | None:
        args, kwargs = call_arguments(cloned(given))
        own = copied(network) if training else network
        try:
            with preserved(own, training=training):
                own(*args, **kwargs)
        except Exception as error:
            return error
        return None

    for given in (example, doubled(example)) if training else (example,):
        error = failure(small, given)  # in eval mode the dense network was traced, so it runs
        if error is not None and not (training and failure(model, given)):
            mode = "train" if training else "eval"
            raise EquivalenceError(
                f"the small network fails in {mode} mode, where the dense one runs: {error}"
            ) from error
