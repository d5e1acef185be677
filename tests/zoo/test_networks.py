import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prunus import zoo
from prunus.types import call_arguments, first_sample
from prunus.zoo.resnet_cifar import ZeroPadShortcut


def macs(model, x):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(x[:1])
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "options", "parameters", "expected_macs"),
    [
        ("lenet300", {}, 266_610, 266_200),
        ("lenet5", {}, 431_080, 288_000 + 1_600_000 + 400_000 + 5_000),
        ("resnet20", {}, 269_722, 40_551_040),
        ("resnet56", {}, 853_018, 125_485_696),
        ("resnet110", {}, 1_727_962, 252_887_680),
        ("vgg16", {}, 14_724_042, 313_201_664),
        ("vgg16", {"hidden_features": 512}, 14_986_698, 313_463_808),
        ("vgg19", {}, 20_035_018, None),
        ("conv2", {}, 4_300_992 + 650, None),
        ("conv4", {}, 2_425_024 + 906, None),
        ("conv6", {}, 2_261_184 + 1418, None),
        ("prunefl_conv2", {}, 6_603_710, None),
        ("prunefl_conv4", {}, 36_306, None),
        ("prunefl_conv4", {"classes": 2, "in_channels": 3, "side": 84}, 30_498, None),
        ("char_lstm", {}, 819_125, None),
        ("vgg11", {}, 9_750_922, None),
        ("segnet", {}, 29_441_419, None),
        ("fcn32s", {"classes": 21}, 134_346_581, None),
        ("torchvision:alexnet", {}, 61_100_840, None),
    ],
)
def test_published_sizes(name, options, parameters, expected_macs):
    model = zoo.network(name, **options)
    assert sum(p.numel() for p in model.parameters()) == parameters
    if expected_macs is not None:
        assert macs(model, zoo.example(name)) == expected_macs


def test_caffe_lenet5_has_430500_weights():
    model = zoo.network("lenet5")
    assert sum(p.numel() for n, p in model.named_parameters() if n.endswith("weight")) == 430_500


# The paper's table 6 rounds parameters to 0.1 M; its MACs are 569, 325, 149 and 41 M.
@pytest.mark.parametrize(
    ("width", "parameters", "millions"),
    [(1, 4_231_976, 569), (0.75, 2_585_560, 325), (0.5, 1_331_592, 149), (0.25, 470_072, 41)],
)
def test_mobilenet_widths(width, parameters, millions):
    model = zoo.network("mobilenet_v1", width=width)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert round(macs(model, zoo.example("mobilenet_v1")) / 1e6) == millions


@pytest.mark.parametrize(
    ("size", "units", "published"),
    [("small", 200, 4.65), ("medium", 650, 19.78), ("large", 1500, 66.02)],
)
def test_zaremba_sizes(size, units, published):
    with torch.device("meta"):
        model = zoo.network("ptb_lstm", size=size)
    second_biases = [p.numel() for n, p in model.named_parameters() if "bias_hh" in n]
    assert second_biases == [4 * units, 4 * units]
    parameters = sum(p.numel() for p in model.parameters()) - sum(second_biases)
    assert round(parameters / 1e6, 2) == published


@pytest.mark.parametrize(
    ("name", "convolutional", "weights"),
    [("conv2", 38_592, 4_300_992), ("conv4", 259_776, 2_425_024), ("conv6", 1_144_512, 2_261_184)],
)
def test_frankle_weights(name, convolutional, weights):
    model = zoo.network(name)
    found = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sum(w.numel() for w in found) == weights
    assert sum(w.numel() for w in found if w.ndim == 4) == convolutional
    first = model.classifier[0]
    glorot = (2 / (first.in_features + first.out_features)) ** 0.5
    assert first.weight.std().item() == pytest.approx(glorot, rel=0.01)
    assert not first.bias.any()


SMALL = {
    "mobilenet_v1": {"width": 0.125},
    "segnet": {"width": 0.0625},
    "fcn32s": {"width": 0.0625},
    "ptb_lstm": {"size": "small", "words": 150},
    "seq2seq": {"source_words": 120, "target_words": 150, "embedding": 16, "units": 24},
}
WORDS = {"ptb_lstm": 150, "seq2seq": 150, "char_lstm": 77}  # with how many they tell apart


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_every_network_takes_its_example_and_other_batch_sizes(name):
    options = SMALL.get(name, {}) | ({} if name in WORDS else {"classes": 7})
    model = zoo.network(name, **options).double().eval()
    x = zoo.example(name)
    if name not in WORDS:
        x = x.double()
    with torch.no_grad():
        together = run(model, x)
        first = run(model, first_sample(x))
    classes = WORDS.get(name, 7)
    positions = {"segnet": (180, 240), "fcn32s": (180, 240), "ptb_lstm": (35,), "seq2seq": (20,)}
    positions["char_lstm"] = (80,)
    assert together.shape == (2, classes, *positions.get(name, ()))
    torch.testing.assert_close(together[:1], first)


