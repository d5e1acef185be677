"""A file that describes its network is loaded where the network's code is not."""

import random
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import prunus
from damage import damaged, renumbered
from prunus import Target, prune
from prunus.errors import CheckpointError, ExportError
from prunus.files import read_tensors, write_tensors
from prunus.methods import l1_filter
from prunus.saving.description import KINDS, Untold, describe

METHOD = l1_filter(coupled=True, round_to=1)


class Residual(nn.Module):
    """A user's class, whose blocks' dropout makes training another graph."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.head = nn.Linear(8, 4)
        self.scale = nn.Parameter(torch.ones(8))
        self.head.bias.requires_grad_(False)

    def forward(self, x, *, doubled=False):
        x = self.norm(self.first(x)).relu()
        x = (x + self.second(x)).mean((2, 3)) * self.scale
        if self.training:
            x = x + 0.25
        x = self.head(2 * x if doubled else x)
        return {"logits": x, "chances": [x.softmax(1)]}


class Written(nn.Module):
    """Sizes written in the forward make its pruned form a rewritten graph."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 4)
        self.register_buffer("shift", torch.tensor(0.5), persistent=False)

    def forward(self, x):
        return self.linear((self.conv(x) + self.shift).reshape(-1, 8, 36).reshape(-1, 8 * 36))


class Words(nn.Module):
    """Tied embeddings, attention looked into, and a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.lstm = nn.LSTM(8, 6, num_layers=2, batch_first=True)
        self.out, self.head = nn.Linear(6, 8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.out(self.lstm(x)[0]))


def row():
    inner = nn.Sequential(nn.Conv2d(8, 12, 3, groups=4), nn.GroupNorm(3, 12), nn.GELU("tanh"))
    front = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same", bias=False), nn.BatchNorm2d(8), nn.ReLU()
    )
    return nn.Sequential(front, inner, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(12, 4))


def image():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def ids():
    return torch.randint(0, 11, (2, 5), generator=torch.Generator().manual_seed(1))


CASES = {"row": (row, image), "written": (Written, image), "residual": (Residual, image)} | {
    "words": (Words, ids)
}


@pytest.fixture(scope="module")
def results():
    found = {}
    for name, (build, example) in CASES.items():
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[name] = prune(build(), example(), method=METHOD, target=Target(sparsity=0.3))
    return found


SCRIPT = """
import sys, torch, prunus
from prunus.methods import l1_filter
from torch.utils._pytree import tree_leaves
method = l1_filter(coupled=True, round_to=1)
inputs = torch.load(sys.argv[1] + "/inputs.pt", weights_only=True)
for name, (x, more, expected, trained, frozen) in inputs.items():
    model = prunus.load(f"{sys.argv[1]}/{name}")
    assert model.training, name
    assert all(map(torch.equal, tree_leaves(model.eval()(more)), expected)), name
    torch.manual_seed(0)
    assert all(map(torch.equal, tree_leaves(model.train()(more)), trained)), name
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == frozen, name
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    sum(y.square().sum() for y in tree_leaves(model(x))).backward()
    optimizer.step()
    assert all((p != before[n]).any() != (n in frozen) for n, p in model.named_parameters()), name
    again = prunus.prune(model.eval(), x, method=method, target=prunus.Target(sparsity=0.2))
    assert again.report.verification.passed, name
    prunus.save(again, f"{sys.argv[1]}/{name}-again")
    last = prunus.load(f"{sys.argv[1]}/{name}-again")
    assert all(map(torch.equal, tree_leaves(last(more)), tree_leaves(again.model(more)))), name
