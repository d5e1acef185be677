"""How much a student knows of classes that it has never seen.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", NIPS 2014 deep
learning workshop, arXiv:1503.02531, section 3: on MNIST without the digit 3, a student makes 206
errors on the test set, 133 of them on the 1,010 threes; with 3.5 added to the bias of that class,
109 and 14. From sevens and eights alone it learns to a test error of 47.3 %, and of 13.2 % with
shifted biases.
Deviation: the shift is the best on validation samples, not on the test set.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunus.recovery import Distillation, SoftTargets, fix_bias, predict
from prunus.training import ArrayData, TrainSettings, fit


@dataclass(frozen=True)
class MissingClasses:
    """What the student knows, on the test split.

    Args:
        shift: What was added to the bias of the missing classes.
        errors: Samples classified wrongly, before and after that.
        errors_on_missing: Those of them that are of a missing class.
        samples: Of the test split.
        samples_of_missing: Those of them that are of a missing class.
    """

    shift: float
    errors: tuple[int, int]
    errors_on_missing: tuple[int, int]
    samples: int
    samples_of_missing: int


def distil_without(
    teacher: nn.Module,
    student: nn.Module,
    data: ArrayData,
    missing: Collection[int],
    settings: TrainSettings,
    *,
    bias: str,
    soft: SoftTargets | None = None,
    seed: int = 0,
) -> MissingClasses:
    """Distil without samples of some classes, then raise their bias as the validation split asks.

    Args:
        teacher: Trained on all classes.
        student: Trained in place, its bias shifted.
        data: Its training samples of the missing classes are left out; its validation split holds
            all classes.
        missing: The classes left out.
        settings: How the student is trained.
        bias: Name of the student's last bias, one number per class, such as "fc3.bias".
        soft: The loss; temperature 20 and no labels by default.
        seed: Of the training.

    Raises:
        DataError: No training samples are left.
        ValueError: There is no validation split, or the missing classes are none or all.
    """
    soft = SoftTargets(temperature=20, hard_weight=0) if soft is None else soft
    out = torch.tensor(sorted(missing))
    left = (~torch.isin(data.train_labels, out)).nonzero()[:, 0]
    transfer = data.with_training(left, name=f"{data.name} without {out.tolist()}")
    fit(student, transfer, settings, seed=seed, objective=Distillation(teacher, soft))
    shift = fix_bias(*predict(student, data.eval_batches("val")), missing).shift

    def errors() -> tuple[int, int]:
        logits, labels = predict(student, data.eval_batches("test"))
        wrong = logits.argmax(1) != labels
        return int(wrong.sum()), int((wrong & _in(labels, out)).sum())

    before = errors()
    with torch.no_grad():
        student.get_parameter(bias)[out] += shift
    after = errors()
    labels = torch.cat([labels for _, labels in data.eval_batches("test")])
    return MissingClasses(
        shift=shift,
        errors=(before[0], after[0]),
        errors_on_missing=(before[1], after[1]),
        samples=len(labels),
        samples_of_missing=int(_in(labels, out).sum()),
    )


def _in(labels: Tensor, classes: Tensor) -> Tensor:
    return torch.isin(labels, classes.to(labels.device))
