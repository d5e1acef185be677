"""What the stages of a run share: data and networks, and how one is trained and kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunus import zoo
from prunus.criteria import Calibration
from prunus.files import read_tensors, write_tensors
from prunus.ranks import from_first
from prunus.recipe import Recipe
from prunus.recovery import Distillation
from prunus.run.masks import Hold, kept_units
from prunus.run.stages import Done
from prunus.schedules import iterations
from prunus.seeds import seeded
from prunus.space import Space, trace_for
from prunus.space.shrink import shrink
from prunus.training import Data, Hook, Objective, Record, TrainSettings, evaluate, fit
from prunus.training.batches import Split
from prunus.types import Example, Mask, first_sample

WatchStage = Callable[[str, Sequence[Record]], None]
"""Takes the name of a stage that trains and all its records so far, after each new one."""


def unwatched(name: str, records: Sequence[Record]) -> None:
    """Do nothing; unlike a lambda it can be sent to another process."""


@dataclass(frozen=True)
class Workshop:
    """The networks of one recipe, and how they are trained.

    Every stage that makes a network leaves it as `weights.safetensors`, and pruning leaves
    `mask.safetensors`, from which the smaller network is built again: only tensors are stored.

    Args:
        recipe: What to do.
        progress: Draw bars of what takes long.
        watch: Told of the records.
        trial: See `Plan`.
    """

    recipe: Recipe
    progress: bool = False
    watch: WatchStage = unwatched
    trial: bool = False

    @cached_property
    def checkpoint(self) -> Path | None:
        """The file with the weights that the network starts from."""
        given = self.recipe.model.weights
        return None if given is None else self.recipe.locate(given)

    @cached_property
    def teachers(self) -> list[Path]:
        """The files with the weights of teachers other than the network that is pruned."""
        given = self.recipe.distil.teachers if self.recipe.distil else ()
        return [self.recipe.locate(name, "distil.teachers") for name in given]

    @cached_property
    def data(self) -> Data | None:
        """The dataset, read when it is first needed."""
        table = self.recipe.data
        return None if table is None else zoo.dataset(**table.model_dump(), seed=self.recipe.seed)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The first training and validation batches, for methods that look at data."""
        if self.data is None:
            return None
        return Calibration.of(self.data)

    @cached_property
    def example(self) -> Example:
        """One input, with a batch of one so that MACs are counted per sample."""
        model = self.recipe.model
        if model.input is not None:
            return torch.randn(1, *model.input, generator=torch.Generator().manual_seed(0))
        if self.data is not None:
            return first_sample(next(self.data.eval_batches("train"))[0])
        return first_sample(zoo.example(str(model.name)))

    def traced(self, model: nn.Module) -> Space:
        """Return what the recipe's method can remove from a network."""
        return trace_for(self.recipe.method.build().granularity, model, self.example)

    def network(self, seed: int | None = None) -> nn.Module:
        """Return the network as the CPU draws it with a seed, the recipe's by default."""
        model = self.recipe.model
        with seeded(self.recipe.seed if seed is None else seed):
            if model.factory is not None:
                return zoo.user_network(model.factory, model.options)
            return zoo.network(str(model.name), **model.options)

    def _has_width(self) -> bool:
        """Whether the network takes a width multiplier."""
        model = self.recipe.model
        return "width" in zoo.network_options(model.name or str(model.factory))

    def _narrow(self, width: float) -> nn.Module:
        """Return the network with its width times `width`."""
        model = self.recipe.model
        options = model.options | {"width": width * model.options.get("width", 1.0)}
        narrower = model.model_copy(update={"options": options})
        return Workshop(self.recipe.model_copy(update={"model": narrower})).network()

    def _dense(self, dense: Done) -> nn.Module:
        model = self.network()
        model.load_state_dict(tensors(dense, "weights"))
        return model

    def _pruned(self, dense: Done, pruned: Done, last: Done) -> tuple[nn.Module, Mask | None]:
        """Return the pruned network with the weights of stage `last`, and the mask to hold."""
        model, mask = self._small(self._dense(dense), pruned)
        model.load_state_dict(tensors(last, "weights"))
        return model, mask

    def _small(
        self, model: nn.Module, pruned: Done, name: str = "mask"
    ) -> tuple[nn.Module, Mask | None]:
        """Return the pruned form of a network with its own weights, and the mask to hold."""
        mask = tensors(pruned, name)
        if pruned.result["report"]["form"] in ("masked", "dense again"):
            return model, mask
        space = self.traced(model)
        return shrink(model, space, kept_units(space, mask), self.example).model, None

    def _objective(self, dense: Done) -> Objective | None:
        """Return what the pruned network learns from the unpruned one, or from other teachers."""
        soft = self.recipe.soft_targets
        if soft is None:
            return None
        teachers = [self.network() for _ in self.teachers]
        for teacher, file in zip(teachers, self.teachers, strict=True):
            zoo.load_weights(teacher, file)
        return Distillation(teachers or self._dense(dense), soft)

    def _fit(
        self,
        model: nn.Module,
        directory: Path,
        settings: TrainSettings,
        hook: Hook | None,
        objective: Objective | None,
    ) -> dict[str, Any]:
        assert self.data is not None
        history = fit(
            model,
            self.data,
            settings,
            seed=self.recipe.seed,
            hook=hook,
            directory=directory,
            name=directory.name,
            progress=self.progress,
            objective=objective,
            watch=partial(self.watch, directory.name),
        )
        made = history.steps - iterations(settings.start, self.data.steps_per_epoch)
        return {
            "epochs": made / self.data.steps_per_epoch,
            "samples": made * self.data.batch_size,
            "curve": history.records,
        }

    def _arm(
        self,
        model: nn.Module,
        directory: Path,
        settings: TrainSettings | None = None,
        mask: Mask | None = None,
        objective: Objective | None = None,
    ) -> dict[str, Any]:
        """Train the network where there are settings, keep it, and say how good and big it is."""
        hook = None if mask is None else Hold(model, mask)
        trained = {} if settings is None else self._fit(model, directory, settings, hook, objective)
        return from_first(partial(self._kept, model, directory)) | trained

    def _kept(self, model: nn.Module, directory: Path) -> dict[str, Any]:
        """Keep a network, and say how good and big it is."""
        write_tensors(directory / "weights.safetensors", model.state_dict())
        parameters = list(model.parameters())
        found: dict[str, Any] = {
            "params": sum(parameter.numel() for parameter in parameters),
            "nonzero": sum(int(parameter.count_nonzero()) for parameter in parameters),
        }
        if self.data is not None:
            if not self._competes(directory):
                found |= self._tested(model, self.data)
            if next(self.data.eval_batches("val"), None) is not None:
                found["val"] = self._tested(model, self.data, "val")
        return found

    def _competes(self, directory: Path) -> bool:
        """Whether a stage's network competes with others; the dense one serves all runs alike."""
        return self.trial and directory.name != "dense"

    @staticmethod
    def _tested(model: nn.Module, data: Data, split: Split = "test") -> dict[str, Any]:
        metrics = evaluate(model, data, split)
        return {**metrics.named(data.metric), "tested": metrics.count}


def tensors(done: Done, name: str) -> dict[str, Tensor]:
    """Return the tensors of a file of a stage, such as "weights" or "mask"."""
    return read_tensors(done.directory / f"{name}.safetensors")[0]
