"""Distillation: a student learns from what its teachers answer, not from labels alone.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 deep
learning workshop, arXiv:1503.02531, sections 2 and 2.1.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunus.types import Example, call_arguments

Combination = Literal["arithmetic", "geometric"]


@dataclass(frozen=True, kw_only=True)
class SoftTargets:
    """The loss T^2 * CE(p(T), q(T)) + hard_weight * CE(labels, q(1)).

    p(T) and q(T) are the softmax of the teachers' and the student's logits, divided by the
    temperature T. The gradient of CE(p(T), q(T)) is (q - p) / T in each of the student's logits; it
    falls with 1/T^2, which the first factor makes up for, so that the weight of the labels need not
    be chosen anew for each T.

    With T = math.inf the first term is the matching of logits, which has the gradient that the term
    tends to: 1/2 (z - v)^2, averaged over the classes, where z and v are the student's and the
    teachers' logits less their mean over the classes, which softmax does not see.

    Args:
        temperature: T, above 0. Any T > 8 served the paper's students alike that had 300 units per
            layer or more, 2.5 to 4 was best for 30 units: small students do better without the
            teacher's very negative logits.
        hard_weight: Of the labels, at least 0; with 0 they are not looked at, and may be anything.
            0.5 in the paper's speech experiment.
        combine: The mean of several teachers' distributions, arithmetic or geometric.

    Raises:
        ValueError: A value is out of range.
    """

    temperature: float = 4.0
    hard_weight: float = 0.5
    combine: Combination = "arithmetic"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}.")
        if not 0 <= self.hard_weight < math.inf:
            raise ValueError(
                f"hard_weight must be at least 0 and finite, got {self.hard_weight!r}."
            )
        if self.combine not in get_args(Combination):
            raise ValueError(f"combine must be 'arithmetic' or 'geometric', got {self.combine!r}.")

    def targets(self, answers: Tensor) -> Tensor:
        """Return p(T), the mean of the teachers' distributions, (batch, classes, ...).

        Args:
            answers: The teachers' logits, (teachers, batch, classes, ...).
        """
        logits = answers / self.temperature
        if self.combine == "geometric":
            # The geometric mean of softmaxes, normalised, is the softmax of the mean logits.
            return logits.mean(0).softmax(1)
        return logits.softmax(2).mean(0)

    def loss(self, logits: Tensor, answers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: The student's, (batch, classes, ...).
            answers: Each teacher's, of the same shape.
            labels: (batch, ...); what has -100 does not count, except where hard_weight is 0.

        Raises:
            ValueError: The teachers' logits are of another shape.
        """
        for answer in answers:
            if answer.shape != logits.shape:
                raise ValueError(
                    "a teacher must give logits of the student's shape, "
                    f"{tuple(logits.shape)}, got {tuple(answer.shape)}."
                )
        if self.hard_weight and not (counted := labels != -100).all():
            logits = logits.movedim(1, -1)[counted]
            answers = [answer.movedim(1, -1)[counted] for answer in answers]
            labels = labels[counted]
        together = torch.stack(list(answers)).to(logits.dtype)
        if math.isinf(self.temperature):
            # Nearly uniform distributions have one mean, arithmetic or geometric: that of logits.
            apart = logits - together.mean(0)
            soft = (apart - apart.mean(1, keepdim=True)).square().mean() / 2
        else:
            softened = logits / self.temperature
            soft = functional.cross_entropy(softened, self.targets(together)) * self.temperature**2
        if not self.hard_weight:
            return soft
        return soft + self.hard_weight * functional.cross_entropy(logits, labels)


class Distillation:
    """An objective for `prunus.training.fit`: soft targets from teachers.

    The teachers are copied as they are now, and the copies answer in evaluation mode and without
    gradient: the given networks are left as found, and may be trained or pruned meanwhile. The data
    need not be those the teachers learned from: they may lack classes, and with a hard_weight of 0
    their labels.

    Args:
        teachers: One network or several; they give logits for the student's classes.
        soft: The loss.

    Raises:
        ValueError: There is no teacher.

    Example::

        objective = Distillation(dense, SoftTargets(temperature=4))
        fit(small, data, settings, objective=objective)
    """

    def __init__(
        self, teachers: nn.Module | Sequence[nn.Module], soft: SoftTargets | None = None
    ) -> None:
        given = [teachers] if isinstance(teachers, nn.Module) else list(teachers)
        if not given:
            raise ValueError("distillation needs at least one teacher, got none.")
        self._soft = SoftTargets() if soft is None else soft
        self._teachers = nn.ModuleList([deepcopy(teacher) for teacher in given])
        self._teachers.eval().requires_grad_(False)
        self._device: torch.device | None = None
        self.described = f"Distillation({self._soft})"

    def counted(self, labels: Tensor) -> int:
        """Return over how many labels the mean loss is."""
        return int((labels != -100).sum()) if self._soft.hard_weight else labels.numel()

    def __call__(self, model: nn.Module, inputs: Example, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        if self._device != labels.device:
            self._teachers.to(labels.device)
            self._device = labels.device
        args, kwargs = call_arguments(inputs)
        with torch.no_grad():
            answers = [teacher(*args, **kwargs) for teacher in self._teachers]
        return self._soft.loss(model(*args, **kwargs), answers, labels)
