"""What a method cannot judge stays whole, with the reason; the rest is pruned."""

import pytest
import torch
from torch import nn

from prunus import Calibration, Target, prune
from prunus.methods import wanda

TOKENS = torch.randint(50, (4, 7), generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.into = nn.Linear(16, 24)
        self.rnn = nn.LSTM(24, 24, batch_first=True)
        self.attend = nn.MultiheadAttention(24, 2, batch_first=True)
        self.hidden, self.out = nn.Linear(24, 32), nn.Linear(32, 50)

    def forward(self, ids):
        x = self.rnn(self.into(self.embed(ids)).relu())[0]
        x = self.attend(x, x, x, need_weights=False)[0]
        return self.out(self.hidden(x).relu())


def pictures():
    """A transposed and a grouped convolution are read from and read."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(16, 16, 2, stride=2), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, groups=4), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)),
    )


def whole(result):
    return {f["name"] for f in result.report.frozen if "not seen" in f["reason"]}


def test_the_report_says_how_much_a_target_does_not_count():
    batches = [(TOKENS, TOKENS)]
    result = prune(Language(), TOKENS, method="wanda", calibration=Calibration(batches))
    notes = [note for note in result.report.notes if "do not count" in note]
    assert len(notes) == 1 and "rnn.weight_ih_l0" in notes[0]
    assert notes[0] in str(result.report)


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", wanda(layer_by_layer=True)])
def test_weights_whose_input_is_not_seen_stay_whole(method):
    torch.manual_seed(0)
    data = Calibration([TOKENS])
    result = prune(Language(), TOKENS, method=method, calibration=data)
    unseen = {"rnn.weight_ih_l0", "rnn.weight_hh_l0"}
    unseen |= {"attend.in_proj_weight", "attend.out_proj.weight"}
    assert whole(result) == unseen
    assert result.report.reached == 0.5
    for name, mask in result.mask.items():
        if name in unseen:
            assert mask.all()
        elif name in ("into.weight", "hidden.weight", "out.weight"):
            assert mask.float().mean() == 0.5


def test_the_input_of_a_transposed_convolution_is_in_the_other_dimension():
    torch.manual_seed(0)
    result = prune(pictures(), IMAGES, method="wanda", calibration=Calibration([IMAGES]))
    assert whole(result) == {"4.weight"}
    assert result.mask["6.weight"].float().mean() == 0.5


@pytest.mark.parametrize(
    ("method", "make", "example", "spared"),
    [
        *[
            (m, Language, TOKENS, {"into", "rnn", "attend"})
            for m in ("thinet", "regression", "hrank", "apoz")
        ],
        *[(method, pictures, IMAGES, {"2"}) for method in ("thinet", "regression")],
        *[(method, pictures, IMAGES, {"4"}) for method in ("hrank", "apoz")],
    ],
)
def test_channels_that_no_layer_is_seen_to_read_stay_whole(method, make, example, spared):
    torch.manual_seed(0)
    model = make()
    data = Calibration([example])
    result = prune(model, example, method=method, target=Target(macs=0.8), calibration=data)
    assert spared == whole(result)
    cut = [g for g in result.report.groups if g["after"] < g["before"]]
    assert cut and not {g["name"] for g in cut} & whole(result)


def test_where_nothing_can_be_judged_the_reason_is_said():
    model = nn.Sequential(nn.ConvTranspose2d(3, 4, 1))
    with pytest.raises(ValueError, match=r"nothing to prune in Sequential: .*0\.weight is not the"):
        prune(model, IMAGES, method="wanda", calibration=Calibration([IMAGES]))


class Tied(nn.Module):
    def __init__(self, first):
        super().__init__()
        layers = {"head": nn.Linear(16, 50, bias=False), "embed": nn.Embedding(50, 16)}
        for name in sorted(layers, key=lambda name: name != first):
            self.add_module(name, layers[name])
        self.into, self.out = nn.Linear(16, 24), nn.Linear(24, 16)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.out(self.into(self.embed(ids)).relu()))


@pytest.mark.parametrize("first", ["head", "embed"])
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_a_head_tied_to_an_embedding_stays_whole_and_is_named(method, first):
    result = prune(Tied(first), TOKENS[:1], method=method, calibration=Calibration([TOKENS]))
    other = {"head": "embed", "embed": "head"}[first]
    (reason,) = [f["reason"] for f in result.report.frozen if f["name"] == f"{first}.weight"]
    assert reason.startswith(f"is tied to {other}.weight, and not in all of these places the")
    assert result.model.head.weight is result.model.embed.weight
    assert result.mask["head.weight"].all() and result.mask["embed.weight"].all()
    assert float(result.mask["into.weight"].float().mean()) == pytest.approx(0.5)
