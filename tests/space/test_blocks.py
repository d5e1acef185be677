"""Blocks of adjacent output channels by one input as the unit of weight pruning."""

import pytest
import torch
from torch import nn

from prunus import Pruner, Target, methods, prune
from prunus.errors import CheckpointError
from prunus.integrations.attached import Attached
from prunus.space import Unstructured, permute, trace
from prunus.space.permute import block_order, permutation
from prunus.space.remove import copy_sliced
from prunus.space.unit_groups import WeightGroup


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)
    )


X = torch.ones(1, 3, 6, 6)


def groups(network, unit):
    return Unstructured(unit=unit).groups(trace(network, X))


def test_the_largest_mean_of_adjacent_rows_stays_by_hand():
    layer = nn.Linear(2, 4, bias=False)
    weight = torch.tensor([[1.0, 4.0], [2.0, 0.0], [5.0, 0.5], [0.0, 0.5]])
    layer.weight.data.copy_(weight)  # means of two rows: 1.5, 2.0 and below 2.5, 0.5
    method = methods.magnitude(unit="2x1")
    mask = prune(layer, torch.ones(1, 2), method=method, target=Target(sparsity=0.5)).mask
    assert mask["weight"].tolist() == [[False, True], [False, True], [True, False], [True, False]]


def test_blocks_are_as_high_as_divides_the_outputs(network):
    assert [g.entries for g in groups(network, "4x1")] == [4, 2]
    assert [g.entries for g in groups(network, "16x1")] == [4, 2]
    assert [g.entries for g in groups(network, "weight")] == [1, 1]


def test_what_is_gathered_is_what_is_masked(network):
    for group in groups(network, "4x1"):
        assert isinstance(group, WeightGroup)
        values = torch.randn(group.weight.shape)
        keep = torch.rand(group.size) < 0.3
        assert group.gather({group.name: values}).shape == (group.size, group.entries)
        entries = group.gather({group.name: values * group.expand(keep)})
        assert torch.equal((entries != 0).all(dim=1), keep)
        assert torch.equal((entries != 0).any(dim=1), keep)
        scaled = {group.name: values.clone()}
        group.scale(scaled, keep.float())
        assert torch.equal(scaled[group.name], values * group.expand(keep))


@pytest.mark.parametrize("unit", ["2x1", "4x1", "8x1", "16x1"])
def test_zeros_come_in_whole_blocks(network, unit):
    result = prune(network, X, method=methods.magnitude(unit=unit), target=Target(sparsity=0.75))
    weight = result.model[0].weight
    height = min(int(unit[:-2]), 4)
    blocks = (weight != 0).reshape(12 // height, height, -1)
    assert torch.equal(blocks.any(dim=1), blocks.all(dim=1))
    assert float((weight == 0).float().mean()) > 0.5


def test_the_entries_of_an_embedding_are_single():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(8, 4)
            self.out = nn.Linear(4, 8)

        def forward(self, x):
            return self.out(self.words(x))

    space = trace(Reader(), torch.zeros(1, 2).long())
    blocks = Unstructured(unit="4x1", embeddings=True)
    assert [g.entries for g in blocks.groups(space)] == [1, 4]
    assert blocks.mask(space, {"words.weight": torch.ones(32).bool()})["words.weight"].all()


def rows_of_two_kinds(rows, columns):
    """Return magnitudes that are large in one of two tenths of the columns, in turn."""
    torch.manual_seed(0)
    tenth = torch.arange(columns) * 10 // columns
    return torch.rand(rows, columns) * 0.1 + (tenth == torch.arange(rows)[:, None] % 2)


def test_rows_that_are_large_together_come_together():
    order = block_order(rows_of_two_kinds(16, 40), 4)
    assert sorted(order.tolist()) == list(range(16))
    kinds = (order % 2).view(4, 4)
    assert torch.equal(kinds.amin(dim=1), kinds.amax(dim=1))
    assert block_order(torch.rand(5, 3), 4).tolist() == [0, 1, 2, 3, 4]


class Branching(nn.Module):
    """Sums, a group of convolutions, a concatenation, a layer norm and heads; frozen outputs."""

    def __init__(self):
        super().__init__()
        self.stem, self.same = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.norm, self.deep = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.mean = nn.LayerNorm(32)
        self.heads = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.out = nn.Linear(32, 8)

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.norm(x + self.same(x))
        z = torch.cat([y, self.deep(y)], dim=1).flatten(2).transpose(1, 2)
        return self.out(self.heads(self.mean(z)).mean(dim=1))


def test_a_network_in_another_order_computes_the_same():
    torch.manual_seed(0)
    model, example = Branching().double(), torch.randn(2, 3, 6, 6).double()
    nn.init.uniform_(model.norm.running_mean)
    index = permutation(Unstructured(unit="4x1", permute=True), model, example)
    moved = {
        name for name, dims in index.items() if any((i.diff() != 1).any() for i in dims.values())
    }
    assert {"stem.weight", "same.weight", "norm.running_mean", "heads.linear1.weight"} <= moved
    assert 0 not in index["out.weight"]  # the network's outputs stay
    ordered = copy_sliced(model, index)
    for network in (model, ordered):
        network.eval()
    assert torch.allclose(ordered(example), model(example), rtol=1e-10)


def test_what_computes_something_else_in_another_order_stays(monkeypatch):
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 16), nn.Linear(16, 16)
            self.last = nn.Linear(16, 2)

        def forward(self, x):
            return self.last(self.second(self.first(x)).relu())

    model = Weighted()
    whole = permute._moved

    def wrong(
        space, orders
    ):  # as if the tracer did not know that `second` reads what `first` makes
        index = whole(space, orders)
        if "first" in orders:
            del index["second.weight"][1]
        return index

    monkeypatch.setattr(permute, "_moved", wrong)
    index = permutation(Unstructured(unit="4x1", permute=True), model, torch.ones(1, 4))
    assert set(index) == {"second.weight", "second.bias", "last.weight"}


