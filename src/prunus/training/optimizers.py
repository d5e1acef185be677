"""Optimizers and the learning rate, built from the settings."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunus.errors import CheckpointError
from prunus.schedules import iterations
from prunus.training.settings import TrainSettings

_FUSED = ("cpu", "cuda")


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """Return the optimizer of a model's trainable parameters.

    Without `decay_norm_bias`, tensors of at most one dimension form a group that does not decay.

    Raises:
        ValueError: No parameter is trainable.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("the model has no trainable parameter.")
    exempt = [] if settings.decay_norm_bias else [p for p in parameters if p.ndim <= 1]
    decayed = parameters if settings.decay_norm_bias else [p for p in parameters if p.ndim > 1]
    groups = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((decayed, settings.weight_decay), (exempt, 0.0))
        if group
    ]
    # One kernel for all of a step takes a half to a third of the time, on CPUs too.
    sparse = any(getattr(module, "sparse", False) for module in model.modules())  # gradients
    fused = not sparse and all(
        p.device.type in _FUSED and p.is_floating_point() for p in parameters
    )
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            fused=fused or None,
        )
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, settings.lr, betas=(settings.momentum, 0.999), fused=fused or None)


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as "<parameter>.<slot>" -> tensor; it holds nothing else."""
    return {
        f"{name}.{slot}": value
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def load_optimizer_tensors(
    model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Restore what `optimizer_tensors` returned.

    A tensor shaped like its parameter also gets the parameter's memory layout, so that the same
    vector code runs on it, and rounds alike, as before the interruption.

    Raises:
        CheckpointError: The state belongs to a parameter that the model does not have.
    """
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, slot = key.rpartition(".")
        if name not in parameters:
            raise CheckpointError(
                f"the optimizer's state has {key!r}, the model no such parameter."
            )
        parameter = parameters[name]
        if slot == "step":
            value = value.to(parameter.device) if optimizer.defaults["fused"] else value
        elif value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        optimizer.state[parameter][slot] = value


@dataclass(frozen=True)
class LearningRate:
    """The learning rate as a pure function of the step.

    Args:
        settings: Gives the peak and the schedule.
        steps_per_epoch: What an epoch is in steps.

    Raises:
        ValueError: The warm-up or the start does not come before the end.
    """

    settings: TrainSettings
    steps_per_epoch: int

    def __post_init__(self) -> None:
        for name, value in (("warmup", self._warmup), ("start", self.start)):
            if value >= self.total:
                raise ValueError(
                    f"{name} must be shorter than length, got {value} of {self.total} steps."
                )

    @property
    def start(self) -> int:
        """The first step."""
        return self._steps(self.settings.start)

    @property
    def total(self) -> int:
        """The step at which training ends."""
        return self._steps(self.settings.length)

    @property
    def _warmup(self) -> int:
        return self._steps(self.settings.warmup)

    def __call__(self, step: int) -> float:
        """Return the learning rate of the update that follows `step` updates."""
        settings = self.settings
        if step < self._warmup:
            return settings.lr * (step + 1) / self._warmup
        if settings.schedule == "cosine":
            share = (step - self._warmup) / (self.total - self._warmup)
            return settings.lr * 0.5 * (1 + math.cos(math.pi * share))
        drops = 0
        if settings.step is not None:
            drops = step // self._steps(settings.step)
        elif settings.milestones:
            drops = sum(step >= self._steps(text) for text in settings.milestones)
        return settings.lr * settings.gamma**drops

    def _steps(self, text: str) -> int:
        return iterations(text, self.steps_per_epoch)
