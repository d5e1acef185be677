"""What layers read, and the greedy choice by what the next layer computes."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunus import Calibration, Target, prune
from prunus.criteria import Evidence
from prunus.methods import thinet
from prunus.selectors import Greedy, TopK
from prunus.selectors.reconstruction.contributions import contributions, draw
from prunus.selectors.reconstruction.course import Course, in_order, readers
from prunus.selectors.reconstruction.greedy import cheapest, scales
from prunus.selectors.reconstruction.windows import outputs, windows
from prunus.space import Structured, Unstructured, trace

LAYERS = [
    (nn.Linear(6, 4), (3, 6)),
    (nn.Linear(6, 4, bias=False), (3, 5, 6)),
    (nn.Conv1d(6, 4, 3, stride=2, padding=1), (3, 6, 9)),
    (nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (3, 6, 7, 8)),
    (nn.Conv2d(6, 4, 3, padding=2, padding_mode="circular"), (3, 6, 5, 5)),
    (nn.Conv2d(6, 4, 3, padding="same", dilation=2), (3, 6, 5, 5)),
    (nn.Conv2d(6, 4, 3, groups=2), (3, 6, 5, 5)),
    (nn.Conv2d(6, 6, 3, groups=6, padding=1), (3, 6, 5, 5)),
    (nn.Conv2d(6, 4, 3), (6, 5, 5)),
    (nn.Conv3d(6, 4, 2, stride=2), (2, 6, 4, 5, 4)),
]


def evidence(model, batches, example):
    weights = {name: p.detach() for name, p in model.named_parameters()}
    return Evidence(weights, torch.Generator(), model, example, Calibration(batches))


def filters_of(layer):
    weight = layer.weight.detach().double()
    return weight.flatten(2) if weight.ndim > 2 else weight[..., None]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda x: str(x).replace(" ", ""))
def test_windows_times_weights_are_the_layer(layer, shape):
    x = torch.randn(shape)
    seen = windows(layer, x)
    weight = filters_of(layer).unflatten(0, (seen.groups, -1))
    z = outputs(layer, layer(x)).detach().double()
    bias = 0 if layer.bias is None else layer.bias.detach()
    samples, positions = seen.some(10**6, torch.Generator())
    assert len(samples) == z.shape[0] * z.shape[2]
    for part, read in seen.parts(samples, positions):
        made = torch.einsum("ngck,gock->ngo", read, weight).flatten(1) + bias
        torch.testing.assert_close(made, z[samples[part], :, positions[part]], atol=1e-5, rtol=1e-5)


def test_positions_are_drawn_where_there_are_too_many():
    seen = windows(nn.Conv1d(1, 1, 1), torch.zeros(2, 1, 50))
    samples, positions = seen.some(10, torch.Generator().manual_seed(0))
    assert samples.tolist() == [0] * 10 + [1] * 10
    assert positions.min() >= 0 and positions.max() < 50 and len(positions.unique()) > 10


def test_few_numbers_are_unrolled_at_a_time(monkeypatch):
    monkeypatch.setattr("prunus.selectors.reconstruction.windows._ENTRIES", 40)
    seen = windows(nn.Conv1d(4, 1, 3), torch.randn(2, 4, 8))
    parts = list(seen.parts(*seen.some(100, torch.Generator())))
    assert [len(read) for _, read in parts] == [3, 3, 3, 3]
    assert max(read.numel() for _, read in parts) <= 40


def added(layer, weight, x, columns, count):
    seen = windows(layer, x)
    pairs = draw(seen, weight, count, torch.Generator().manual_seed(0))
    return contributions(seen, weight, columns, pairs), pairs


@pytest.mark.parametrize("groups", [1, 2])
def test_contributions_add_up_to_the_output_before_its_activation(groups):
    layer = nn.Conv2d(6, 4, 3, padding=1, groups=groups)
    x = torch.randn(3, 6, 5, 5)
    columns = torch.arange(6 // groups)[:, None]
    weight = layer.weight.detach().double()
    rows, pairs = added(layer, weight, x, columns, 20)
    assert rows.shape == (60, 6 // groups)
    made = (layer(x) - layer.bias.view(1, -1, 1, 1)).detach().flatten(2).double()
    drawn = made[pairs.samples, pairs.outputs, pairs.positions]
    torch.testing.assert_close(rows.sum(1), drawn, rtol=1e-5, atol=1e-5)


def test_a_channel_behind_a_flatten_adds_what_all_its_columns_do():
    layer = nn.Linear(4, 1, bias=False)
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    columns = torch.tensor([[0, 1], [2, 3]])
    weight = torch.tensor([[1.0, 10.0, 100.0, 1000.0]]).double()
    rows, _ = added(layer, weight, x, columns, 2)
    assert rows.tolist() == [[21.0, 4300.0]] * 2


def test_outputs_that_are_gone_are_not_drawn():
    layer, x = nn.Linear(2, 3), torch.tensor([[1.0, 1.0]])
    weight = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]).double()
    columns = torch.arange(2)[:, None]
    assert added(layer, weight, x, columns, 8)[0].tolist() == [[1.0, 2.0]] * 8
    assert added(layer, weight * 0, x, columns, 2)[0].tolist() == [[0.0, 0.0]] * 2


def direct_scan(x, count):
    """The paper's Algorithm 1, candidate by candidate."""
    gone = []
    for _ in range(count):
        value = {c: x[:, [*gone, c]].sum(1) @ x[:, [*gone, c]].sum(1) for c in range(x.shape[1])}
        gone.append(min((c for c in value if c not in gone), key=lambda c: (value[c], -c)))
    return gone


