"""A study as data: the tables of a recipe, and a [study] table that says what is compared."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, PrivateAttr, model_validator

from prunus.errors import RecipeError
from prunus.recipe import (
    LEVELLED,
    Bench,
    Dataset,
    Distil,
    Export,
    MethodChoice,
    Network,
    Recipe,
    Source,
    Table,
    checked,
    digest,
    parse,
    read,
    to_toml,
)
from prunus.recipe import Arm as Control
from prunus.study.arms import StudyArm
from prunus.training import TrainSettings
from prunus.types import Target

Metric = Literal["macs", "params", "bytes", "sparsity", "density"]
Targets = Mapping[Metric, tuple[float, ...]]
"""Metric -> each value at which the network is pruned."""


class StudyMethod(MethodChoice):
    """A method of the study: its name, or a table of its name, its arguments and these keys.

    Args:
        label: What it is called, by default its name.
        targets: Instead of the study's; none for the size that the method's arguments give.
        finetune: Instead of the study's [finetune].
    """

    label: str | None = None
    targets: Targets | None = None
    finetune: TrainSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def title(self) -> str:
        """What it is called."""
        return self.label or self.name


class Grid(Table):
    """What is compared with what.

    Args:
        methods: Names, or tables with a name and arguments.
        targets: Sizes, such as { macs = [0.5, 0.25] }; for each method that has none of its own.
        seeds: How often each arm is trained, with the seeds 0, 1, 2 ...
        arms: What is trained of each method at each size, see `prunus.study.ARMS`; the unpruned
            network is always there.
        every_level: Whether "reinit" and "random_mask" are trained for every level of a method that
            rewinds, such as the lottery, so that the page draws curves; else for the last.
        select: The split on which methods and epochs are chosen. Only "val": what was chosen on
            the test split is no longer measured by it.
        unequal_budgets: Says that methods train for different lengths, as the result then does too.
    """

    methods: tuple[StudyMethod, ...] = Field(min_length=1)
    targets: Targets = Field(default={})
    seeds: int = Field(default=3, ge=1)
    arms: tuple[StudyArm, ...] = ("pruned", "fine_tuned", "scratch_e", "scratch_b", "random")
    every_level: bool = False
    select: Literal["val", "test"] = "val"
    unequal_budgets: bool = False

    @model_validator(mode="after")
    def _is_honest(self) -> "Grid":
        if self.select == "test":
            raise ValueError(
                "select must be 'val', got 'test': an accuracy by which something was chosen is "
                "too high to report. Test samples are looked at once, when all is chosen."
            )
        for title, count in Counter(method.title for method in self.methods).items():
            if count > 1:
                raise ValueError(f"methods has '{title}' {count} times; give each its own label.")
        sizes = [self.targets, *(method.targets or {} for method in self.methods)]
        given = [(m, values) for one in sizes for m, values in one.items()]
        for name, values in [("arms", self.arms), *given]:
            for value, count in Counter[Any](values).items():
                if count > 1:  # it would count as further seeds
                    raise ValueError(f"{name} has {value} {count} times; leave one.")
        return self


class StudyRecipe(Table):
    """A study: a network, its data and trainings as in a recipe, and what is compared.

    Args:
        name: Names the directory of the results.
        model: The network.
        data: What it is trained on.
        train: How the unpruned network is trained, and the networks from scratch.
        finetune: How a pruned network is trained on; a method that prunes while it trains does so
            in it. A method that prunes before training trains as in [train], for as long as the
            others train and fine-tune together.
        distil: How the unpruned network teaches in the arm "distilled".
        source: Another network, whose pattern, as each method leaves it, is that of the arm
            "transferred".
        bench: How each method's network is timed at each size, one of them, that of seed 0, and
            alone, after all training; without it none is.
        study: What is compared.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    model: Network
    data: Dataset
    train: TrainSettings | None = None
    finetune: TrainSettings | None = None
    distil: Distil = Field(default_factory=lambda: Distil.model_validate({}))
    source: Source | None = None
    bench: Bench | None = None
    study: Grid

    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _is_complete(self) -> "StudyRecipe":
        if self.bench is not None and not self.bench.rounds:
            raise ValueError("bench.rounds must be at least 6, got 0; leave [bench] out instead.")
        if self.data.val_size == 0:
            raise ValueError(
                "a study chooses on validation samples, but data.val_size is 0; hold some out."
            )
        if {"fine_tuned", "distilled"} & {*self.study.arms} and not self.finetune:
            own = all(method.finetune or method.build().rewind for method in self.study.methods)
            if not own:
                raise ValueError("fine-tuning needs a [finetune] table; add one.")
        rewinding = any(method.build().rewind for method in self.study.methods)
        if self.study.every_level and not (rewinding and {*LEVELLED} & {*self.study.arms}):
            raise ValueError(
                "study.every_level is for the arms reinit and random_mask of a method that "
                "rewinds, such as lottery; name them, or leave it out."
            )
        if self.source is not None and "transferred" not in self.study.arms:
            raise ValueError(
                "a [source] table is for the arm transferred; add that to study.arms, or leave it "
                "out."
            )
        spent: dict[str, Mapping[str, Decimal]] = {}
        for method in self.study.methods:
            for target in self.targets(method):
                for arm in self.study.arms:
                    self.member(method, target, 0, arm)
            spent[method.title] = self.lengths(method)
        if (
            not self.study.unequal_budgets
            and len({tuple(one.items()) for one in spent.values()}) > 1
        ):
            lines = ", ".join(f"{title} {_lengths(one)}" for title, one in spent.items())
            raise ValueError(
                f"the methods train for different lengths in all, the unpruned network's training "
                f"included: {lines}. Give them equal ones, or say so with study.unequal_budgets = "
                "true; the result then says so too."
            )
        return self

    def targets(self, method: StudyMethod) -> list[Target | None]:
        """Return the sizes of a method."""
        given = self.study.targets if method.targets is None else method.targets
        try:
            found = [Target.of(m, value) for m, values in given.items() for value in values]
        except (TypeError, ValueError) as error:
            raise RecipeError(f"targets of method '{method.title}': {error}") from error
        return [*found] or [None]

    def member(
        self, method: StudyMethod, target: Target | None, seed: int, arm: str = "fine_tuned"
    ) -> Recipe:
        """Return the recipe of a run that has one arm of a method at one size.

        Args:
            method: The method.
            target: The size.
            seed: The seed.
            arm: A key of `ARMS`.

        Raises:
            RecipeError: They do not go together.
        """
        tables: dict[str, Any] = {
            "name": self.name,
            "seed": seed,
            "model": self.model.model_dump(),
            "data": self.data.model_dump(),
            "method": {"name": method.name, **method.arguments},
            "target": None if target is None else {target.metric: target.value},
            "train": None if method.build().before_training else self.train,
            "finetune": self.finetuning(method),
        }
        if arm == "distilled" and not method.build().before_training:
            tables["distil"] = self.distil.model_dump()
        elif arm in get_args(Control):
            tables["arms"] = [arm]
        if arm in LEVELLED and method.build().rewind is not None:
            tables["every_level"] = self.study.every_level
        if arm == "transferred" and self.source is not None:
            tables["source"] = self.source.model_dump()
        try:
            return parse(tables, self._folder)
        except RecipeError as error:
            raise RecipeError(f"method '{method.title}' of the study: {error}") from error

    def timing(self, method: StudyMethod, target: Target | None) -> Recipe:
        """Return the recipe of a run that times a method's network at one size, as it is pruned."""
        recipe = self.member(method, target, seed=0)
        trained = recipe.finetune if recipe.prunes_in_training else None
        export = Export(int8=False)
        return recipe.model_copy(
            update={"bench": self.bench, "export": export, "finetune": trained}
        )

    def finetuning(self, method: StudyMethod) -> TrainSettings | None:
        """Return how a method's network is trained."""
        built = method.build()
        if method.finetune is not None or not built.before_training:
            return method.finetune or self.finetune
        if built.rewind or self.finetune is None or self.train is None:
            return self.train or self.finetune
        first, second = self.train.length, self.finetune.length
        if first[-2:] != second[-2:]:
            raise RecipeError(
                f"method '{method.title}' trains once, for train.length and finetune.length "
                f"together; give both one unit, got '{first}' and '{second}'."
            )
        return self.train.scaled(1 + float(second[:-2]) / float(first[:-2]))

    def lengths(self, method: StudyMethod) -> Mapping[str, Decimal]:
        """Return for how long a method trains in all, unit ("ep", "it") -> number."""
        built, settings = method.build(), self.finetuning(method)
        total: dict[str, Decimal] = defaultdict(Decimal)
        if self.train is not None and not built.before_training and not self.model.weights:
            total[self.train.length[-2:]] += Decimal(self.train.length[:-2])
        if settings is not None:
            total[settings.length[-2:]] += built.trainings * Decimal(settings.length[:-2])
        return dict(sorted(total.items()))

    @property
    def hash8(self) -> str:
        """Eight hexadecimal digits of all choices."""
        return digest(self.model_dump(mode="json", exclude={"name"}))

    def to_toml(self) -> str:
        """Return the TOML text that `load` reads back as an equal study."""
        return to_toml(self.model_dump(mode="json", exclude_defaults=True))


def load(path: Path | str, overrides: Sequence[str] = ()) -> StudyRecipe:
    """Read a study's recipe; see `prunus.recipe.load`.

    Raises:
        RecipeError: The file is missing or not TOML, a key or value is wrong, or the study would
            not be honest.
    """
    tables = read(path, overrides)
    if "study" not in tables:
        raise RecipeError(
            f"{Path(path).name} has no [study] table, so it is one run; give it to `prunus run`, "
            "or add study.methods and study.targets."
        )
    return parse_study(tables, Path(path).parent)


def parse_study(tables: Mapping[str, Any], folder: Path = Path()) -> StudyRecipe:
    """Check the tables of a study's recipe.

    Args:
        tables: By name.
        folder: Where files that it names are looked for first.

    Raises:
        RecipeError: A key or value is wrong, or the study would not be honest.
    """
    recipe = checked(StudyRecipe, tables)
    recipe._folder = folder.resolve()
    return recipe


def _lengths(spent: Mapping[str, Decimal]) -> str:
    return " + ".join(f"{number:g}{unit}" for unit, number in spent.items()) or "0ep"