def run(model, example):
    args, kwargs = call_arguments(example)
    return model(*args, **kwargs)


def test_examples_are_always_the_same():
    assert torch.equal(zoo.example("resnet20"), zoo.example("resnet20"))
    assert all(map(torch.equal, zoo.example("seq2seq"), zoo.example("seq2seq")))


def test_a_language_model_does_not_see_the_word_it_predicts():
    model = zoo.network("ptb_lstm", size="small", words=50).eval()
    words = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(0))
    other = words.clone()
    other[:, 5] = (other[:, 5] + 1) % 50
    with torch.no_grad():
        differs = (model(words) != model(other)).any(1)
    assert differs.tolist() == [[k >= 5 for k in range(9)]] * 2


def test_a_translator_ignores_padding_and_words_to_come():
    model = zoo.network("seq2seq", **SMALL["seq2seq"]).double().eval()
    source, target = zoo.example("seq2seq")
    padded = torch.cat([source, torch.zeros(2, 6, dtype=torch.long)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(padded, target), model(source, target))
        torch.testing.assert_close(model(source, target)[..., :4], model(source, target[:, :4]))
        assert not torch.allclose(model(source.flip(1), target), model(source, target))


@pytest.mark.parametrize("size", [(32, 32), (45, 61), (180, 240)])
@pytest.mark.parametrize("name", ["segnet", "fcn32s"])
def test_every_pixel_gets_a_class(name, size):
    model = zoo.network(name, **SMALL[name]).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, *size)).shape == (1, 11, *size)


def test_dropout_of_lenet5_falls_between_its_linear_layers():
    model = zoo.network("lenet5", dropout=0.5)
    model.fc2.register_forward_pre_hook(lambda module, given: zeros.append(given[0] == 0))
    zeros = []
    for training in (False, True):
        model.train(training)(zoo.example("lenet5"))
    without, with_it = (found.double().mean().item() for found in zeros)
    assert with_it == pytest.approx(without + (1 - without) * 0.5, abs=0.06)


def test_cifar_networks_take_grey_images_of_28_pixels():
    x = torch.zeros(2, 1, 28, 28)
    assert zoo.network("resnet20", in_channels=1)(x).shape == (2, 10)
    assert zoo.network("vgg16", in_channels=1)(x).shape == (2, 10)


def test_lenet300_is_the_plain_stack():
    model = zoo.network("lenet300")
    stack = nn.Sequential(nn.Flatten(), model.fc1, nn.ReLU(), model.fc2, nn.ReLU(), model.fc3)
    x = zoo.example("lenet300")
    assert torch.equal(model(x), stack(x))


def test_lenet5_has_no_relu_behind_its_convolutions():
    # Both convolutions give negative numbers here, so a ReLU behind either would give logits of 0.
    model = zoo.network("lenet5")
    for name, value in {"conv1": -1.0, "conv2": 1.0, "fc1": -1.0, "fc2": 1.0}.items():
        nn.init.constant_(model.get_submodule(name).weight, value)
        nn.init.zeros_(model.get_submodule(name).bias)
    logits = model(torch.ones(1, 1, 28, 28))
    assert logits[0, 0].item() == pytest.approx(25 * (20 * 25) * 800 * 500)


@pytest.mark.parametrize("size", [8, 9])
def test_shortcut_is_subsampling_between_zero_channels(size):
    x = torch.randn(3, 4, size, size)
    y = ZeroPadShortcut(1, 3)(x)
    assert torch.equal(y, F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 3)))


def test_shortcut_zeros_can_be_sliced_away():
    shortcut = ZeroPadShortcut(2, 2).double()
    shortcut.zeros_before = shortcut.zeros_before[:, :0]
    shortcut.zeros_after = shortcut.zeros_after[:, :1]
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    assert shortcut(x).shape == (1, 4, 2, 2)
    assert shortcut(x).dtype == torch.float64
    shortcut.zeros_after = shortcut.zeros_after[:, :0]
    assert torch.equal(shortcut(x), x[:, :, ::2, ::2])


