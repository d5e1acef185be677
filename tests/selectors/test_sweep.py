"""Dead neurons: against a search in plain loops, and the network without them computes the same."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from prunus.criteria import L1, Deviations, Evidence
from prunus.selectors import Decision, Sweep, Threshold, TopK
from prunus.space import Structured, Unstructured, trace
from prunus.space.check import in_precision
from prunus.space.masked import apply_mask
from prunus.types import Target


class Given:
    """A selector that keeps what it was made with."""

    def __init__(self, mask):
        self.keep = {name: torch.as_tensor(kept).bool().ravel() for name, kept in mask.items()}

    def select(self, space, groups, scores, target, evidence):
        return Decision({g.name: self.keep[g.name] & ~scores[g.name].isneginf() for g in groups})


def swept(model, example, selector, target=None, **granularity):
    """Return the decision of `selector` and of the sweep, as masks, and the sweep's biases."""
    space = trace(model, example)
    groups = Unstructured(**granularity).groups(space)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    given = Evidence(weights, torch.Generator(), model, example)
    scores = Deviations().score(groups, given)
    before = selector.select(space, groups, scores, target, given)
    after = Sweep(of=selector).select(space, groups, scores, target, given)
    expand = {group.name: group.expand for group in groups}
    masks = [{n: expand[n](kept) for n, kept in one.keep.items()} for one in (before, after)]
    return *masks, after.patch


def outputs(model, mask, patch, x):
    network = in_precision(model, torch.float64).eval()
    with torch.no_grad():
        for name, values in patch.items():
            network.get_parameter(name).copy_(values)
    apply_mask(network, mask)
    return network(x.double())


def random_biases(model):
    generator = torch.Generator().manual_seed(5)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.ndim == 1 and tensor.is_floating_point():
            values = torch.rand(tensor.shape, generator=generator) - 0.3
            tensor.data.copy_(values.abs() if "var" in name else values)
    return model


def chain(masks):
    """Sweep a chain of layers without biases in plain loops, given as tables (out, in)."""
    masks = [mask.clone() for mask in masks]
    changed = True
    while changed:
        changed = False
        for first, second in pairwise(masks):
            for neuron in range(len(first)):
                if not first[neuron].any() and second[:, neuron].any():
                    second[:, neuron] = False
                    changed = True
                if not second[:, neuron].any() and first[neuron].any():
                    first[neuron] = False
                    changed = True
    return masks


@pytest.mark.parametrize("seed", range(6))
def test_a_sweep_ends_where_nothing_is_dead(seed):
    torch.manual_seed(seed)
    sizes = [5, 7, 7, 7, 3]
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
    start = {f"{2 * k}.weight": torch.rand(b.weight.shape) < 0.2 for k, b in enumerate(layers)}
    for mask in start.values():
        mask[0, 0] = True  # no layer is empty
    _, after, patch = swept(model, torch.ones(1, 5), Given(start))

    expected = chain(list(start.values()))
    assert all(torch.equal(a, b) for a, b in zip(after.values(), expected, strict=True))
    x = torch.randn(9, 5)
    there, here = outputs(model, start, {}, x), outputs(model, after, patch, x)
    assert torch.allclose(there, here, rtol=1e-12, atol=1e-7)  # biases are float32


def test_what_a_neuron_without_input_emits_moves_into_the_biases_behind_it():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([0.5, -1.0]))
        model[2].weight.copy_(torch.tensor([[2.0, 1.0], [-4.0, 1.0]]))
        model[2].bias.copy_(torch.tensor([1.0, 1.0]))
    mask = {"0.weight": [[0, 0], [1, 1]], "2.weight": [[1, 1], [1, 1]]}
    _, after, patch = swept(model, torch.ones(1, 2), Given(mask))

    assert after["2.weight"].int().tolist() == [[0, 1], [0, 1]]
    assert patch["2.bias"].tolist() == [1 + 2 * 0.5, 1 - 4 * 0.5]
    assert patch.keys() == {"2.bias"}


def network(kind):
    torch.manual_seed(1)
    if kind == "flattened, with batch norm":
        return nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 8), nn.ReLU()),
            nn.Linear(8, 3),
        )
    return Residual()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1)
        self.outer, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, 3)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.outer(self.norm(self.inner(x)).relu())
        return self.head(x.relu().mean((2, 3)))


@pytest.mark.parametrize("kind", ["flattened, with batch norm", "residual"])
def test_nothing_dead_is_left_and_the_network_computes_the_same(kind):
    model = random_biases(network(kind)).eval()
    example = torch.randn(2, 3, 6, 6)
    names = [n for n, p in model.named_parameters() if p.ndim > 1]
    start = {n: torch.rand(model.get_parameter(n).shape) < 0.7 for n in names}
    first, second, *_ = names
    start[first][[0, 2]] = False  # neurons without input
    start[second][:, 3] = False  # a neuron without output
    start[second][1] = False
    before, after, patch = swept(model, example, Given(start))

    assert sum(int(m.sum()) for m in after.values()) < sum(int(m.sum()) for m in before.values())
    x = torch.randn(4, 3, 6, 6)
    there, here = outputs(model, start, {}, x), outputs(model, after, patch, x)
    assert torch.allclose(there, here, rtol=1e-6, atol=1e-6)
    if kind == "residual":  # the sum is alive, and what its first layer writes is read twice
        assert after["inner.weight"][:, 0].any() and after["stem.weight"][3].any()
        assert not after["outer.weight"][:, 1].any()
    else:
        assert not after["4.weight"][:, [0, 2]].any() and not after["0.weight"][3].any()
        assert not after["7.weight"].view(8, 6, 4)[:, 1].any()
        assert not after["4.weight"][1].any()


