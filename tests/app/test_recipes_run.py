"""Every recipe of the repository runs from end to end, on its own data, cut short.

Lengths are divided by twenty epochs or 1000 steps, batches are of eight samples, and a split is two
batches long; network, method, target and arms are the recipe's own.
"""

import inspect
import math
import re
import tomllib
from itertools import islice
from pathlib import Path

import pytest

from prunus import zoo
from prunus.errors import DataError, RecipeError
from prunus.methods import METHODS
from prunus.recipe import parse
from prunus.run import run

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
OTHERS = {"[study]", "[tune]", "[clients]"}  # tests/study and tests/federated have these
RECIPES = [
    f for f in sorted(FOLDER.glob("*.toml")) if not OTHERS & set(f.read_text("utf-8").split())
]
LENGTHS = ("method", "train", "finetune")
BATCHES = 2
SHORTER = {"ep": 20, "it": 1000}


class Cut:
    """A dataset of which only the first batches are seen."""

    def __init__(self, data):
        self._data = data
        self.steps_per_epoch = min(BATCHES, data.steps_per_epoch)

    def __getattr__(self, name):
        return getattr(self._data, name)

    def train_batches(self, epoch, start=0):
        return islice(self._data.train_batches(epoch, start), self.steps_per_epoch - start)

    def eval_batches(self, split):
        return islice(self._data.eval_batches(split), 1)


def shortened(value):
    """Return a table of a recipe with every length in it divided."""
    if isinstance(value, dict):
        return {key: shortened(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return list(dict.fromkeys(map(shortened, value)))
    found = re.fullmatch(r"(\d+)(ep|it)", value) if isinstance(value, str) else None
    if found is None:
        return value
    return f"{math.ceil(int(found[1]) / SHORTER[found[2]])}it"


def defaults(method):
    """Return the lengths that a method has where its table is silent."""
    known = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p.default for p in known if isinstance(p.default, str)}


# so short a training may leave a layer a channel, or bring nothing to zero
@pytest.mark.filterwarnings("ignore::prunus.errors.DecisionWarning")
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_it_runs_to_its_end(file, tmp_path, monkeypatch):
    dataset = zoo.dataset
    monkeypatch.setattr(zoo, "dataset", lambda **given: Cut(dataset(**given | {"batch_size": 8})))
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    tables["method"] = defaults(tables["method"]["name"]) | tables["method"]
    tables |= {name: shortened(tables[name]) for name in LENGTHS if name in tables}
    recipe = parse(tables | {"export": {"onnx": False}})
    try:
        found = run(recipe, tmp_path).document
    except (DataError, RecipeError) as error:
        if "PRUNUS_DATA" not in str(error):
            raise
        pytest.skip(f"its data are not here: {error}")
    dense, pruned = found["arms"][:2]
    nothing_went = any(note.startswith("nothing went") for note in found["notes"])
    assert nothing_went or pruned["nonzero"] < dense["params"]
    assert found["verification"] is None or found["verification"]["passed"]
