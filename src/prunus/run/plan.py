"""What the stages of a recipe are, what goes into each and where it lies; then any one is done."""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from prunus import __version__
from prunus.ranks import from_first
from prunus.recipe import SHAPES, Recipe, digest
from prunus.run import delivery
from prunus.run.controls import arms, earlier
from prunus.run.stages import Announce, Done, recall, stage
from prunus.run.work import Work
from prunus.run.workshop import WatchStage, unwatched


@dataclass(frozen=True)
class Step:
    """A stage that may be done.

    Attributes:
        directory: Where its files lie, or will.
        inputs: All that its result depends on, as JSON can write it.
        compute: Does it, given the directory and by name the stages that it needs.
        needs: Argument of `compute` -> name of the stage.
    """

    directory: Path
    inputs: Mapping[str, Any]
    compute: Callable[..., dict[str, Any]]
    needs: Mapping[str, str]

    @property
    def key(self) -> str:
        """Stands for all that goes into the stage; known before anything is done."""
        return digest(self.inputs)

    def recall(self) -> Done | None:
        """Return the stage if it is done."""
        return recall(self.directory, self.inputs)


class Plan:
    """The stages of a recipe, each of which is done with what it needs, once.

    The dense network lies where all recipes that train it alike find it.

    Args:
        recipe: What to do.
        root: The folder of all runs.
        shared: Where the other stages lie: in a folder named after what goes into them, where
            every recipe that asks for the same finds them; or in the run's own folder.
        progress: Draw a bar while training.
        watch: Told of the records.
        trial: Whether others compete with it: all but the dense network are judged on the
            validation split alone, and a last stage `test` looks at the test split.

    Attributes:
        directory: The run's own folder.

    Raises:
        RecipeError: The recipe names a missing file.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: Path,
        *,
        shared: bool = False,
        progress: bool = False,
        watch: WatchStage = unwatched,
        trial: bool = False,
    ) -> None:
        self._recipe = recipe
        self._root = root
        self._shared = shared
        self._work = Work(recipe, progress, watch, trial)
        self._done: dict[str, Done] = {}
        self.directory = root / f"{recipe.name}-{recipe.hash8}" / f"seed-{recipe.seed}"

    def do(self, name: str, announce: Announce = lambda name, result, seconds: None) -> Done:
        """Do a stage, and first what it needs, or find it done.

        Args:
            name: A key of `steps`.
            announce: Told of each stage that is done, as in `prunus.run.stages.stage`.

        Raises:
            KeyError: The recipe has no such stage.
        """
        if name not in self._done:
            step = self.steps[name]
            needed = {argument: self.do(need, announce) for argument, need in step.needs.items()}
            compute = partial(step.compute, **needed)
            self._done[name] = stage(step.directory, step.inputs, compute, announce)
        return self._done[name]

    def closure(self, name: str) -> list[str]:
        """Return a stage and all that it rests on, what is needed first."""
        needed = [one for need in self.steps[name].needs.values() for one in self.closure(need)]
        return list(dict.fromkeys((*needed, name)))

    @property
    def key(self) -> str:
        """Stands for all that goes into the run."""
        return digest([step.key for step in self.steps.values()])

    @cached_property
    def steps(self) -> dict[str, Step]:
        """Every stage by name, in the order in which a run does them."""
        recipe, work = self._recipe, self._work
        plain = recipe.model_dump(mode="json")
        steps: dict[str, Step] = {"dense": self._dense(plain)}

        def add(name: str, compute: Any, needs: dict[str, str], **inputs: Any) -> None:
            place = self._place(name, digest(inputs), steps)
            steps[name] = Step(place, inputs, compute, needs)

        taught = {}
        if recipe.distil:
            files = [_sha256(file) for file in work.teachers]
            taught["distil"] = plain["distil"] | {"weights": files}
        add(
            "prune",
            work.prune,
            {"dense": "dense"},
            dense=steps["dense"].key,
            method=plain["method"],
            target=plain["target"],
            training=plain["finetune"] if recipe.prunes_in_training else None,
            **(taught if recipe.prunes_in_training else {}),
            **({"tested": False} if work.trial else {}),
        )
        needs, last = {"dense": "dense", "pruned": "prune"}, "prune"
        key = steps["prune"].key
        if recipe.finetune and not recipe.prunes_in_training:
            add("recover", work.recover, needs, prune=key, finetune=plain["finetune"], **taught)
            last = "recover"
        if work.trial:
            add("test", work.test, {**needs, "last": last}, last=steps[last].key)
        starting = recipe.starting and recipe.starting.model_dump(mode="json")
        if recipe.source is not None:
            source = Plan(
                recipe.source_recipe,
                self._root,
                shared=self._shared,
                progress=work.progress,
                watch=work.watch,
                trial=work.trial,
            )
            steps["source-dense"] = source.steps["dense"]
            pruning = source.steps["prune"]
            steps["source-prune"] = replace(pruning, needs={"dense": "source-dense"})
        for name, arm, draw in arms(recipe):
            if arm == "random":
                chance = partial(work.random, draw=draw)
                add(name, chance, needs, prune=key, finetune=plain["finetune"], **taught)
                continue
            train: Any = partial(work.control, arm=arm, draw=draw)
            if arm in SHAPES:
                also = {"source": "source-prune"} if arm == "transferred" else {}
                begun = {name: steps[stage].key for name, stage in also.items()}
                shape = partial(work.shape, arm=arm)
                add(name, shape, {**needs, **also}, prune=key, train=starting, **begun)
                continue
            if arm.startswith("scratch"):
                budget: Literal["E", "B"] = "E" if arm == "scratch_e" else "B"
                cap = 2.0 if arm == "scratch_b_2x" else None
                train = partial(work.scratch, budget=budget, cap=cap)
            elif arm == "small_dense":
                train = work.small_dense
            add(name, train, needs, prune=key, train=starting)
        for name, arm, draw, level in earlier(recipe):
            train = partial(work.control, arm=arm, draw=draw, level=level)
            add(name, train, needs, prune=key, train=starting)
        add(
            "export",
            partial(_by_first, partial(delivery.export, work)),
            {**needs, "last": last},
            last=steps[last].key,
            export=plain["export"],
        )
        if recipe.export.onnx and recipe.export.int8:
            add(
                "quantise",
                partial(_by_first, partial(delivery.to_int8, work)),
                {"exported": "export"},
                export=steps["export"].key,
                data=plain["data"],
            )
        if recipe.export.onnx and recipe.bench.rounds:
            quantised = steps["quantise"].key if "quantise" in steps else None
            add(
                "measure",
                partial(_by_first, partial(delivery.measure, work)),
                {**needs, "last": last, "exported": "export"}
                | ({"quantised": "quantise"} if quantised else {}),
                export=steps["export"].key,
                quantised=quantised,
                bench=plain["bench"],
            )
        return steps

    def _dense(self, plain: Mapping[str, Any]) -> Step:
        recipe, work = self._recipe, self._work
        begun = {
            "version": __version__,
            "model": plain["model"],
            "data": plain["data"],
            "train": None if work.checkpoint else plain["train"],
            "weights": _sha256(work.checkpoint),
            "code": _sha256(_source(recipe.model.factory)),
        }
        label = (recipe.model.name or str(recipe.model.factory)).replace(":", "-")
        folder = self._root / f"dense-{label.replace('/', '-')}-{digest(begun)}"
        inputs = begun | {"seed": recipe.seed}
        return Step(folder / f"seed-{recipe.seed}" / "dense", inputs, work.dense, {})

    def _place(self, name: str, key: str, steps: Mapping[str, Step]) -> Path:
        if not self._shared:
            return self.directory / name
        if name == "prune":
            return self._root / f"pruned-{self._recipe.method.name}-{key}" / name
        return steps["prune"].directory.with_name(f"{name}-{key}")


def _by_first(compute: Callable[..., dict[str, Any]], *args: Any, **needs: Any) -> dict[str, Any]:
    """Let the first of several ranks do a stage that trains nothing."""
    return from_first(partial(compute, *args, **needs))


def _source(factory: str | None) -> Path | None:
    """Return the file with the user's own network, whose changes make old results stale."""
    spec = importlib.util.find_spec(factory.partition(":")[0]) if factory else None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _sha256(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
