"""Embeddings as weights: looked up, not multiplied, and pruned where a method asks for it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunus import Pruner, Target, prune, zoo
from prunus.errors import UntraceableError
from prunus.methods import gradual, magnitude
from prunus.space import Unstructured, trace
from prunus.space.space import Weight

TOKENS = torch.tensor([[1, 2, 3, 1, 0]])


class Language(nn.Module):
    def __init__(self, tied=False):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(7, 6)
        self.places = nn.Embedding(5, 6)
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.output = nn.Linear(6, 7)
        if tied:
            self.output.weight = self.words.weight

    def forward(self, tokens):
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.output(self.lstm(x)[0])


def test_an_embedding_is_a_weight_of_its_own_that_costs_no_multiplications():
    space = trace(Language(), TOKENS)
    assert space.embeddings == (
        Weight("words.weight", (7, 6), 5),
        Weight("places.weight", (5, 6), 5),
    )
    assert [weight.name for weight in space.weights] == [
        *("lstm.weight_ih_l0", "lstm.weight_hh_l0"),
        "output.weight",
    ]
    assert space.macs.dense == 5 * (2 * 24 * 6 + 7 * 6)


def test_inputs_beside_the_example_do_not_count():
    space = trace(Language(), TOKENS, also=[TOKENS[:, :3]])
    assert [weight.positions for weight in space.embeddings] == [5, 5]


def test_one_that_is_tied_to_a_layer_is_pruned_with_it():
    model = Language(tied=True)
    assert [weight.name for weight in trace(model, TOKENS).embeddings] == ["places.weight"]
    result = prune(model, TOKENS, method=magnitude(scope="layer"), target=Target(sparsity=0.5))
    assert torch.equal(result.mask["words.weight"], result.mask["output.weight"])
    assert int(result.mask["words.weight"].sum()) == 21
    assert result.model.output.weight is result.model.words.weight


def test_only_where_asked_do_they_compete():
    space = trace(Language(), TOKENS)

    def names(granularity):
        return [group.name for group in granularity.groups(space)]

    layers = ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "output.weight"]
    assert names(Unstructured()) == layers
    assert names(Unstructured(embeddings=True)) == ["words.weight", "places.weight", *layers]
    some = Unstructured(embeddings=True, skip=("places.*",))
    assert names(some) == ["words.weight", *layers]
    for other in ({"unit": "kernel"}, {"layers": "conv"}):
        with pytest.raises(ValueError, match="embeddings have no kernels; take unit='weight'"):
            Unstructured(embeddings=True, **other)


def test_bags_are_looked_up_and_computed_weights_are_not_the_parameter():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(7, 6)
            self.table = nn.Parameter(torch.randn(7, 6))
            self.layer = nn.Linear(6, 2)

        def forward(self, tokens):
            return self.layer(self.bag(tokens) + F.embedding(tokens, 2 * self.table).sum(1))

    assert trace(Bag(), TOKENS).embeddings == (Weight("bag.weight", (7, 6), 5),)


@pytest.mark.parametrize("shadow", [False, True])
def test_gradual_masks_rows_in_training_as_it_masks_layers(shadow):
    model = Language()
    method = gradual(end="8it", every="2it", shadow=shadow)
    pruner = Pruner(model, TOKENS, method, target=Target(sparsity=0.5))
    optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9, weight_decay=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(TOKENS)[0, :-1], TOKENS[0, 1:]).backward()
        optimizer.step()
        pruner.step(optimizer)
    result = pruner.finish()
    for name, size in (("words.weight", 42), ("places.weight", 30), ("output.weight", 42)):
        assert int(result.mask[name].sum()) == size // 2
        assert not result.model.get_parameter(name)[~result.mask[name]].any()
    assert result.report.reached == 0.5 and result.report.verification.passed


def test_the_language_model_of_the_paper_is_pruned_nearly_whole():
    model = zoo.network("ptb_lstm", size="small")
    space = trace(model, zoo.example("ptb_lstm"))
    sizes = [sum(g.size for g in Unstructured(embeddings=e).groups(space)) for e in (False, True)]
    assert sizes == [2_640_000, 4_640_000]
    assert sum(p.numel() for p in model.parameters()) - sizes[1] == 10_000 + 2 * 8 * 200


def test_an_embedding_that_scales_itself_is_refused_with_a_way_out_that_works():
    net = nn.Sequential(nn.Embedding(7, 6, max_norm=1.0), nn.Flatten(), nn.Linear(30, 7)).eval()
    before = net[0].weight.detach().clone()
    with pytest.raises(UntraceableError, match="set its max_norm to None"):
        trace(net, TOKENS)
    assert torch.equal(before, net[0].weight)

    with torch.no_grad():
        net[0].weight.copy_(torch.renorm(before, net[0].norm_type, 0, net[0].max_norm))
    net[0].max_norm = None
    found = net(TOKENS)
    net[0].max_norm = 1.0

    assert torch.allclose(found, net(TOKENS), atol=1e-6)
    net[0].max_norm = None
    assert trace(net, TOKENS).groups
