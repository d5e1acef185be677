"""How far a long prune is stands on the terminal, and nowhere else."""

import pytest
import torch
from torch import nn

from prunus import Calibration, Target, prune
from prunus.criteria import Evidence
from prunus.methods import sparsegpt, synflow, try_and_learn
from prunus.pruning import sensitivity
from prunus.pruning.progress import tracks

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
SAMPLES = Calibration([(X, torch.tensor([0, 1, 0, 1, 0, 1]))])


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


def pruned(method, *, progress):
    goal = Target(sparsity=0.5)
    return prune(model(), X[:1], method=method, target=goal, calibration=SAMPLES, progress=progress)


@pytest.mark.parametrize(
    ("method", "drawn"),
    [
        (
            try_and_learn(updates=2, trial_steps=1, settle_steps=1),
            ("layers", "updates for 0, 5 trials each", "updates for 2, 5 trials each"),
        ),
        (sparsegpt(), ("layers", "batches of the calibration", "2/3")),
        (synflow(), ("rounds",)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_long_prune_says_how_far_it_is(capsys, terminal, method, drawn):
    silent = pruned(method, progress=False)
    assert capsys.readouterr() == ("", "")
    shown = pruned(method, progress=True)
    out, errors = capsys.readouterr()
    assert out == ""
    for words in drawn:
        assert words in errors
    assert all(torch.equal(kept, shown.mask[name]) for name, kept in silent.mask.items())


def test_a_scan_says_how_far_it_is(capsys, terminal):
    sensitivity(model(), X[:1], lambda net: float(net(X).detach().mean()), progress=True)
    assert "layers" in capsys.readouterr().err


def test_nothing_is_drawn_where_there_is_no_terminal(capsys):
    pruned(sparsegpt(), progress=True)
    assert capsys.readouterr() == ("", "")


def test_work_that_is_left_early_takes_its_bar_along(capsys, terminal):
    with tracks(shown=True) as track:
        for item in track(range(5), "fives"):
            if item == 2:
                break
        assert list(track(iter("ab"), "letters", 2)) == ["a", "b"]
    drawn = capsys.readouterr().err
    assert drawn.index("fives") < drawn.index("letters")
    assert "fives" not in drawn[drawn.index("letters") :]
    assert list(Evidence({}, torch.Generator()).track([1], "one")) == [1]
