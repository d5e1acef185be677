"""What each stage of a run does: it fills its directory and returns what it found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from prunus import zoo
from prunus.files import write_tensors
from prunus.methods import Method
from prunus.pruning import Pruner, Result, prune
from prunus.ranks import from_first
from prunus.recovery import (
    norm_weights,
    recalibrate_batch_norm,
    reinitialise,
    scratch_settings,
    shuffled,
)
from prunus.run import shapes
from prunus.run.controls import draw_seed, random_mask
from prunus.run.equal_size import equal_size, size_of
from prunus.run.fits import check_fit, check_schedule
from prunus.run.levels import Levels, levels, mask_name
from prunus.run.masks import kept_units, macs, shares
from prunus.run.sizes import dense_size, pruned_size
from prunus.run.stages import Done
from prunus.run.workshop import Workshop, tensors
from prunus.space.shrink import shrink

_RECALIBRATION = 50  # batches


@dataclass(frozen=True)
class Work(Workshop):
    """The stages of one recipe; for arguments see `Workshop`.

    Of several ranks, all train; the first one writes, evaluates, prunes in one shot and measures.
    """

    def dense(self, directory: Path) -> dict[str, Any]:
        """Load the network's weights, or train it."""
        model = self.network()
        if self.data is not None:
            check_schedule(self.recipe, self.data)
            check_fit(model, self.data)
        if self.checkpoint is not None:
            zoo.load_weights(model, self.checkpoint)
            return self._arm(model, directory)
        return self._arm(model, directory, self.recipe.train)

    def prune(self, directory: Path, dense: Done) -> dict[str, Any]:
        """Decide what goes and take it out; a gradual method does so while it trains."""
        model, recipe = self._dense(dense), self.recipe
        method = recipe.method.build()
        if method.during_training:
            return self._prune_in_training(model, method, directory, dense)

        def pruned() -> dict[str, Any]:
            result = prune(
                model,
                self.example,
                method=method,
                target=recipe.target,
                calibration=self.calibration,
                seed=recipe.seed,
                progress=self.progress,
            )
            return self._decided(model, result, directory)

        return from_first(pruned)

    def _decided(self, model: nn.Module, result: Result, directory: Path) -> dict[str, Any]:
        """Keep what a method made of a network."""
        write_tensors(directory / "mask.safetensors", result.mask)
        return self._kept(result.model, directory) | self._account(model, result)

    def _account(self, model: nn.Module, result: Result) -> dict[str, Any]:
        """Say what a pruned network costs, and what is left of each layer."""
        space = self.traced(model)
        costs = {"macs": macs(space, result.mask), "kept": shares(space, result.mask)}
        return costs | {"report": result.report.to_dict()}

    def recover(self, directory: Path, dense: Done, pruned: Done) -> dict[str, Any]:
        """Train the pruned network on from its surviving weights."""
        model, mask = self._pruned(dense, pruned, pruned)
        return self._arm(model, directory, self.recipe.finetune, mask, self._objective(dense))

    def scratch(
        self,
        directory: Path,
        dense: Done,
        pruned: Done,
        budget: Literal["E", "B"],
        cap: float | None = None,
    ) -> dict[str, Any]:
        """Train the pruned network from random weights, for the dense one's epochs or MACs."""
        model, mask = self._pruned(dense, pruned, pruned)
        whole, small = dense_size([pruned.result])["macs"], pruned_size(pruned.result)["macs"]
        assert self.recipe.starting is not None
        settings = scratch_settings(self.recipe.starting, whole, small, budget, cap)
        drawn = norm_weights(self.network())  # what slimming begins with is the network's affair
        reinitialise(model, self.recipe.seed, mask, norm_weight=drawn)
        return self._arm(model, directory, settings, mask)

    def random(self, directory: Path, dense: Done, pruned: Done, draw: int) -> dict[str, Any]:
        """Train on what is left when as many units of each layer are gone, but at random."""
        recipe, model = self.recipe, self._dense(dense)
        seed = draw_seed(recipe.seed, "random", draw)
        space, mask = self.traced(model), tensors(pruned, "mask")
        held = None
        if pruned.result["report"]["form"] == "masked":
            granularity = recipe.method.build().granularity
            held = random_mask(space, granularity, mask, "random", seed)
        else:
            keep = shuffled(kept_units(space, mask), "layer", seed)
            model = shrink(model, space, keep, self.example).model
        return self._arm(model, directory, recipe.finetune, held, self._objective(dense))

    def small_dense(self, directory: Path, dense: Done, pruned: Done) -> dict[str, Any]:
        """Train an ordinary network of the pruned one's size from random weights."""
        report, recipe = pruned.result["report"], self.recipe
        metric, share = size_of(report)
        narrow = self._narrow if self._has_width() else None
        model, made = equal_size(self.network(), narrow, self.example, metric, share, recipe.seed)
        reinitialise(model, recipe.seed, norm_weight=norm_weights(model))
        found = self._arm(model, directory, recipe.starting)
        space = self.traced(model)
        costs = {name: space.cost(name).dense for name in ("macs", "bytes")}
        return {**found, "made": made, "costs": costs}

    def shape(
        self, directory: Path, dense: Done, pruned: Done, arm: str, source: Done | None = None
    ) -> dict[str, Any]:
        """Train from scratch a network as dear as the pruned one, of other widths or mask."""
        recipe, network, given = self.recipe, self.network(), None
        if arm == "guided":
            given = shapes.found(recipe, network, self.example, pruned)
        elif source is not None:
            other = Work(recipe.source_recipe)
            given = shapes.found(other.recipe, other.network(), other.example, source)
        made = shapes.shaped(recipe, network, self.example, pruned, given)
        held = made.mask if made.report.form == "masked" else None
        reinitialise(made.model, recipe.seed, held, norm_weight=norm_weights(network))
        trained = self._arm(made.model, directory, recipe.starting, held)
        return trained | self._account(network, made)

    def control(
        self,
        directory: Path,
        dense: Done,
        pruned: Done,
        arm: str,
        draw: int,
        level: int | None = None,
    ) -> dict[str, Any]:
        """Train a control as the ticket is trained, the last or an earlier: see `Recipe.arms`."""
        settings, recipe = self.recipe.starting, self.recipe
        assert settings is not None
        method = recipe.method.build()
        seed = draw_seed(recipe.seed, arm, draw)
        ticket = mask_name(level)
        if arm == "reinit":
            model, mask = self._small(self.network(seed), pruned, ticket)
            return self._arm(model, directory, settings, mask)
        model = self._dense(dense) if method.before_training else self.network()
        if arm == "unpruned":
            return self._arm(model, directory, settings)
        if method.rewind is not None and (start := tensors(pruned, "start")):
            model.load_state_dict(start)
            settings = settings.model_copy(update={"start": method.rewind.to})
        space, mask = self.traced(model), tensors(pruned, ticket)
        mask = random_mask(space, method.granularity, mask, arm, seed)
        return self._arm(model, directory, settings, mask)

    def test(self, directory: Path, dense: Done, pruned: Done, last: Done) -> dict[str, Any]:
        """Look at the test split with the network of stage `last`."""
        assert self.data is not None
        return self._tested(self._pruned(dense, pruned, last)[0], self.data)

    def networks(self, dense: Done, pruned: Done, last: Done) -> dict[str, nn.Module]:
        """Return the dense network and the smaller one with the weights of stage `last`."""
        return {"dense": self._dense(dense), "pruned": self._pruned(dense, pruned, last)[0]}

    def _prune_in_training(
        self, model: nn.Module, method: Method, directory: Path, dense: Done
    ) -> dict[str, Any]:
        data, settings, recipe = self.data, self.recipe.finetune, self.recipe
        assert data is not None and settings is not None
        check_schedule(recipe, data)
        pruner = Pruner(
            model,
            self.example,
            method,
            target=recipe.target,
            steps_per_epoch=data.steps_per_epoch,
            calibration=self.calibration,
            seed=recipe.seed,
            progress=self.progress,
        )
        hook = pruner if method.rewind is None else Levels(pruner, directory)
        trained = self._fit(model, directory, settings, hook, self._objective(dense))

        def pruned() -> dict[str, Any]:
            if method.rewind is not None:
                write_tensors(directory / "start.safetensors", pruner.rewinding.start)
                trained["levels"] = levels(pruner.rewinding, trained["curve"])
            result = pruner.finish()
            if method.recalibrates:
                inputs = (inputs for inputs, _ in data.train_batches(0))
                recalibrate_batch_norm(result.model, inputs, batches=_RECALIBRATION)
            return self._decided(model, result, directory) | trained

        return from_first(pruned)