@pytest.mark.parametrize(
    "second",
    [nn.Linear(3, 3, bias=False), nn.Conv1d(3, 3, 3, padding=1)],
)
def test_a_constant_that_no_bias_can_take_over_stays(second):
    kind = type(second)
    model = nn.Sequential(kind(2, 3, 1), second, kind(3, 2, 1))
    example = torch.ones(1, 2, 5) if kind is nn.Conv1d else torch.ones(1, 2)
    start = {f"{k}.weight": torch.ones(m.weight.shape).bool() for k, m in enumerate(model)}
    start["0.weight"][1] = False
    with torch.no_grad():
        model[0].bias.fill_(0.5)
    _, after, patch = swept(model, example, Given(start))
    assert after["1.weight"].all() and not patch

    with torch.no_grad():
        model[0].bias.zero_()  # nothing has to be taken over
    _, after, _ = swept(model, example, Given(start))
    assert not after["1.weight"][:, 1].any()


def test_what_a_depthwise_convolution_passes_on_goes_with_it():
    model = random_biases(
        nn.Sequential(nn.Conv1d(2, 3, 1), nn.Conv1d(3, 3, 3, groups=3), nn.Conv1d(3, 2, 1))
    )
    start = {f"{k}.weight": torch.ones(m.weight.shape).bool() for k, m in enumerate(model)}
    start["0.weight"][1] = False
    start["2.weight"][:, 2] = False
    _, after, patch = swept(model, torch.ones(1, 2, 5), Given(start))
    assert [mask.any((1, 2)).tolist() for mask in after.values()][:2] == [[True, False, False]] * 2
    x = torch.randn(3, 2, 5)
    there, here = outputs(model, start, {}, x), outputs(model, after, patch, x)
    assert torch.allclose(there, here, rtol=1e-6, atol=1e-7)


class Energies(nn.Module):
    """Its features are read by a layer, and also summed, squared, by no layer at all."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.first(x)
        return self.second(x) + x.square().sum(-1, keepdim=True)


def test_what_is_read_by_no_layer_counts_as_read():
    model = Energies()
    start = {"first.weight": torch.ones(5, 4), "second.weight": torch.ones(2, 5)}
    start["second.weight"][:, 2] = 0
    _, after, _ = swept(model, torch.randn(3, 4), Given(start))
    assert after["first.weight"].all()


def test_a_layer_is_never_emptied():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    start = {"0.weight": [[1, 0], [0, 0]], "2.weight": [[0, 1], [0, 0]]}
    _, after, _ = swept(model, torch.ones(1, 2), Given(start))
    assert after["0.weight"].any() and after["2.weight"].any()


@pytest.mark.parametrize("unit", ["weight", "kernel"])
@pytest.mark.parametrize("selector", [Threshold(), TopK()], ids=["threshold", "topk"])
def test_a_target_is_met_exactly_with_what_is_dead(selector, unit):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 4)),
    )
    example = torch.randn(1, 3, 8, 8)
    before, after, _ = swept(model, example, selector, Target(sparsity=0.9), unit=unit)
    kept = [sum(int(mask.sum()) for mask in one.values()) for one in (before, after)]
    assert kept[0] == kept[1]
    chained = [
        after["0.weight"].any((2, 3)),
        after["2.weight"].any((2, 3)),
        after["4.weight"].any((2, 3)),
    ]
    if unit == "weight":
        chained.append(after["6.weight"].view(4, 8, 4).any(2))
    assert all(torch.equal(a, b) for a, b in zip(chained, chain(chained), strict=True))


def test_of_blocks_those_go_that_are_dead_as_a_whole():
    model = random_biases(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)))
    first, second = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    first[0] = False  # neurons 0 and 1 have no input
    second[:, 2] = False  # neuron 2 has no reader, but its block is neuron 3's too
    given = Given({"0.weight": first, "2.weight": second})
    before, after, patch = swept(model, torch.randn(2, 3), given, unit="2x1")
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert after["2.weight"].any(0).tolist() == [False, False, False, True]
    x = torch.randn(4, 3)
    there, here = outputs(model, before, {}, x), outputs(model, after, patch, x)
    assert torch.allclose(there, here, rtol=1e-6, atol=1e-6)


def test_channels_are_no_connections():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    space = trace(model, torch.ones(1, 2))
    groups = Structured().groups(space)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    given = Evidence(weights, torch.Generator(), model, torch.ones(1, 2))
    with pytest.raises(ValueError, match="a sweep is over single weights, but '0' has channels"):
        Sweep(of=TopK()).select(space, groups, L1().score(groups, given), None, given)
