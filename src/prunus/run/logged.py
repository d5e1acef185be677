"""What of a run is logged to MLflow or TensorBoard."""

from collections.abc import Mapping
from typing import Any

from prunus.recipe import Recipe, leaves
from prunus.run.plan import Plan
from prunus.tracking import Tracked, identity

_FIGURES = (
    *("accuracy", "mean_iou", "perplexity", "loss"),
    *("params", "nonzero", "macs", "file_bytes", "epochs"),
)


def tracked(recipe: Recipe, plan: Plan) -> Tracked:
    """Describe the run of a recipe.

    Raises:
        OSError: The run's directory cannot be written.
    """
    return Tracked(
        group=recipe.name,
        name=f"{recipe.name}-{recipe.hash8}/seed-{recipe.seed}",
        key=identity(plan.directory, plan.key),
        parameters=dict(leaves(recipe.model_dump(mode="json", exclude_none=True))),
    )


def figures(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a result document: "fine-tuned/accuracy" and the like."""
    found = {
        f"{arm['name']}/{key}": arm[key]
        for arm in document["arms"]
        for key in _FIGURES
        if arm.get(key) is not None
    }
    for arm in document["arms"]:
        for key in ("latency_ms", "speedup"):
            if arm.get(key) is not None:
                found[f"{arm['name']}/{key}"] = arm[key]["median"]
    return found