@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 2**16), st.booleans())
def test_by_the_gram_matrix_or_candidate_by_candidate_the_same_go(channels, rows, seed, whole):
    generator = np.random.default_rng(seed)
    # whole numbers tie often, and are summed exactly
    x = generator.integers(-2, 3, (rows, channels)).astype(float)
    x = x if whole else generator.normal(size=(rows, channels))
    for count in range(channels + 1):
        marked = cheapest(torch.from_numpy(x.T @ x), count)
        assert marked.nonzero().ravel().tolist() == sorted(direct_scan(x, count))


def test_channels_that_cancel_go_together():
    x = torch.tensor([[1.0, 5.0, -5.0, 2.0], [1.0, -4.0, 4.0, 0.0]]).double()
    gram = x.T @ x  # alone, 1 and 2 cost 41 each; 0 costs 2, 3 costs 4
    assert cheapest(gram, 1).tolist() == [True, False, False, False]
    assert cheapest(gram, 2).tolist() == [True, False, False, True]
    assert cheapest(gram, 4).all()
    assert cheapest(gram[1:3, 1:3], 2).all()


def test_scales_are_those_of_least_squares():
    torch.manual_seed(0)
    x = torch.randn(40, 6).double()
    keep = torch.tensor([True, False, True, True, False, True])
    expected = torch.linalg.lstsq(x[:, keep], x.sum(1, keepdim=True)).solution.ravel()
    torch.testing.assert_close(scales(x.T @ x, keep), expected, rtol=1e-5, atol=1e-5)


def test_what_samples_leave_open_stays_as_it_was():
    x = torch.tensor([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]]).double()
    found = scales(x.T @ x, torch.tensor([True, False, True]))
    torch.testing.assert_close(found, torch.tensor([2.0, 1.0]).double(), rtol=1e-5, atol=0)
    assert scales(torch.zeros(2, 2).double(), torch.tensor([True, False])).tolist() == [1.0]


def test_512_channels_are_chosen_within_a_second():
    x = torch.randn(2000, 512, generator=torch.Generator().manual_seed(0)).double()
    gram = x.T @ x
    start = time.perf_counter()
    marked = cheapest(gram, 256)
    assert time.perf_counter() - start < 1
    assert int(marked.sum()) == 256


