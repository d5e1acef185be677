"""What a checkpoint holds of a pruner: parts by prefix, and whether they are of this network."""

from collections.abc import Mapping
from typing import Any

from prunus.errors import CheckpointError
from prunus.pruning.plan import Plan
from prunus.space.permute import by_place


def part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the values whose names begin with a prefix, under the rest of their names."""
    return {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}


def check_state(state: Mapping[str, Any], plan: Plan) -> None:
    """Refuse the state of another network or method, or of another order of channels.

    Raises:
        CheckpointError: Naming what is another.
    """
    saved, method = next(iter(part(state, "method.")), None), plan.method.name
    if saved != method:
        found = f"is of method {saved!r}"
        if saved is None:
            found = (
                "names no method, as those of earlier versions" if "steps" in state else "is none"
            )
        raise CheckpointError(
            f"the pruner's state must be of its method, {method!r}, but what was given {found}; "
            "load what `state` returned for a pruner made in the same way."
        )
    sizes, held = {group.name: group.size for group in plan.groups}, part(state, "units.")
    for name in [*sizes, *held]:
        if sizes.get(name) != held.get(name):
            raise CheckpointError(
                f"the pruner's state must be of this network: of {name!r} it has "
                f"{held.get(name, 'no')} units, and the network {sizes.get(name, 'none')} to "
                "prune; load it with what it was saved from."
            )
    order = part(state, "order.")
    for name, places in by_place(plan.order).items():
        if name not in order or not order[name].equal(places):
            raise CheckpointError(
                f"channels of {name!r} have changed places otherwise than in the state; make the "
                "pruner of the network as it was before training, and load its trained weights "
                "afterwards."
            )