def lost(network, permuted):
    method = methods.magnitude(unit="4x1", permute=permuted)
    return prune(network, torch.ones(1, 40), method=method, target=Target(sparsity=0.9))


def sorted_out():
    network = nn.Sequential(nn.Linear(40, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        network[0].weight.copy_(rows_of_two_kinds(16, 40))
    return network


def test_blocks_of_a_network_in_order_keep_more_and_the_optimizer_goes_along():
    network = sorted_out()
    before = network[0].weight.detach().clone()
    plain, ordered = lost(network, False), lost(network, True)
    assert torch.equal(network[0].weight, before)
    sums = [float(one.model[0].weight.detach().abs().sum()) for one in (plain, ordered)]
    assert sums[1] > 1.4 * sums[0]

    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.randn(8, 40)).square().sum().backward()
    optimizer.step()
    momentum = {n: optimizer.state[p]["momentum_buffer"] for n, p in network.named_parameters()}
    method = methods.magnitude(unit="4x1", permute=True)
    result = prune(
        network, torch.ones(1, 40), method=method, target=Target(sparsity=0.9), optimizer=optimizer
    )
    order = [int((network[0].bias == value).nonzero()) for value in result.model[0].bias.detach()]
    assert order != list(range(16))
    state = {n: optimizer.state[p]["momentum_buffer"] for n, p in result.model.named_parameters()}
    assert torch.equal(state["0.bias"], momentum["0.bias"][order])
    kept = result.mask["0.weight"]
    assert torch.equal(state["0.weight"], momentum["0.weight"][order] * kept)


def test_a_pruner_orders_the_channels_at_once_and_in_place():
    network, x = sorted_out(), torch.randn(4, 40)
    weight, expected = network[0].weight, network(x).detach()
    method = methods.gradual(unit="4x1", permute=True, begin="1it", end="2it", every="1it")
    pruner = Pruner(network, torch.ones(1, 40), method, target=Target(sparsity=0.8))
    assert network[0].weight is weight
    assert torch.allclose(network(x), expected, atol=1e-5)
    optimizer = torch.optim.SGD(network.parameters(), 0.0)
    for _ in range(2):
        pruner.step(optimizer)
    result = pruner.finish()
    assert result.report.verification.passed
    assert any("Channels have changed places" in note for note in result.report.notes)
    assert float(result.model[0].weight.detach().abs().sum()) > 0.6 * float(
        weight.detach().abs().sum()
    )


def test_a_pruner_goes_on_only_where_its_channels_stand_as_they_stood():
    method = methods.gradual(unit="4x1", permute=True, end="2it", every="1it")

    def pruner(network):
        return Pruner(network, torch.ones(1, 40), method, target=Target(sparsity=0.8))

    network = sorted_out()
    state = pruner(network).state()
    pruner(sorted_out()).load_state(state)  # of the network as it was
    with pytest.raises(CheckpointError, match="have changed places otherwise than in the state"):
        pruner(network).load_state(state)  # of the network in its new order


def test_a_trainer_that_goes_on_from_a_checkpoint_leaves_its_order():
    method = methods.gradual(unit="4x1", permute=True, end="2it", every="1it")
    first, network = Attached(torch.ones(1, 40), method, target=Target(sparsity=0.8)), sorted_out()
    first.begin(network, None, None, total=9)
    with torch.no_grad():
        network[0].weight.copy_(network[0].weight.flip(0))  # as training would
    again, loaded = Attached(torch.ones(1, 40), method, target=Target(sparsity=0.8)), sorted_out()
    loaded.load_state_dict(network.state_dict())
    again.begin(loaded, None, first.pruner.state(), total=9)
    assert torch.equal(loaded[0].bias, network[0].bias)


def test_only_blocks_are_put_together():
    with pytest.raises(ValueError, match="permute puts channels together for blocks"):
        Unstructured(permute=True)


def test_other_units_are_refused():
    with pytest.raises(ValueError, match=r"unit must be one of 'weight', .*'16x1', got '3x1'"):
        Unstructured(unit="3x1")
