"""Which channels go together, which may not go, and what is said about them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from networks import Concatenate, Residual, Shuffle
from prunus.errors import UntraceableError
from prunus.space import Space, trace
from prunus.space.shrink import shrink

IMAGE = torch.randn(2, 3, 8, 8)


def where(space: Space, name: str) -> dict[tuple[str, int], list[list[int]]]:
    group = next(group for group in space.groups if group.name == name)
    return {(member.tensor, member.dim): member.index.tolist() for member in group.members}


def sizes(space: Space) -> dict[str, int]:
    return {group.name: group.size for group in space.groups}


def test_a_filter_owns_its_bias_its_normalisation_and_its_consumers_slice() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 5, 1))

    members = where(trace(net, IMAGE), "0")

    one_each = [[0], [1]]
    assert members == dict.fromkeys(
        [
            ("0.weight", 0),
            ("0.bias", 0),
            ("1.weight", 0),
            ("1.bias", 0),
            ("3.weight", 1),
            ("1.running_mean", 0),
            ("1.running_var", 0),
        ],
        one_each,
    )


def test_a_flattened_channel_owns_all_its_pixels() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(8, 5))

    assert where(trace(net, IMAGE), "0")["3.weight", 1] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_residual_sum_couples_every_layer_that_writes_into_it() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), Residual(nn.Conv2d(4, 4, 1)), Residual(nn.Conv2d(4, 4, 1))
    )
    net.append(nn.Conv2d(4, 1, 1))

    (group,) = trace(net, IMAGE).groups

    assert group.coupled == ("0", "1.inner", "2.inner")


def test_concatenated_layers_stay_apart() -> None:
    net = nn.Sequential(Concatenate(nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1)), nn.Conv2d(6, 1, 1))

    space = trace(net, IMAGE)

    assert sizes(space) == {"0.branches.0": 4, "0.branches.1": 2}
    assert where(space, "0.branches.1")["1.weight", 1] == [[4], [5]]


def test_grouped_convolutions_lose_the_same_position_of_every_group() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1, groups=2), nn.Conv2d(6, 1, 1))

    space = trace(net, IMAGE)

    assert sizes(space) == {"0": 2, "1": 3}
    assert where(space, "0")["0.weight", 0] == [[0, 2], [1, 3]]
    assert where(space, "1")["2.weight", 1] == [[0, 3], [1, 4], [2, 5]]


def test_a_depthwise_channel_is_the_channel_it_reads() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 1, 1))

    members = where(trace(net, IMAGE), "0")

    assert members["1.weight", 0] == [[0, 1], [2, 3]]
    assert members["2.weight", 1] == [[0, 1], [2, 3]]


def test_a_channel_shuffle_ties_the_channels_it_interleaves() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Shuffle(2), nn.Conv2d(4, 1, 1))

    assert where(trace(net, IMAGE), "0")["2.weight", 1] == [[0, 1], [2, 3]]


def test_group_norm_lets_only_whole_groups_go() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.GroupNorm(3, 6), nn.Conv2d(6, 1, 1))

    assert where(trace(net, IMAGE), "0")["0.weight", 0] == [[0, 1], [2, 3], [4, 5]]


def test_tied_weights_are_one_tensor() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    net[2].weight = net[0].weight

    space = trace(net, torch.randn(2, 4))

    assert space.tied == {"2.weight": "0.weight"}
    assert sizes(space) == {}  # its inputs are the network's inputs, its outputs its own inputs
    assert {f.reason for f in space.frozen} == {"is the network's input", "is the network's output"}


def test_every_frozen_layer_has_its_reason() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(4, 6)
            self.c, self.d = nn.Linear(4, 6), nn.Linear(6, 2)
            self.norm = nn.LayerNorm(6)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (
                self.d(torch.linalg.qr(self.a(x))[1]),
                self.norm(self.b(x)),
                self.c(x).softmax(1),
            )

    space = trace(Odd(), torch.randn(2, 4))

    reasons = {frozen.name: frozen.reason for frozen in space.frozen}
    assert not space.groups
    assert reasons == {
        "a": "meets aten.linalg_qr, which has no rule",
        "b": "is inside the statistics of a layer norm",
        "c": "is inside a softmax",
        "d": "is the network's output",
    }
    assert space.unknown == {"linalg_qr": 1}


def test_tracing_leaves_the_model_and_the_random_state_as_found() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    net[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()

    trace(net, IMAGE)

    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in net] == [True, True, False]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_network_without_groups_still_has_its_cost() -> None:
    space = trace(nn.Linear(8, 2), torch.randn(1, 8))

    assert not space.groups
    assert float(space.macs.at(space.widths({}))) == space.macs.dense == 16


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_hidden_unit_goes_from_all_gates_layers_and_directions(
    kind: type[nn.RNNBase], options: dict[str, Any]
) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.cell = nn.Embedding(9, 6), kind(6, 8, batch_first=True, **options)
            self.hidden = nn.Linear(16 if "bidirectional" in options else 8, 10)
            self.out = nn.Linear(10, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.hidden(self.cell(self.embed(x))[0][:, -1]).relu())

    net, tokens = Recurrent(), torch.randint(9, (2, 5))
    space = trace(net, tokens)
    keep = {group.name: torch.arange(group.size) % 2 == 0 for group in space.groups}
    shrunk = shrink(net, space, keep, tokens)
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]

    assert sizes(space) == {"embed": 6, "cell": 8, "hidden": 10}
    assert shrunk.form == "original classes"
    assert (shrunk.model.cell.input_size, shrunk.model.cell.hidden_size) == (3, 4)
    assert shrunk.model.cell.weight_hh_l0.shape == (4 * gates, 4)
    assert shrunk.verification is not None and shrunk.verification.passed


def test_an_inverted_bottleneck_is_written_by_one_layer_only() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 2, 1)
    )

    (group,) = trace(net, IMAGE).groups

    assert group.coupled == ("0",)


@pytest.mark.parametrize("view", [lambda weight: weight, lambda weight: weight.t()])
def test_parameters_that_share_memory_without_being_one_are_refused(view: Any) -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    net[2].weight = nn.Parameter(view(net[0].weight.data))

    with pytest.raises(UntraceableError, match=r"'0.weight' and '2.weight' share memory"):
        trace(net, torch.randn(2, 8))


def test_parameters_beside_each_other_in_one_storage_are_not() -> None:
    flat = torch.randn(64 + 64)
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    net[0].weight, net[2].weight = (nn.Parameter(x.view(8, 8)) for x in flat.split(64))

    assert len(trace(net, torch.randn(2, 8)).groups) == 2