assert "test_saving_whole" not in sys.modules
"""


def test_networks_are_loaded_without_their_code_trained_and_pruned_again(results, tmp_path):
    from torch.utils._pytree import tree_leaves

    inputs = {}
    for name, result in results.items():
        x = CASES[name][1]()
        more = torch.cat([x, x])
        model = result.model
        expected = [y.detach() for y in tree_leaves(model.eval()(more))]
        before = {key: value.clone() for key, value in model.state_dict().items()}
        torch.manual_seed(0)
        trained = [y.detach() for y in tree_leaves(model.train()(more))]
        model.load_state_dict(before)
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        inputs[name] = x, more, expected, trained, frozen
        prunus.save(result, tmp_path / name, x if name in ("residual", "words") else None)
    assert results["written"].report.form == "rewritten graph"
    assert results["residual"].report.form == "original classes"
    torch.save(inputs, tmp_path / "inputs.pt")
    environment = {"PYTHONPATH": str(Path(prunus.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tied_tensors_are_written_once_and_come_back_tied(results, tmp_path):
    prunus.save(results["words"], tmp_path / "s", ids())
    assert "head.weight" not in read_tensors(tmp_path / "s")[0]
    for loaded in (prunus.load(tmp_path / "s"), prunus.load(tmp_path / "s", Words, ids())):
        assert loaded.get_parameter("head.weight") is loaded.get_parameter("embed.weight")


def test_what_is_tied_in_the_file_only_stays_apart(tmp_path):
    def apart():
        return nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))

    tied = apart()
    tied[1].weight = tied[0].weight
    prunus.save(tied, tmp_path / "s")
    loaded = prunus.load(tmp_path / "s", apart)
    assert torch.equal(loaded[0].weight, loaded[1].weight)
    assert loaded[0].weight.data_ptr() != loaded[1].weight.data_ptr()


def test_a_described_network_is_also_loaded_into_its_own_class(results, tmp_path):
    prunus.save(results["residual"], tmp_path / "s", image())
    loaded = prunus.load(tmp_path / "s", Residual)
    assert type(loaded) is Residual
    expected = results["residual"].model.eval()(image(), doubled=True)["logits"]
    assert torch.equal(loaded.eval()(image(), doubled=True)["logits"], expected)


class Own(nn.Module):
    """Gives what only its own code knows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x):
        return Doubled.apply(self.b(self.a(x)))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_what_has_no_place_in_a_file_is_said_when_it_is_saved_and_loaded(results, tmp_path):
    with pytest.raises(ExportError, match=r"Own cannot be described in a file \(it calls Doubled"):
        prunus.save(Own(), tmp_path / "s", torch.randn(2, 3))
    assert not (tmp_path / "s").exists()
    prunus.save(results["residual"], tmp_path / "s")
    said = r"of a Residual, but not its forward, since it is a Residual.* Pass model="
    with pytest.raises(CheckpointError, match=said):
        prunus.load(tmp_path / "s")
    hooked = nn.Sequential(nn.Linear(2, 2))
    hooked[0].register_forward_hook(lambda *_: None)
    with pytest.raises(Untold, match="0 has hooks"):
        describe(hooked)


class Noisy(nn.Module):
    """Draws in train mode only, as variational autoencoders do."""

    def __init__(self, work=torch.randn_like):
        super().__init__()
        self.a, self.b, self.work = nn.Linear(8, 16), nn.Linear(16, 4), work

    def forward(self, x):
        h = self.a(x)
        return self.b(h + self.work(h) if self.training else h)


def test_noise_in_training_comes_back(tmp_path):
    x, model = torch.randn(4, 8), Noisy()
    prunus.save(model, tmp_path / "s", x)
    loaded = prunus.load(tmp_path / "s")
    found = []
    for each in (model, loaded):
        torch.manual_seed(0)
        found.append((each.train()(x), each.eval()(x)))
    assert all(map(torch.equal, *found))
    assert not torch.equal(*found[0])


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], True)[0]


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, images, targets=None):
        if self.training and targets is None:
            raise ValueError("targets should not be none")
        return [self.b(self.a(image)) for image in images]


class Outputs(Detector):
    def forward(self, x):
        return Given(self.b(self.a(x)))

    def save_pretrained(self):
        """Say that there is another way."""


class Given:
    def __init__(self, logits):
        self.logits = logits


X = torch.randn(3, 8)