def test_shortcut_zeros_are_no_state():
    assert not [name for name in zoo.network("resnet20").state_dict() if "shortcut" in name]


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_graphs_of_every_tracer_hold_no_batch_size(name):
    model, x = zoo.network(name).eval(), zoo.example(name)
    larger = torch.cat([x, x, x[:1]])
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(model, (x,), dynamic_shapes=dynamic).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(larger), model(larger))
        torch.testing.assert_close(torch.fx.symbolic_trace(model)(larger), model(larger))


def test_he_normal_start():
    model = zoo.network("vgg16")
    conv = model.features[10]
    assert isinstance(conv, nn.Conv2d)
    fan_out = conv.out_channels * 9
    assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.1)
    gammas = {m.weight.unique().item() for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert gammas == {0.5}
    assert zoo.network("resnet20").bn1.weight.unique().item() == 1.0
    for slimmed in (
        zoo.network("resnet20", bn_gamma=0.5),
        zoo.network("mobilenet_v1", bn_gamma=0.5),
    ):
        gammas = [m.weight for m in slimmed.modules() if isinstance(m, nn.BatchNorm2d)]
        assert torch.cat(gammas).unique().tolist() == [0.5]


def test_the_seed_of_torch_decides_the_start():
    def build(seed):
        torch.manual_seed(seed)
        return zoo.network("resnet20").layer3[0].conv1.weight

    assert torch.equal(build(1), build(1))
    assert not torch.equal(build(1), build(2))


def test_unknown_names_and_options_are_explained():
    with pytest.raises(ValueError, match="Did you mean 'resnet56'"):
        zoo.network("resnet-56")
    with pytest.raises(ValueError, match="Did you mean 'vgg16'"):
        zoo.check_network("vg16")
    with pytest.raises(TypeError, match="'resnet20' has no option 'width'"):
        zoo.network("resnet20", width=3)
    with pytest.raises(TypeError, match=r"Did you mean 'classes'\? Its options are classes, in_"):
        zoo.network("resnet20", class_=3)
    with pytest.raises(TypeError, match="depth"):
        zoo.network("resnet20", depth=56)
    with pytest.raises(ValueError, match=r"6n \+ 2"):
        zoo.CifarResNet(18)
    with pytest.raises(ValueError, match="16 or 19"):
        zoo.CifarVGG(11)


def test_torchvision_networks_start_at_random_and_take_options(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("tried to download weights")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    model = zoo.network("torchvision:squeezenet1_1", num_classes=5).eval()
    with torch.no_grad():
        assert model(zoo.example("torchvision:squeezenet1_1")[:, :, ::4, ::4]).shape == (2, 5)
    zoo.network("torchvision:lraspp_mobilenet_v3_large")


def test_torchvision_names_are_checked():
    zoo.check_network("torchvision:resnet18")
    with pytest.raises(ValueError, match="Did you mean 'resnet18'"):
        zoo.check_network("torchvision:resnet8")
    assert zoo.example("torchvision:inception_v3").shape == (2, 3, 299, 299)
    with pytest.raises(ValueError, match="give your own"):
        zoo.example("torchvision:r3d_18")


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "prunus_user_nets.py").write_text(
        "from torch import nn\n"
        "def build(width=3):\n    return nn.Linear(2, width)\n"
        "def wrapped():\n    return nn.DataParallel(build()), 1\n"
        "def wrong():\n    return 'a model'\n"
    )
    (tmp_path / "prunus_user_broken.py").write_text("import prunus_user_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "prunus_user_nets"


def test_user_network(user_module):
    assert zoo.user_network(f"{user_module}:build").out_features == 3
    assert zoo.user_network(f"{user_module}:build", {"width": 5}).out_features == 5
    assert zoo.user_network(f"{user_module}:wrapped").out_features == 3


def test_user_network_errors(user_module):
    with pytest.raises(ValueError, match=r"package.module:function"):
        zoo.user_network(user_module)
    with pytest.raises(ValueError, match="no module 'prunus_no_such'"):
        zoo.user_network("prunus_no_such.nets:build")
    with pytest.raises(ValueError, match=r"no function 'biuld'. Did you mean 'build'"):
        zoo.user_network(f"{user_module}:biuld")
    with pytest.raises(TypeError, match=r"must return an nn.Module, or one with .* got str"):
        zoo.user_network(f"{user_module}:wrong")
    with pytest.raises(ModuleNotFoundError, match="missing_dependency"):
        zoo.user_network("prunus_user_broken:build")
