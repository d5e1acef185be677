"""Networks as users write them, pruned by half and compared by another hand."""

from collections import Counter, defaultdict

import pytest

import prunus
from comparison import difference, same, state
from handmade import NETWORKS
from networks import randomised
from prunus.methods import l1_filter
from prunus.space import trace
from prunus.types import Target

UNPRUNABLE = {
    "channel_conv": "stem.0 is a spatial position",
    "channel_statistics": "stem.0 is averaged over by aten.mean",
    "rms_norm_by_hand": "0 is averaged over by aten.mean",
    "bilinear_pooling": "conv.0 is one of the dimensions that another was cut into",
}
"""All their channels are mixed with each other, but for the outputs; with one of the reasons."""

HALF = {"method": l1_filter(coupled=True, round_to=1), "target": Target(sparsity=0.5)}


@pytest.mark.filterwarnings("ignore::prunus.errors.UnseenWarning")
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in UNPRUNABLE])
def test_half_of_the_channels_go(name: str) -> None:
    model, example = NETWORKS[name]()
    model = randomised(model, 0)
    before = state(model)

    result = prunus.prune(model, example, **HALF)

    assert same(before, state(model))
    assert difference(model, result.model, result.mask, example) <= 1e-9
    assert any(not kept.all() for kept in result.mask.values())
    assert list(result.model.state_dict()) == list(model.state_dict())


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", NETWORKS)
def test_every_channel_that_a_layer_makes_may_go_or_has_its_reason(name: str) -> None:
    model, example = NETWORKS[name]()

    space = trace(model, example)

    removable: dict[tuple[str, int], set[int]] = defaultdict(set)
    for member in (member for group in space.groups for member in group.members):
        removable[member.tensor, member.dim] |= {*member.index.ravel().tolist()}
    told, stays = Counter[str](), Counter[str]()
    for frozen in space.frozen:
        told[frozen.name] += frozen.channels
    for tensor, dim in space.recording.tracer.producers:
        label = space.recording.tracer.slots[tensor, dim].label
        made = 0 if isinstance(label, str) else len(label)
        layer = tensor if tensor in told else tensor.rpartition(".")[0]
        stays[layer] += made - len(removable[tensor, dim])
    assert not stays - told


@pytest.mark.parametrize("by", ["stacked", "einsum"])
def test_the_width_of_experts_in_one_parameter_may_go(by: str) -> None:
    space = trace(*NETWORKS[f"experts_{by}"]())

    members = {g.name: {(m.tensor, m.dim) for m in g.members} for g in space.groups}

    assert members["up"] == {("up", 2), ("shift", 1), ("down", 1)}


@pytest.mark.parametrize("name", UNPRUNABLE)
def test_networks_that_mix_all_their_channels_are_told_why(name: str) -> None:
    model, example = NETWORKS[name]()

    with pytest.raises(ValueError, match="finds nothing to prune") as error:
        prunus.prune(model, example, **HALF)
    assert UNPRUNABLE[name] in str(error.value)
