"""What a report says besides its numbers, and what errors show as the way out."""

import warnings

import pytest
import torch
from torch import nn

from prunus import Calibration, Pruner, Target, methods, prune, zoo
from prunus.criteria import L1
from prunus.errors import DecisionWarning, TargetError, UnseenWarning
from prunus.methods import Method, l1_filter
from prunus.selectors import TopK
from prunus.space import Branches, Structured

WIDTHS = {"granularity": Structured(), "criterion": L1(), "selector": TopK()}
X = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


class Sum(nn.Module):
    """Two layers write into one sum."""

    def __init__(self):
        super().__init__()
        self.one, self.other, self.out = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x):
        return self.out((self.one(x) + self.other(x)).relu())


class Rare(nn.Module):
    """One way is never seen."""

    def __init__(self):
        super().__init__()
        self.one, self.out, self.rare = nn.Linear(8, 16), nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, x):
        h = self.one(x).relu()
        return self.rare(h) if x.shape[1] != 8 else self.out(h)


class Listed(nn.Module):
    """Weights in a ParameterList; the first stays."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(12, 8 if k == 0 else 12) for k in range(3))
        self.out = nn.Linear(12, 2)

    def forward(self, x):
        x = (x @ self.weights[0].T).softmax(-1)
        for weight in list(self.weights)[1:]:
            x = (x @ weight.T).relu()
        return self.out(x)


def two_layers():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))


def test_unseen_parameters_are_warned_of_with_the_way_out():
    with pytest.warns(UnseenWarning, match=r"rare.weight; where an input .* pass such .* also="):
        report = prune(Rare(), X, target=Target(macs=0.6)).report

    assert "not seen: 2 parameters" in str(report)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prune(Rare(), X, method="magnitude", target=Target(sparsity=0.5))  # no channel goes


def test_a_target_missed_by_the_rounding_of_widths_says_so():
    rounded = prune(two_layers(), X, target=Target(params=0.6)).report
    exact = prune(two_layers(), X, method=l1_filter(round_to=1), target=Target(params=0.6)).report

    assert rounded.notes == [
        f"asked 0.6, reached {rounded.reached:.3g}: widths are multiples of 8; round_to=1 comes "
        "nearer"
    ]
    assert exact.notes == []


def test_the_rounding_of_a_selector_inside_another_is_told():
    target, data = Target(params=0.6), Calibration([torch.randn(16, 8)])
    for make in (methods.thinet, methods.regression):
        report = prune(two_layers(), X, method=make(), target=target, calibration=data).report
        assert "widths are multiples of 8; round_to=1 comes nearer" in report.notes[0], make


def test_a_target_missed_because_branches_go_as_a_whole_says_so():
    method = Method(
        name="depth", granularity=Branches(), criterion=L1(reduce="mean"), selector=TopK()
    )
    net = zoo.network("resnet20")

    report = prune(net, torch.randn(2, 3, 32, 32), method=method, target=Target(macs=0.7)).report

    assert report.notes == [
        f"asked 0.7, reached {report.reached:.3g}: residual branches go as a whole"
    ]


def test_heads_that_are_not_there_are_told():
    inside = Structured(inside_heads=True)
    method = Method(name="narrow", granularity=inside, criterion=L1(), selector=TopK())

    report = prune(two_layers(), X, method=method, target=Target(params=0.5)).report

    assert "inside_heads=True found no attention" in str(report)


def test_heads_that_lose_width_are_not():
    inside = Structured(inside_heads=True)
    method = Method(name="narrow", granularity=inside, criterion=L1(), selector=TopK())
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    report = prune(net, X[:, None], method=method, target=Target(params=0.8)).report

    assert not any("inside_heads" in note for note in report.notes)


def test_parameters_of_a_list_have_their_index_and_lines_stand_once():
    method = l1_filter(coupled=True, round_to=1)
    report = prune(Listed(), X, method=method, target=Target(params=0.7)).report

    assert [group["name"] for group in report.groups] == ["weights.1", "weights.2"]
    lines = [tuple(line.values()) for line in report.frozen]
    assert ("weights.0", 12, "is inside a softmax") in lines
    assert len(lines) == len(set(lines))


def test_the_way_to_prune_coupled_layers_is_shown_as_code():
    with pytest.raises(ValueError, match="finds nothing to prune") as error:
        prune(Sum(), X)

    assert "method=prunus.methods.l1_filter(coupled=True)" in str(error.value)
    small = prune(Sum(), X, method=methods.l1_filter(coupled=True)).model
    assert small.one.out_features == 8


def test_it_is_shown_where_a_target_is_out_of_reach_too():
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), Sum())

    with pytest.raises(TargetError, match=r"l1_filter\(coupled=True\)"):
        prune(net, X, target=Target(params=0.3))


def block():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))


def finished(method, target=None):
    model = block()
    pruner = Pruner(model, X, method, target=target)
    optimizer = torch.optim.SGD(model.parameters(), 1e-9)  # what is learned stays as it began
    for _ in range(3):
        model(X).sum().backward()
        pruner.step(optimizer)
    return pruner.finish


@pytest.mark.parametrize(
    "method",
    [
        methods.sss(unit="channel", begin="3it"),
        methods.l0(begin="3it"),
        methods.movement(end="3it", threshold=0.1),
    ],
    ids=lambda method: method.name,
)
def test_a_method_that_removes_nothing_says_so_and_how_near_it_came(method):
    finish = finished(method)
    with pytest.warns(DecisionWarning, match="nothing went: .* smallest .* give a target") as found:
        report = finish().report

    assert found[0].filename == __file__
    assert str(found[0].message) in str(report)
    assert report.costs["params"][0] == report.nonzero
    if method.name == "sss":
        assert "the smallest of what was learned is 1 (of 0)" in report.notes[0]


def test_so_does_one_that_asks_for_less_than_a_unit():
    with pytest.warns(DecisionWarning, match="nothing went: sparsity 0.001 is less than a step"):
        prune(block(), X, method="magnitude", target=Target(sparsity=0.001))
    with pytest.warns(DecisionWarning, match="nothing went: the method's own amounts"):
        prune(block(), X, method=Method(**WIDTHS, name="none"))


def test_one_that_was_to_remove_nothing_does_not():
    assert not prune(block(), X, method="magnitude", target=Target(sparsity=0)).report.notes
    assert not finished(methods.dsd(end="2it"))().report.notes


def test_a_layer_that_falls_to_one_channel_is_named():
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    with torch.no_grad():
        net[2].weight.mul_(1e-3)
    method = Method(**WIDTHS | {"selector": TopK(scope="global")}, name="taylor")
    with pytest.warns(DecisionWarning, match="2 keeps 1 of 32 channels; a larger min_keep or scop"):
        report = prune(net, X, method=method, target=Target(sparsity=31 / 64)).report
    assert report.notes[0].startswith("2 keeps 1 of 32")
    even = Method(**WIDTHS | {"selector": TopK(scope="layer")}, name="taylor")
    assert not prune(net, X, method=even, target=Target(sparsity=0.75)).report.notes


@pytest.mark.parametrize("method", [methods.wanda, methods.sparsegpt])
def test_layers_that_a_pattern_does_not_fit_are_listed(method):
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    data = Calibration([torch.randn(16, 8, generator=torch.Generator().manual_seed(1))])

    report = prune(net, X, method=method(pattern="2:4"), calibration=data).report

    reason = "has 6 inputs, no multiple of the 4 of the pattern 2:4"
    assert {"name": "2.weight", "channels": 4, "reason": reason} in report.frozen
    assert "asked 0.5, reached 0.333: 2.weight stay whole, whose inputs" in str(report)
    assert not prune(net, X, method=method(), calibration=data).report.frozen[1:]


@pytest.mark.parametrize(
    ("method", "way"),
    [
        (methods.sss(), r"no residual branches, y = x \+ f\(x\); for channels take unit='channel'"),
        (methods.gibbs(hamiltonian="kernel"), "no convolution kernels; .* hamiltonian='weight'"),
    ],
)
def test_units_that_are_not_there_are_told_with_those_that_are(method, way):
    with pytest.raises(ValueError, match=f"finds nothing to prune in Sequential: it has {way}"):
        Pruner(block(), X, method, steps_per_epoch=1)
