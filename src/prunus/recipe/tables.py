"""The tables of a recipe, each a choice, checked before anything is computed."""

import inspect
import math
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
    validate_call,
)

from prunus import zoo
from prunus.deploy.runtimes import check_precision, check_runtime
from prunus.deploy.timing import check_rounds
from prunus.errors import InferenceError, RecipeError, TargetError
from prunus.methods import METHODS, Method
from prunus.names import did_you_mean
from prunus.recipe.arms import Arm, check_arms
from prunus.recipe.writing import digest, to_toml
from prunus.recovery import SoftTargets
from prunus.recovery.distil import Combination
from prunus.schedules import lasts
from prunus.training import TrainSettings
from prunus.types import Target


class Table(BaseModel):
    """One table of a recipe: it has the keys named here and no others, and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(Table):
    """Which network, and the weights it starts from.

    Args:
        name: A network of the zoo, such as "resnet20" or "torchvision:resnet18".
        factory: A function that builds the user's own network, as "package.module:function".
        options: Arguments of either.
        weights: A safetensors or plain-tensor checkpoint, looked for beside the recipe, in the
            working directory and in PRUNUS_DATA. Without it the network starts at random.
        input: Shape of one input without the batch, such as (3, 32, 32); needed only for a
            factory without data.
    """

    name: str | None = None
    factory: str | None = None
    options: dict[str, Any] = {}
    weights: str | None = None
    input: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _is_known(self) -> "Network":
        if (self.name is None) == (self.factory is None):
            raise ValueError("a network has either a name or a factory; give exactly one.")
        if self.name is not None:
            zoo.check_network(self.name)
        return self


class Dataset(Table):
    """Which data, and how it is cut into batches; see `prunus.zoo.dataset`.

    Args:
        name: A dataset of the zoo, or "folder:PATH" with a folder per class inside train/.
        batch_size: Samples per step.
        val_size: Training samples held out for validation; by default the dataset's own number.
        root: Where to look for it first.
        augment: Whether training samples are cropped and flipped at random.
        image_size: Side to which the images of a folder are cut, 224 by default.
    """

    name: str
    batch_size: int = Field(default=128, ge=1)
    val_size: int | None = Field(default=None, ge=0)
    root: str | None = None
    augment: bool = True
    image_size: int | None = Field(default=None, ge=1)

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        zoo.check_dataset(name)
        return name


class MethodChoice(BaseModel):
    """A method of `prunus.methods` by name; every other key is one of its arguments."""

    model_config = ConfigDict(frozen=True, extra="allow")

    table: ClassVar[Mapping[str, Callable[..., Method]]] = METHODS
    name: str

    @model_validator(mode="after")
    def _builds(self) -> "MethodChoice":
        if self.name not in self.table:
            raise ValueError(
                f"method '{self.name}' is unknown.{did_you_mean(self.name, self.table)} Known are "
                f"{', '.join(self.table)}."
            )
        known = list(inspect.signature(self.table[self.name]).parameters)
        for key in self.arguments:
            if key not in known:
                hint = did_you_mean(key, [*known, "name"])
                raise ValueError(
                    f"method '{self.name}' has no '{key}'.{hint} It has {', '.join(known)}."
                )
            if isinstance(self.arguments[key], float) and not math.isfinite(self.arguments[key]):
                raise ValueError(f"{key} must be finite, got {self.arguments[key]}.")
        self.build()
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """The method's own keys."""
        return dict(self.model_extra or {})

    def build(self) -> Method:
        """Return the method.

        Raises:
            ValueError: An argument is of the wrong type or out of range.
        """
        return _typed(self.table[self.name])(**self.arguments)


@cache
def _typed(make: Callable[..., Method]) -> Callable[..., Method]:
    """Return what makes a method, with its arguments held to their types: text has others."""
    return validate_call(make)


class Distil(Table):
    """What `finetune` learns beside the labels: soft targets, see `prunus.recovery.SoftTargets`.

    Args:
        temperature: Of the soft targets.
        hard_weight: Of the labels; 0 learns without them.
        combine: The mean of several teachers' distributions.
        teachers: Files with weights of the same, unpruned network, looked for like `model.weights`;
            by default the network that is pruned teaches, as it was before.
    """

    temperature: float = Field(default=SoftTargets().temperature, allow_inf_nan=False)
    hard_weight: float = SoftTargets().hard_weight
    combine: Combination = "arithmetic"
    teachers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _builds(self) -> "Distil":
        self.soft_targets()
        return self

    def soft_targets(self) -> SoftTargets:
        """Return the loss.

        Raises:
            ValueError: A value is out of range.
        """
        return SoftTargets(**self.model_dump(exclude={"teachers"}))


