"""The cells of a study, and the stages that all of them rest on, each named once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prunus.recipe import Recipe
from prunus.run.controls import earlier
from prunus.run.plan import Plan, Step
from prunus.study.arms import lacking, stage_of
from prunus.study.recipe import StudyMethod, StudyRecipe
from prunus.types import Target


@dataclass(frozen=True)
class Cell:
    """One network of the study: an arm of a method at a size, with one seed.

    Attributes:
        method: The method's title; "" for the unpruned network, which is the same for all.
        target: The size.
        arm: A key of `ARMS`.
        seed: The seed.
        stages: Name of each stage that it rests on -> that stage's key in `Cells.tasks`.
        stage: Name of the one among them that is its result.
        levels: Level before the last -> key of the stage with the same arm there.
    """

    method: str
    target: Target | None
    arm: str
    seed: int
    stages: Mapping[str, str]
    stage: str
    levels: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A stage to be done somewhere.

    Attributes:
        recipe: A recipe that has it.
        stage: Its name there.
        step: Where it lies and what goes into it.
        needs: Keys of the tasks to be done before.
    """

    recipe: Recipe
    stage: str
    step: Step
    needs: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is called while it is being done."""
        recipe, target = self.recipe, self.recipe.target
        parts = [self.stage, f"seed {recipe.seed}"]
        if self.stage != "dense":
            size = "" if target is None else f" {target.metric} {target.value:g}"
            parts.insert(0, f"{recipe.method.name}{size}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Cells:
    """All of a study.

    Attributes:
        cells: In the order of the tables.
        tasks: Key -> every stage, once, what is needed first.
        timings: Method and size -> key of the stage that times its network, where it is timed.
        notes: Which arms are not there, and why.
    """

    cells: Sequence[Cell]
    tasks: Mapping[str, Task]
    timings: Mapping[tuple[str, Target | None], str]
    notes: Sequence[str]


def cells_of(study: StudyRecipe, root: Path) -> Cells:
    """Lay out a study under the folder of all runs; nothing is done.

    Raises:
        RecipeError: A file of weights is missing.
    """
    cells: list[Cell] = []
    tasks: dict[str, Task] = {}
    timings: dict[tuple[str, Target | None], str] = {}
    missing: dict[tuple[str, str], str] = {}

    def laid(recipe: Recipe, stage: str) -> dict[str, str]:
        """Add the tasks of a stage; return name -> key of it and all that it rests on."""
        plan = Plan(recipe, root, shared=True)
        keys = {name: str(plan.steps[name].directory) for name in plan.closure(stage)}
        for name, key in keys.items():
            step = plan.steps[name]
            needs = tuple(keys[need] for need in step.needs.values())
            tasks.setdefault(key, Task(recipe, name, step, needs))
        return keys

    def add(method: str, target: Target | None, arm: str, recipe: Recipe) -> None:
        if why := lacking(recipe, arm):
            missing[method, arm] = why
            return
        stage = stage_of(recipe, arm)
        before = {level: laid(recipe, name)[name] for name, _, _, level in earlier(recipe)}
        cells.append(Cell(method, target, arm, recipe.seed, laid(recipe, stage), stage, before))

    for seed in range(study.study.seeds):
        add("", None, "unpruned", _unpruned(study, seed))
    for method in study.study.methods:
        for target in study.targets(method):
            for arm in study.study.arms:
                for seed in range(study.study.seeds):
                    recipe = study.member(method, target, seed, arm)
                    add(method.title, target, arm, recipe)
        if study.bench is not None:
            for target in study.targets(method):
                keys = laid(study.timing(method, target), "measure")
                timings[method.title, target] = keys["measure"]
    notes = [f"{method} {why} (no arm {arm})" for (method, arm), why in missing.items()]
    return Cells(cells, tasks, timings, notes)


def _unpruned(study: StudyRecipe, seed: int) -> Recipe:
    # Its first stage is the unpruned network, whatever the method, which is never asked for.
    return study.member(StudyMethod(name="magnitude"), None, seed)
