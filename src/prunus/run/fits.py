"""Whether network, data and lengths of a recipe go together, before anything is trained."""

import torch
from torch import Tensor, nn

from prunus.errors import RecipeError
from prunus.recipe import Recipe
from prunus.schedules import iterations
from prunus.space.running import preserved
from prunus.training import Data
from prunus.types import call_arguments, first_sample


def check_fit(model: nn.Module, data: Data) -> None:
    """Run the network on one sample.

    Args:
        model: It stays as it was.
        data: Its first training sample is taken.

    Raises:
        RecipeError: The network does not take it, or has fewer outputs than there are classes.
    """
    inputs = first_sample(next(data.eval_batches("train"))[0])
    shape = f" (1, {', '.join(map(str, data.shape))})"
    args, kwargs = call_arguments(inputs)
    with preserved(model), torch.no_grad():
        try:
            outputs = model(*args, **kwargs)
        except Exception as error:
            raise RecipeError(
                f"the network does not take the samples{shape} of {data.name}: {error}; change "
                "model, its options, or data."
            ) from error
    wide = outputs.shape[1] if isinstance(outputs, Tensor) and outputs.ndim > 1 else None
    if wide is not None and wide < data.classes:
        raise RecipeError(
            f"the network has {wide} outputs, but {data.name} has {data.classes} classes; change "
            "model.options, or data."
        )


def check_schedule(recipe: Recipe, data: Data) -> None:
    """Refuse a method that would not come to its end.

    Args:
        recipe: Of a run.
        data: Its data.

    Raises:
        RecipeError: The method prunes while it trains, and for longer than that.
    """
    method, settings = recipe.method.build(), recipe.finetune
    if not method.during_training or method.rewind or settings is None:
        return
    start = iterations(settings.start, data.steps_per_epoch)
    made = iterations(settings.length, data.steps_per_epoch) - start
    end = method.timeline(data.steps_per_epoch).end
    if made < end:
        late = f" from step {start} on" if start else ""
        raise RecipeError(
            f"finetune.length must reach the end of the method's schedule, {end} steps, got "
            f"{settings.length} ({made} steps{late}); train longer or set an earlier "
            "method.end, or method.begin for a method without an end."
        )
