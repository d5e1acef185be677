"""What all participants know: the network, how it is trained, and by what it is pruned."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from prunus import zoo
from prunus.criteria.gathered import Form
from prunus.errors import RecipeError
from prunus.federated.recipe import MEASURED, FederatedRecipe, Initial
from prunus.federated.wire import Layout, Precision, tensors_of
from prunus.methods import Method
from prunus.schedules import iterations
from prunus.seeds import seeded
from prunus.selectors import TIME_MODELS, TimeModel
from prunus.space import UnitGroup, Unstructured, trace
from prunus.training import ArrayData, Data, FolderData, TrainSettings
from prunus.types import Example, Mask, Target, first_sample


@dataclass(frozen=True)
class Task:
    """What participants do, made from a recipe alike on every machine.

    Args:
        recipe: The federated run.
        model: The network that clients of this process train, one after the other.
        example: An input of it.
        measured: The time that was measured, where the recipe asks for that.
    """

    recipe: FederatedRecipe
    model: nn.Module
    example: Example
    measured: TimeModel | None = None

    @classmethod
    def of(cls, recipe: FederatedRecipe) -> "Task":
        """Return the task of a recipe, with the network as its seed draws it.

        Raises:
            RecipeError: A network of the user's own comes without the shape of its input.
        """
        return cls(recipe, network_of(recipe), _example(recipe))

    @cached_property
    def layout(self) -> Layout:
        """Of what travels; a mask may be about any tensor."""
        return Layout.of(self.model, tensors_of(self.model))

    @cached_property
    def sums(self) -> Layout:
        """Of what clients sum up."""
        return Layout.of_sums(self.model, self.layout.masked)

    @cached_property
    def mask_of(self) -> Callable[[bytes], Mask]:
        """Reads a structure as `layout.mask` does, the last one only once; not to be changed."""
        return lru_cache(maxsize=1)(self.layout.mask)

    @property
    def seed(self) -> int:
        """The recipe's."""
        return self.recipe.seed

    @property
    def train(self) -> TrainSettings:
        """How a client trains in a round."""
        return self.recipe.train

    @property
    def local_steps(self) -> int:
        """Optimizer steps of a client in a round."""
        return iterations(self.train.length)

    @property
    def precision(self) -> Precision:
        """Of values on the way."""
        return self.recipe.rounds.precision

    @property
    def evidence_share(self) -> float:
        """Share of the masked weights whose sums are sent."""
        return self.recipe.rounds.evidence_share

    @property
    def initial(self) -> Initial | None:
        """How one party prunes alone before."""
        return self.recipe.initial

    @property
    def target(self) -> Target | None:
        """How small."""
        return self.recipe.target

    @property
    def own_tests(self) -> bool:
        """Whether each client has test samples of its own."""
        return self.recipe.clients.by == "role"

    @cached_property
    def time(self) -> TimeModel:
        """How long a round takes a client; by multiply-accumulates until it is measured."""
        batch = self.recipe.clients.batch_size
        model = self.measured or TIME_MODELS.get(self.recipe.time, TimeModel())
        return replace(model, steps=self.local_steps, samples=batch)

    @property
    def measures(self) -> bool:
        """Whether clients are to measure their time."""
        return self.recipe.time == MEASURED

    @cached_property
    def method(self) -> Method:
        """The method that the server prunes by."""
        return self.recipe.build(self.time)

    @property
    def gathers(self) -> Form | None:
        """What clients sum up for it, if anything."""
        form: Form | None = getattr(self.method.criterion, "gathers", None)
        return form

    @cached_property
    def layers(self) -> list[UnitGroup]:
        """The weights, layer by layer, by which time and density are reckoned."""
        return Unstructured().groups(trace(self.model, self.example))

    def kept(self, mask: Mask) -> list[int]:
        """Return how many weights of each layer are kept."""
        return [
            int(mask[layer.name].count_nonzero()) if layer.name in mask else layer.size
            for layer in self.layers
        ]

    def density(self, mask: Mask) -> float:
        """Return the share of weights that is kept."""
        return sum(self.kept(mask)) / sum(layer.size for layer in self.layers)

    def training_seconds(self, mask: Mask, gathers: bool) -> float:
        """Return what the time model says of one round's local steps.

        Args:
            mask: What is kept.
            gathers: Whether gradients of masked weights are summed up in them.
        """
        kept = self.kept(mask)
        return self.time.training_seconds(self.layers, kept, dense_gradients=gathers)

    def seed_of(self, round_: int, name: str) -> int:
        """Return the seed of what a client draws in a round."""
        key = (self.seed, round_, zlib.crc32(name.encode()))
        return int(np.random.SeedSequence(key).generate_state(1)[0])


def network_of(recipe: FederatedRecipe) -> nn.Module:
    """Return the network as the CPU draws it with the recipe's seed, or with weights it names."""
    model = recipe.model
    with seeded(recipe.seed if recipe.init is None else recipe.init):
        if model.factory is not None:
            network = zoo.user_network(model.factory, model.options)
        else:
            network = zoo.network(str(model.name), **model.options)
    if model.weights is not None:
        zoo.load_weights(network, model.weights)
    return network


def data_of(recipe: FederatedRecipe) -> dict[str, Data]:
    """Return the data of every client by name.

    Raises:
        DataError: Files are missing or damaged.
        ValueError: The data cannot be divided so.
    """
    table, seed = recipe.clients, recipe.seed
    found: dict[str, Data]
    if table.by in ("iid", "dirichlet"):
        data = dataset_of(recipe, table.data, table.batch_size)
        if not isinstance(data, ArrayData | FolderData) or data.metric != "accuracy":
            raise ValueError(
                f"{table.data!r} cannot be divided by chance, which needs images with one label "
                "each; take another `clients.by`."
            )
        alpha = table.alpha if table.by == "dirichlet" else None
        found = dict(zoo.divided(data, table.count, alpha=alpha, seed=seed))
    else:
        found = zoo.clients(
            table.data, by=table.by, batch_size=table.batch_size, seed=seed, root=table.root
        )
    return {name: held_out(recipe, data) for name, data in found.items()}


def held_out(recipe: FederatedRecipe, data: Data) -> Data:
    """Return a client's data with the share held out by which it is judged."""
    share = recipe.clients.held_out
    return data.holding_out(share) if share and isinstance(data, ArrayData | FolderData) else data


def server_data(recipe: FederatedRecipe, batch_size: int = 200) -> Data:
    """Return the dataset whose test split judges the global network; raises as `data_of`."""
    return dataset_of(recipe, recipe.clients.data, batch_size)


def dataset_of(recipe: FederatedRecipe, name: str, batch_size: int) -> Data:
    """Return a dataset of the zoo, or a folder, as the recipe's network sees it."""
    table, folder = recipe.clients, Path(name.removeprefix("folder:"))
    three = name.startswith("folder:") and (folder / "val").is_dir() and (folder / "test").is_dir()
    return zoo.dataset(
        name,
        batch_size=batch_size,
        val_size=None if three or name in zoo.LOCAL else 0,
        seed=recipe.seed,
        root=table.root,
        image_size=table.image_size,
    )


def _example(recipe: FederatedRecipe) -> Example:
    model = recipe.model
    if model.input is not None:
        return torch.randn(1, *model.input, generator=torch.Generator().manual_seed(0))
    if model.name is None:
        raise RecipeError("a network of your own needs model.input, the shape of one input.")
    return first_sample(zoo.example(model.name))