class Small(nn.Module):
    """conv - norm - conv - flatten - linear."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.last = nn.Linear(6 * 16, 3)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.last(self.second(x).relu().flatten(1))


def test_channels_that_cancel_in_the_next_layer_go_without_a_trace():
    model = Small().eval()
    with torch.no_grad():
        model.first.weight[4:], model.first.bias[4:] = model.first.weight[:4], model.first.bias[:4]
        model.second.weight[:, 4:] = -model.second.weight[:, :4]
    x = torch.randn(20, 2, 4, 4)
    method = thinet(ratios={"first": 0.5}, round_to=1)
    result = prune(model, x[:1], method=method, calibration=Calibration([x]))
    assert result.model.first.out_channels == 4
    kept = result.mask["first.bias"]
    assert torch.equal(kept[:4], kept[4:]) and result.patch.keys() == {"second.weight"}
    torch.testing.assert_close(result.model(x), model(x), rtol=1e-4, atol=1e-5)


def test_the_patch_is_the_least_squares_fit_of_what_stays():
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
    x = torch.randn(40, 3)
    method = thinet(ratios={"0": 0.5}, round_to=1, samples=1)
    result = prune(model, x[:1], method=method, calibration=Calibration([x[:20], x[20:]]))
    weight = model[2].weight.detach()
    added = model[1](model[0](x)).detach() * weight
    keep = result.mask["0.bias"]
    fit = torch.linalg.lstsq(added[:, keep], added.sum(1, keepdim=True)).solution.ravel()
    torch.testing.assert_close(result.patch["2.weight"][0, keep], weight[0, keep] * fit)
    assert not result.patch["2.weight"][0, ~keep].any()
    torch.testing.assert_close(result.model[2].weight[0], weight[0, keep] * fit)


def test_each_layer_is_chosen_on_what_the_ones_before_have_left():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    x = torch.ones(4, 2)
    space = trace(model, x)
    groups = in_order(space, Structured().groups(space)[::-1])
    assert [group.name for group in groups] == ["0", "2"]
    course = Course(space, evidence(model, [x], x))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    course.settle(groups[0], torch.tensor([True, False, True]), {"2.weight": torch.ones(3, 3)})
    (seen,) = course.evidence.inputs(["2"])
    assert not seen["2"][0][:, 1].any() and seen["2"][0].any()
    assert course.weight("2.weight")[:, 1].tolist() == [0.0] * 3
    assert course.decision().patch["2.weight"][:, 0].tolist() == [1.0] * 3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_readers_are_layers_with_their_columns():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(8, 1))
    (group,) = Structured().groups(trace(model, torch.ones(1, 1, 2, 2)))
    (reader,) = readers(group, model)
    assert (reader.layer, reader.weight) == ("2", "2.weight")
    assert reader.columns.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_what_cannot_be_seen_is_said():
    hidden = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ConvTranspose2d(2, 1, 2))
    x = torch.ones(1, 1, 2, 2)
    data = Calibration([x])
    with pytest.raises(ValueError, match=r"0 is read by no convolution or linear layer"):
        prune(hidden, x, method=thinet(ratios={"0": 0.5}, round_to=1), calibration=data)
    with pytest.raises(ValueError, match=r"'0\.weight' has other units; prune channels"):
        readers(Unstructured().groups(trace(hidden, x))[0], hidden)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        Greedy(samples=0)


def test_samples_that_are_not_finite_are_refused():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    data = Calibration([torch.full((3, 2), float("nan"))])
    with pytest.raises(
        ValueError, match="what '2' reads or computes on the calibration is not finite"
    ):
        prune(
            *(model, torch.ones(1, 2)),
            method=thinet(round_to=1),
            target=Target(params=0.5),
            calibration=data,
        )


def test_amounts_are_those_of_equal_scores():
    model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 8), nn.Linear(8, 2))
    x = torch.randn(30, 2)
    greedy = Greedy(amounts=TopK(scope="layer", ratios={"0": 0.25}, round_to=2, min_keep=5))
    space = trace(model, x[:1])
    keep = greedy.select(
        *(space, Structured().groups(space), {}, Target(params=0.65)),
        evidence(model, [x], x[:1]),
    ).keep
    assert {name: int(kept.sum()) for name, kept in keep.items()} == {"0": 12, "2": 6}
