"""Whole networks in a plan against ONNX Runtime."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from prunus_engine import Plan, instructions

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
prunus = pytest.importorskip("prunus", reason="Prunus is not installed")

from torch import nn  # noqa: E402

from prunus import zoo  # noqa: E402
from prunus.deploy import export_onnx  # noqa: E402


def thinned(network, height=1, density=0.2):
    """Set most weights to zero, in blocks of a height where that divides the outputs."""
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        if weight.ndim > 1 and weight.shape[1] > 1:
            rows, tall = len(weight), height if len(weight) % height == 0 else 1
            kept = torch.rand((rows // tall, weight[0].numel()), generator=generator) < density
            weight.data *= kept.repeat_interleave(tall, 0).reshape(weight.shape)
    return network.eval()


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def feeds_of(path, batch):
    rng = np.random.default_rng(1)
    feeds = {}
    for value in session(path).get_inputs():
        shape = [size if isinstance(size, int) else batch for size in value.shape]
        whole = value.type == "tensor(int64)"
        feeds[value.name] = (
            rng.integers(0, 50, shape) if whole else rng.standard_normal(shape).astype("f4")
        )
    return feeds


def same(plan, path, feeds):
    """Check that a plan returns what ONNX Runtime does, twice."""
    wanted = session(path).run(None, feeds)
    for _ in range(2):  # buffers hold what the first run left in them
        found = plan.run(feeds)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape
            scale = max(1e-6, float(np.abs(other).max()))
            np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=1e-4)


def made(path, feeds, **options):
    shapes = {name: value.shape for name, value in feeds.items()}
    return Plan(path, shapes, **{"how": "sparse", **options})


class Block(nn.Module):
    """A transformer's block, with attention written out."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        parts = self.qkv(self.before(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        return x + self.narrow(nn.functional.gelu(self.wide(self.after(x))))


