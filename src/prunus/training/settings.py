"""How a network is trained, as plain data that a recipe can hold."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from prunus.schedules import iterations, lasts


def _duration(text: str) -> str:
    iterations(text, 1)
    return text


Duration = Annotated[str, AfterValidator(_duration)]
"""A number of epochs or steps, such as "160ep" or "500it"."""


class TrainSettings(BaseModel):
    """Settings of one training run.

    Attributes:
        length: How long to train, counted from the schedule's beginning.
        start: Where to enter the schedule and the order of the data: late rewinding continues from
            the step to which the weights were rewound.
        optimizer: SGD, Adam, or AdamW with decoupled weight decay.
        lr: Peak learning rate.
        momentum: SGD's momentum; Adam's first beta.
        nesterov: Nesterov's form of SGD's momentum.
        weight_decay: Coefficient of the L2 term, or AdamW's decay.
        decay_norm_bias: Whether tensors of one dimension (biases, normalisation) decay too.
        schedule: Learning rate after the warm-up: constant; times `gamma` every `step`; down to
            zero along half a cosine; or times `gamma` at each of `milestones`.
        milestones: For the schedule "milestones".
        step: For the schedule "step".
        gamma: Factor of the schedules "step" and "milestones".
        warmup: Linear rise of the learning rate from zero, at the beginning.
        precision: bf16 is automatic mixed precision: float32 weights, bfloat16 convolutions and
            matrix products. auto is bf16 where the device multiplies it natively, else fp32 (a CPU
            that only emulates bf16 is many times slower with it).
        channels_last: Train with channels-last memory, which convolutions prefer.
        ema: Decay per step of an exponential moving average of the weights, which is then what is
            evaluated and returned.
        clip_norm: Largest L2 norm of all gradients together.
        label_smoothing: Share of the target spread evenly over all classes.
        eval_every: Interval of evaluations on the validation split.
        early_stop: Stop after this many evaluations without a better validation accuracy, or what
            else is the data's metric.
        keep: Return the last weights or the best ones by that metric. With a mask that
            still changes during the run, the best weights may belong to an earlier mask.
        checkpoint_every: Interval of checkpoints.

    Raises:
        pydantic.ValidationError: A value is out of range, or two of them contradict each other; it
            is a ValueError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    length: Duration
    start: Duration = "0it"
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)
    decay_norm_bias: bool = True
    schedule: Literal["constant", "step", "cosine", "milestones"] = "constant"
    milestones: tuple[Duration, ...] = ()
    step: Duration | None = None
    gamma: float = Field(default=0.1, gt=0, le=1)
    warmup: Duration = "0it"
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    channels_last: bool = True
    ema: float | None = Field(default=None, gt=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    eval_every: Duration = "1ep"
    early_stop: int | None = Field(default=None, ge=1)
    keep: Literal["last", "best"] = "last"
    checkpoint_every: Duration = "1ep"

    @field_validator("length", "step", "eval_every", "checkpoint_every")
    @classmethod
    def _lasts(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None and not lasts(text):
            way_out = "; leave the table out" if info.field_name == "length" else ""
            raise ValueError(f"{info.field_name} must be above 0, got {text!r}{way_out}.")
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError(
                "nesterov needs optimizer 'sgd' and a momentum above 0, got "
                f"{self.optimizer!r} and {self.momentum:g}."
            )
        if bool(self.milestones) != (self.schedule == "milestones"):
            raise ValueError(
                "milestones and schedule 'milestones' belong together, got milestones "
                f"{self.milestones} and schedule {self.schedule!r}."
            )
        if (self.step is not None) != (self.schedule == "step"):
            raise ValueError(
                "step and schedule 'step' belong together, got step "
                f"{self.step!r} and schedule {self.schedule!r}."
            )
        return self

    def scaled(self, factor: float) -> "TrainSettings":
        """Return these settings with the length, milestones and step times `factor`.

        Whole numbers of epochs or steps stay whole: they are rounded down, as in the published
        scratch-B scripts, but not below 1. The warm-up keeps its length.

        Raises:
            ValueError: `factor` is not above 0.
        """
        if not factor > 0:
            raise ValueError(f"factor must be above 0, got {factor}.")

        def times(text: str) -> str:
            number, unit = text[:-2], text[-2:]
            if "." in number:
                return f"{round(float(number) * factor, 3)}{unit}"
            # A quotient of two costs may fall a rounding error short of a whole number.
            return f"{max(1, int(int(number) * factor + 1e-6))}{unit}"

        return self.model_copy(
            update={
                "length": times(self.length),
                "milestones": tuple(times(text) for text in self.milestones),
                "step": None if self.step is None else times(self.step),
            }
        )
