"""Every network of the zoo is pruned in both ways, with the proof."""

import pytest
import torch
from torch import nn

from prunus import Target, prune, zoo
from prunus.methods import l1_filter
from prunus.types import first_sample

SMALL = {
    "mobilenet_v1": {"width": 0.25, "classes": 10},
    "segnet": {"width": 0.0625},
    "fcn32s": {"width": 0.0625},
    "ptb_lstm": {"size": "small", "words": 150},
    "seq2seq": {"source_words": 120, "target_words": 150, "embedding": 16, "units": 24},
}
QUICK = ["lenet300", "lenet5", "conv6", "resnet20", *SMALL]
CUT = {"mobilenet_v1": 64, "segnet": 64, "fcn32s": 64}  # pixels, for speed


def build(name, options):
    example = zoo.example(name)
    if name in CUT and options:
        example = example[..., : CUT[name], : CUT[name] + 26]
    return zoo.network(name, **options).eval(), first_sample(example)


def pruned(name, options):
    model, example = build(name, options)
    method = l1_filter(coupled=True, round_to=1)
    result = prune(model, example, method=method, target=Target(params=0.5))
    sparse = prune(model, example, method="magnitude", target=Target(sparsity=0.8))
    return result, sparse


def check(name, options):
    result, sparse = pruned(name, options)
    assert result.report.verification.passed
    assert result.report.reached == pytest.approx(0.5, rel=0.02)
    assert result.report.form == "original classes"
    assert not result.report.unknown
    counted = sum(p.numel() for p in result.model.parameters())
    assert result.report.costs["params"][1] == counted
    assert sparse.report.verification.passed
    assert sparse.report.reached == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("name", QUICK)
def test_half_of_the_parameters_go(name):
    check(name, SMALL.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*zoo.NETWORKS, "torchvision:alexnet"])
def test_half_of_the_parameters_of_the_full_size_go(name):
    check(name, {})


def test_pooled_and_unpooled_channels_of_segnet_go_together():
    model, example = build("segnet", SMALL["segnet"])
    with torch.no_grad():
        model.encoder[0][3].weight[1] = 0
        model.decoder[3][3].weight[1] = 0
    method = l1_filter(coupled=True, round_to=1, ratios={"encoder.0.3": 0.25})
    result = prune(model, example, method=method)
    widths = [
        stage[-3].out_channels for stage in (result.model.encoder[0], result.model.decoder[3])
    ]
    assert widths == [3, 3]
    kept = [result.mask[name][:, 0, 0, 0] for name in ("encoder.0.3.weight", "decoder.3.3.weight")]
    assert kept[0].tolist() == kept[1].tolist() == [True, False, True, True]


def test_layers_of_the_language_model_get_widths_of_their_own():
    model, example = build("ptb_lstm", SMALL["ptb_lstm"])
    with torch.no_grad():
        model.lstm1.weight_ih_l0[:150] *= 0.01
    ratios = {"embedding": 0.1, "lstm1": 0.5, "lstm2": 0.2}
    result = prune(model, example, method=l1_filter(ratios=ratios, round_to=1))
    assert isinstance(result.model.lstm1, nn.LSTM)
    assert result.model.embedding.embedding_dim == result.model.lstm1.input_size == 180
    assert result.model.lstm1.hidden_size == result.model.lstm2.input_size == 100
    assert result.model.lstm2.hidden_size == result.model.softmax.in_features == 160