class Source(Table):
    """The network on which the pattern of the arm "transferred" is found.

    Args:
        model: The network; the recipe's method prunes it to the recipe's target.
        data: What it is trained on; the recipe's data by default.
        train: How it is trained; as the recipe's network by default.
    """

    model: Network
    data: Dataset | None = None
    train: TrainSettings | None = None


class Export(Table):
    """Whether the networks leave as ONNX files, and also in int8."""

    onnx: bool = True
    dynamic_batch: bool = True
    int8: bool = True


class Bench(Table):
    """How the exported networks are timed; no rounds, no timing.

    Each is timed in every precision that the runtime has on the machine.
    """

    runtime: str = "onnxruntime"
    threads: int = Field(default=1, ge=1)
    batch: int = Field(default=1, ge=1)
    rounds: int = Field(default=50, ge=0)

    @field_validator("runtime")
    @classmethod
    def _is_known(cls, runtime: str) -> str:
        check_runtime(runtime)
        return runtime

    @field_validator("rounds")
    @classmethod
    def _gives_an_interval(cls, rounds: int) -> int:
        check_rounds(rounds)
        return rounds


class Recipe(Table):
    """One run: a network, its data, a method, and what is done before and after.

    Args:
        name: Names the run's directory.
        seed: Of initialisation, data order and every random choice.
        model: The network.
        data: Without it nothing is trained or evaluated: structure and speed only.
        method: The method and its arguments.
        target: How small; without it the method's own default.
        train: How the dense network is trained, when it has no weights; the scratch arms repeat it.
            A method that prunes before training needs neither, only `finetune`.
        finetune: How accuracy is recovered; for a gradual method, the training it prunes in.
        distil: Makes `finetune` learn from teachers; by default the method decides, and most learn
            from labels alone.
        arms: Controls. "scratch_e" trains the pruned network from random weights for as many
            epochs as the dense one, "scratch_b" for as many multiply-accumulates, "scratch_b_2x"
            too but for at most twice the epochs. "random" is fine-tuned like the pruned network,
            but as many units of each layer as went are gone at random; "small_dense" is an ordinary
            network of its size: of less width where the network has the option, else with the same
            share of channels, at random, gone from every layer. The others train
            as a network is from its initialisation: the whole network ("unpruned"), for methods
            that never train it by itself; the pruned one drawn anew as the first was ("reinit");
            and from the first weights, as many single weights at random, in each layer
            ("random_mask"), over all layers ("shuffle_all") or the same share of each layer
            ("shuffle_even").
            Three more have other widths, or other masks, of the pruned network's cost, and train
            as "scratch_e" does: "uniform", the same share of every layer, at random; "guided", in
            each stage the share that the method left there on average, for single weights at each
            place of the kernel; and "transferred", the shares that it leaves of another network.
        draws: How often each of the random ones is drawn and trained.
        every_level: Whether "reinit" and the random masks are trained for every level of a method
            that rewinds, such as the lottery, rather than for the last alone.
        source: That other network.
        export: What leaves.
        bench: How it is timed.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0)
    model: Network
    data: Dataset | None = None
    method: MethodChoice
    target: Target | None = None
    train: TrainSettings | None = None
    finetune: TrainSettings | None = None
    distil: Distil | None = None
    arms: tuple[Arm, ...] = ()
    draws: int = Field(default=1, ge=1)
    every_level: bool = False
    source: Source | None = None
    export: Export = Export()
    bench: Bench = Bench()

    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _is_complete(self) -> "Recipe":
        if self.data is None and (self.train or self.finetune or self.arms):
            raise ValueError("[train], [finetune] and arms need a [data] table; add one.")
        untrained = self.method.build().before_training and self.finetune is not None
        if self.data and not (self.train or self.model.weights or untrained):
            raise ValueError("the dense network needs weights or a [train] table; add either.")
        if self.prunes_in_training and (self.finetune is None or self.finetune.keep != "last"):
            raise ValueError(
                f"method '{self.method.name}' prunes while the network trains; it needs a "
                "[finetune] table with keep = 'last'."
            )
        if self.prunes_in_training and self.finetune and self.finetune.early_stop is not None:
            raise ValueError(
                f"method '{self.method.name}' prunes while the network trains, until its schedule "
                "ends; leave early_stop out."
            )
        method = self.method.build()
        if self.target is not None:
            try:
                check_precision(self.target.runtime, self.target.precision)
                method.check_target(self.target)
            except (InferenceError, TargetError) as error:
                raise ValueError(str(error)) from error
        self._check_distillation(method)
        rewinds = method.rewind is not None
        if rewinds and self.finetune and self.finetune.length != method.schedule.begin:
            raise ValueError(
                f"finetune.length is one training of method '{self.method.name}' and must be its "
                f"'{method.schedule.begin}', got '{self.finetune.length}'; change either."
            )
        if rewinds and self.finetune and lasts(self.finetune.start):
            raise ValueError(
                "a method that rewinds says itself where trainings begin; leave finetune.start out."
            )
        check_arms(self, method)
        if self.source is not None:
            try:
                _ = self.source_recipe
            except ValidationError as error:
                why = error.errors()[0].get("ctx", {}).get("error", error)
                raise ValueError(f"[source] does not go with the rest: {why}") from error
        return self

    @property
    def starting(self) -> TrainSettings | None:
        """How a network is trained from its initialisation, as far as the recipe says."""
        return self.finetune if self.method.build().before_training else self.train

    def _check_distillation(self, method: Method) -> None:
        if self.soft_targets is None:
            return
        teaches = "[distil]" if self.distil else f"method '{method.name}'"
        if self.finetune is None:
            raise ValueError(f"{teaches} says how [finetune] learns; add that table.")
        if self.finetune.label_smoothing:
            raise ValueError(
                f"{teaches} and finetune.label_smoothing exclude each other; keep one."
            )
        teachers = self.distil.teachers if self.distil else ()
        if not (self.train or self.model.weights or teachers):
            raise ValueError(
                f"{teaches} needs a trained teacher, but the unpruned network is not trained; add "
                "distil.teachers, weights or a [train] table."
            )

    @property
    def soft_targets(self) -> SoftTargets | None:
        """What `finetune` learns beside labels; None for nothing."""
        return self.distil.soft_targets() if self.distil else self.method.build().distillation

    @property
    def prunes_in_training(self) -> bool:
        """Whether the method acts while `finetune` trains, rather than before."""
        return self.method.build().during_training

    @property
    def source_recipe(self) -> "Recipe":
        """The run whose pruned network gives the pattern of the arm "transferred".

        Raises:
            RecipeError: There is no source.
        """
        if self.source is None:
            raise RecipeError("there is no [source] table.")
        own = self.source.model_dump(exclude_none=True)
        tables = self.model_dump() | own | {"name": f"{self.name}-source", "arms": ()}
        recipe = Recipe.model_validate(tables | {"source": None})
        recipe._folder = self._folder
        return recipe

    @property
    def hash8(self) -> str:
        """Eight hexadecimal digits of the choices that differ from their defaults, seed aside."""
        return digest(self.model_dump(mode="json", exclude_defaults=True, exclude={"name", "seed"}))

    def locate(self, path: str, key: str = "model.weights") -> Path:
        """Find a file named in the recipe: beside it, in the working directory, in PRUNUS_DATA.

        Args:
            path: As the recipe has it.
            key: The key that names it, for the message.

        Raises:
            RecipeError: It is in none of them.
        """
        places = [self._folder, Path.cwd()]
        if data := os.environ.get("PRUNUS_DATA"):
            places.append(Path(data))
        for place in places:
            if (found := place / Path(path).expanduser()).is_file():
                return found
        looked = ", ".join(str(place.resolve()) for place in places)
        raise RecipeError(
            f"{key} must name a file, got '{path}', which is in none of {looked}. "
            "Set PRUNUS_DATA to the folder that holds it."
        )

    def to_toml(self) -> str:
        """Return the TOML text that `load` reads back as an equal recipe."""
        return to_toml(self.model_dump(mode="json", exclude_defaults=True))
