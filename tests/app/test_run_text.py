"""Recipes whose network reads words, from training to the report."""

import gzip

import pytest

from prunus.recipe import parse
from prunus.run import run

PAIRS = [("eins zwei", "one two"), ("zwei drei vier", "two three four"), ("drei", "three")]
LAYERS = {"size": "small", "words": 7}
WIDTHS = {"source_words": 8, "target_words": 8, "embedding": 16, "units": 16}


def write(path, lines):
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.write("".join(f"{line}\n" for line in lines))


@pytest.fixture
def root(tmp_path):
    for split, count in (("train", 40), ("valid", 5), ("test", 5)):
        write(tmp_path / "ptb" / f"ptb.{split}.txt.gz", [" the cat sat on my mat "] * count)
    for split in ("train", "val", "test_2016_flickr"):
        for k, language in enumerate(("de", "en")):
            pairs = PAIRS * 10
            write(tmp_path / "multi30k" / f"{split}.{language}.gz", [pair[k] for pair in pairs])
    return tmp_path


@pytest.mark.parametrize(
    ("data", "model", "options"),
    [
        pytest.param("ptb", "ptb_lstm", LAYERS, marks=pytest.mark.slow),
        ("multi30k-de-en", "seq2seq", WIDTHS),
    ],
)
def test_a_network_of_words_from_training_to_report(data, model, options, root, tmp_path):
    training = {"optimizer": "adam", "lr": 0.01, "keep": "best", "eval_every": "2it"}
    recipe = parse(
        {
            "name": "words",
            "model": {"name": model, "options": options},
            "data": {"name": data, "batch_size": 4, "root": str(root)},
            "train": {"length": "6it", **training},
            "method": {"name": "l1_filter", "round_to": 1},
            "target": {"params": 0.6},
            "finetune": {"length": "4it", **training},
            "export": {"onnx": False},
        }
    )
    finished = run(recipe, tmp_path / "runs")
    dense, tuned, _ = finished.document["arms"]
    assert finished.document["verification"]["passed"]
    assert tuned["params"] == pytest.approx(0.6 * dense["params"], rel=0.02)
    first = finished.document["curves"]["dense"][0]["val_perplexity"]
    assert max(dense["perplexity"], tuned["perplexity"]) < first
    assert "Validation perplexity" in (finished.directory / "report.html").read_text("utf-8")