@pytest.mark.parametrize(
    ("model", "example", "said"),
    [
        (Packed(), (torch.randn(2, 5, 6), torch.tensor([5, 3])), "given a PackedSequence, which"),
        (Detector(), ([X],), r"of shape \(3, 8\): ValueError: targets .* in train mode\)"),
        (
            Outputs(),
            X,
            r"a Given.*transformers\.save_pretrained writes its folder; or save",
        ),
        (Noisy(lambda h: Doubled.apply(h)), X, r"it calls Doubled in train mode\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_reason_for_which_there_is_no_file_is_the_true_one(tmp_path, model, example, said):
    with pytest.raises(ExportError, match=said):
        prunus.save(model, tmp_path / "s", example)


NEEDED = {
    **dict.fromkeys(("Linear", "LSTM", "GRU", "RNN", "RNNCell", "LSTMCell", "GRUCell"), (4, 3)),
    **{f"Conv{n}d": (4, 6, 3) for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": (4, 6, 3) for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": (4,) for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": (4,) for n in (1, 2, 3)},
    **{f"{kind}Pool{n}d": (2,) for kind in ("Max", "Avg", "AdaptiveAvg") for n in (1, 2, 3)},
    **{"GroupNorm": (2, 4), "LayerNorm": ((3, 4),), "RMSNorm": (4,), "Bilinear": (2, 3, 4)},
    **{"Embedding": (5, 3), "EmbeddingBag": (5, 3), "PReLU": (4,), "Threshold": (0.5, 2.0)},
    **{"LocalResponseNorm": (3,), "PixelShuffle": (2,), "ZeroPad2d": (1,), "Upsample": (None, 2)},
    **{name: () for name in ("ReLU", "GELU", "SiLU", "Hardtanh", "Identity", "Dropout", "Flatten")},
}


@pytest.mark.parametrize("name", NEEDED)
def test_layers_of_each_kind_come_back(tmp_path, name):
    layer = KINDS[name](*NEEDED[name])
    prunus.save(nn.Sequential(layer), tmp_path / "s")
    loaded = prunus.load(tmp_path / "s")
    assert repr(loaded) == repr(nn.Sequential(layer))
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, layer.state_dict()[key.removeprefix("0.")])


class Calculated(nn.Module):
    """Python's operators on tensors, from both sides and in place."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x):
        h = 2 + self.a(x).relu()
        h = 1 / h + 1 - 2 // h + 3 % h + 2**h + -h
        h /= 2
        h %= 5
        h //= 0.1
        whole = h.long()
        whole ^= 3
        return self.b(h + (1 ^ whole) + (1 << whole % 4) + (64 >> whole % 4) + +h)


def test_operators_come_back(tmp_path):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = Calculated().eval()
    prunus.save(model, tmp_path / "s", x)
    assert torch.equal(prunus.load(tmp_path / "s")(x), model(x))


def described(path, change):
    """Rewrite what a file says of its network."""
    tensors, metadata = read_tensors(path)
    metadata["network"] = change(metadata["network"])
    write_tensors(path, tensors, metadata)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kind":"Conv2d"', '"kind":"Module"'),
        ('"kind":"Conv2d"', '"kind":"os.system"'),
        ('"kind":"Conv2d"', '"kind":"Embedding"'),
        ('"in_channels":3', '"in_channels":3,"forward":1'),
        ('"in_channels":3', '"in_channels":1099511627776'),
        ('"in_channels":3', '"in_channels":-3'),
        ('"inplace":false', '"inplace":{"node":"x"}'),
        ('"0.0":', '"../0":'),
        ('"0.0":', '"0.forward":'),
        ('"0.0":', '"nowhere.0":'),
        ('"frozen":[]', '"frozen":[],"evaluating_always":["7"]'),
        ('"buffers":{', '"buffers":{"0.0.weight":true,'),
    ],
)
def test_a_row_of_layers_that_is_forged_is_refused(tmp_path, old, new):
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    prunus.save(model, tmp_path / "s")

    def change(text):
        assert old in text
        return text.replace(old, new)

    described(tmp_path / "s", change)
    with pytest.raises(CheckpointError, match="damaged header"):
        prunus.load(tmp_path / "s")


class Watch:
    """Notes what a process does beyond computing, while it is switched on."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        told = ("os.system", "os.exec", "os.posix", "os.re", "subprocess", "socket", "pickle")
        if self.on and (event.startswith(told) or (event == "open" and "w" in str(arguments[1]))):
            self.seen.append((event, arguments))


def mutated(data, rng):
    """Return a file damaged as it lies, or in what it says of its network."""
    if rng.random() < 0.2:
        return damaged(data, rng)
    end = 8 + int.from_bytes(data[:8], "little")
    header = rng.choice([damaged, renumbered])(data[8:end], rng)
    return len(header).to_bytes(8, "little") + header + data[end:]


def forged(path, text, rng):
    """Write a file whose description alone is damaged, so that it is read to its end."""
    tensors, metadata = read_tensors(path)
    new = rng.choice([damaged, renumbered, renumbered])(text.encode(), rng)
    write_tensors(path, tensors, metadata | {"network": new.decode(errors="replace")})


@pytest.mark.parametrize(
    ("name", "first", "count"),
    [
        ("row", 0, 150),
        ("written", 0, 150),
        pytest.param("row", 150, 5_000, marks=pytest.mark.slow),
        pytest.param("written", 150, 5_000, marks=pytest.mark.slow),
        pytest.param("words", 0, 2_000, marks=pytest.mark.slow),
    ],
)
def test_mutations_are_refused_or_loaded_but_nothing_else(results, tmp_path, name, first, count):
    path = tmp_path / "s"
    prunus.save(results[name], path, CASES[name][1]() if name == "words" else None)
    data, refused, watch = path.read_bytes(), 0, Watch()
    with safe_open(path, framework="pt") as file:
        text = file.metadata()["network"]
    for seed in range(first, first + count):
        rng = random.Random(seed)
        if rng.random() < 0.5:
            path.write_bytes(mutated(data, rng))
        else:
            path.write_bytes(data)
            forged(path, text, rng)
        watch.on = True
        try:
            prunus.load(path)
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error), seed
        finally:
            watch.on = False
        if seed == first + 20:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not watch.seen
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**18  # 256 MiB
    assert count / 4 < refused < count