class Gated(nn.Module):
    """Two outputs, one of which another layer reads, and an activation of two operations."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        middle = nn.functional.silu(self.first(x))
        return self.pool(middle + self.second(middle)), middle


NETWORKS = {
    "lenet5": (lambda: zoo.network("lenet5"), torch.randn(2, 1, 28, 28)),
    "resnet20": (lambda: zoo.network("resnet20"), torch.randn(2, 3, 32, 32)),
    "mobilenet_v1": (lambda: zoo.network("mobilenet_v1"), torch.randn(2, 3, 64, 64)),
    "block": (Block, torch.randn(2, 7, 32)),
    "lstm": (lambda: zoo.network("ptb_lstm", size="small", words=50), torch.zeros(2, 6).long()),
    "gated": (Gated, torch.randn(2, 4, 10, 10)),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    made: dict[tuple[str, int], Path] = {}

    def file(name, height=1):
        if (name, height) not in made:
            torch.manual_seed(0)
            build, x = NETWORKS[name]
            network = build()
            for module in network.modules():  # whose statistics are those of no data yet
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
            path = tmp_path_factory.mktemp(name) / f"{height}.onnx"
            made[name, height] = export_onnx(thinned(network, height), x, path)
        return made[name, height]

    return file


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_what_it_does_in_onnx_runtime(files, name, batch):
    path = files(name)
    feeds = feeds_of(path, batch)
    for threads in (1, 2):
        plan = made(path, feeds, threads=threads)
        same(plan, path, feeds)
        assert any(choice.kernel for choice in plan.choices)


@pytest.mark.parametrize("isa", instructions())
@pytest.mark.parametrize("height", [4, 8])
def test_blocks_are_found_in_the_weights(files, isa, height):
    path = files("resnet20", height)
    feeds = feeds_of(path, 2)
    plan = made(path, feeds, instructions=isa)
    same(plan, path, feeds)
    tall = [choice.height for choice in plan.choices if choice.kernel]
    assert tall.count(height) > len(tall) / 2


def test_sums_and_activations_are_part_of_their_layers(files):
    feeds = feeds_of(files("resnet20"), 1)
    plan = made(files("resnet20"), feeds)
    assert plan.parts == 3  # two shortcuts that leave out pixels, and the last pooling


def test_what_is_faster_is_measured_and_remembered(files, tmp_path):
    path = files("resnet20", 4)
    feeds = feeds_of(path, 2)
    plan = made(path, feeds, how="measure", cache=tmp_path)
    same(plan, path, feeds)
    measured = [choice for choice in plan.choices if choice.ms is not None]
    assert measured
    assert all(choice.kernel == (choice.ms < choice.dense_ms) for choice in measured)
    (file,) = tmp_path.iterdir()
    again = made(path, feeds, how="measure", cache=tmp_path)
    assert again.choices == plan.choices
    same(again, path, feeds)
    rows = json.loads(file.read_text())
    for broken in ("", "[]", "{}", json.dumps([{**rows[0], "height": "x"}, *rows[1:]])):
        file.write_text(broken)
        same(made(path, feeds, how="measure", cache=tmp_path), path, feeds)
        assert {row["layer"] for row in json.loads(file.read_text())} == {r["layer"] for r in rows}


def test_a_network_without_zeros_stays_in_one_part(files):
    torch.manual_seed(0)
    path = files("lenet5").with_name("dense.onnx")
    export_onnx(zoo.network("lenet5").eval(), torch.randn(2, 1, 28, 28), path)
    feeds = feeds_of(path, 2)
    plan = made(path, feeds, how="measure")
    assert plan.parts == 1 and not any(c.kernel for c in plan.choices if c.ms is not None)
    same(plan, path, feeds)


def test_outputs_are_memory_of_their_own(files):
    path = files("gated")
    feeds = feeds_of(path, 1)
    plan = made(path, feeds)
    held = plan.run(feeds)
    first = [output.copy() for output in held]
    plan.run({name: value + 1 for name, value in feeds.items()})
    for one, other in zip(first, held, strict=True):
        np.testing.assert_array_equal(one, other)


def test_inputs_that_do_not_fit_are_refused(files):
    path = files("lenet5")
    feeds = feeds_of(path, 2)
    (name,) = feeds
    plan = made(path, feeds)
    with pytest.raises(ValueError, match="is missing"):
        plan.run({})
    with pytest.raises(ValueError, match=r"must have the shape \(2, 1, 28, 28\) and type float32"):
        plan.run({name: feeds[name][:1]})
    with pytest.raises(ValueError, match="float64"):
        plan.run({name: feeds[name].astype("f8")})
    with pytest.raises(ValueError, match="shapes must be given for the inputs"):
        Plan(path, {"other": (1, 1, 28, 28)})
    with pytest.raises(ValueError, match="has the shape"):
        Plan(path, {name: (1, 2, 28, 28)})
    with pytest.raises(ValueError, match="how must be"):
        made(path, feeds, how="fast")


def graph(tmp_path, nodes, constants, inputs, outputs):
    """Write a graph by hand; `inputs` and `outputs` are shapes by name."""
    values = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in given.items()]
        for given in (inputs, outputs)
    ]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "graph", *values, tensors)
    path = tmp_path / "graph.onnx"
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        (helper.make_node("Gemm", ["x", "w", "c"], ["y"], alpha=0.5, beta=2.0), (5, 6)),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (2, 5, 6)),
        (helper.make_node("MatMul", ["w", "x"], ["y"]), (8, 4)),  # a constant on the left
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), (6, 5)),
    ],
)
def test_products_in_all_their_forms(tmp_path, node, shape):
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((6, 8)) * (rng.random((6, 8)) < 0.3)).astype("f4")
    constants = {"w": weight, "c": rng.standard_normal(8).astype("f4")}
    used = {name: value for name, value in constants.items() if name in node.input}
    path = graph(tmp_path, [node], used, {"x": shape}, {"y": None})
    feeds = {"x": rng.standard_normal(shape).astype("f4")}
    same(made(path, feeds), path, feeds)


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("dims", [1, 2])
def test_padding_by_name(tmp_path, pad, dims):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, *[4] * dims)) * (rng.random(4**dims) < 0.3).reshape(
        [4] * dims
    )
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=pad, strides=[2] * dims)
    shape = (2, 3, *[11] * dims)
    path = graph(tmp_path, [node], {"w": weight.astype("f4")}, {"x": shape}, {"y": None})
    feeds = {"x": rng.standard_normal(shape).astype("f4")}
    plan = made(path, feeds)
    assert plan.parts == 0
    same(plan, path, feeds)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_layer_that_adds_what_it_reads(tmp_path, batch):
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((4, 4, 3, 3)) * (rng.random((4, 4, 3, 3)) < 0.3)).astype("f4")
    nodes = []
    for at in range(3):
        nodes += [
            helper.make_node("Conv", [f"x{at}", "w"], [f"y{at}"], pads=[1] * 4),
            helper.make_node("Add", [f"y{at}", f"x{at}"], [f"x{at + 1}"]),
        ]
    shape = (batch, 4, 6, 7)
    path = graph(tmp_path, nodes, {"w": weight}, {"x0": shape}, {"x3": None})
    feeds = {"x0": rng.standard_normal(shape).astype("f4")}
    same(made(path, feeds), path, feeds)


def test_a_condition_reads_what_a_layer_makes(tmp_path):
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((6, 6)) * (rng.random((6, 6)) < 0.3)).astype("f4")
    value = helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)
    branches = {
        name: helper.make_graph([helper.make_node(kind, ["h"], ["chosen"])], name, [], [value])
        for name, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], **branches),
    ]
    constants = {"w": weight, "zero": np.zeros((), "f4")}
    path = graph(tmp_path, nodes, constants, {"x": (5, 6)}, {"y": None})
    for sign in (1, -1):
        feeds = {"x": sign * np.abs(rng.standard_normal((5, 6))).astype("f4")}
        same(made(path, feeds), path, feeds)
