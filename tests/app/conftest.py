import pytest

from prunus import zoo
from prunus.cli import main
from tiny import TinyData, build_tiny_data

RECIPE = """
name = "tiny"
[model]
name = "lenet300"
[data]
name = "fashion-mnist-embedded"
batch_size = 50
[train]
length = "12it"
lr = 0.05
eval_every = "4it"
checkpoint_every = "3it"
[finetune]
length = "6it"
lr = 0.05
[method]
name = "l1_filter"
[target]
macs = 0.5
[export]
onnx = false
"""


@pytest.fixture
def before_step(monkeypatch):
    """Training step, from 0 -> what happens before it, once."""
    monkeypatch.setattr(TinyData, "at", {})
    return TinyData.at


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The path of a recipe that runs in about a second."""
    monkeypatch.setattr(zoo, "dataset", build_tiny_data)
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def say(capsys, monkeypatch, tmp_path):
    """Run a command line in an empty folder; return its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRUNUS_DEBUG", raising=False)

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run
