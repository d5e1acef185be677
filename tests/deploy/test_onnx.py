import logging
import warnings
from dataclasses import dataclass

import onnx
import onnxruntime
import pytest
import torch
from onnxscript import FLOAT, INT64
from torch import nn

import prunus.deploy.onnx as onnx_module
from prunus.deploy import export_onnx, export_program, translations
from prunus.deploy.case import summary
from prunus.errors import ExportError


class Residual(nn.Module):
    """Batch norm with real statistics, a residual sum and a width of five."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.second = nn.Conv2d(5, 5, 3, padding=1)
        self.head = nn.Linear(5, 4)
        nn.init.uniform_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.head((x + self.second(x)).mean((2, 3)))


@pytest.fixture
def example():
    return torch.randn(2, 3, 8, 8)


def export_error(model, example, path, **options):
    with pytest.raises(ExportError) as caught:
        export_onnx(model, example, path, **options)
    assert not path.exists()
    assert not list(path.parent.iterdir()), "a temporary file was left behind"
    return str(caught.value)


def test_one_file_with_folded_batch_norm_in_a_current_opset(tmp_path, example):
    path = export_onnx(Residual(), example, tmp_path / "new" / "model.onnx")

    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert model.opset_import[0].version == onnx_module.OPSET
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_the_model_is_left_as_it_was_and_nothing_is_printed(tmp_path, example, capfd):
    model = Residual().double().train()
    model.head.eval()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    disabled = logging.root.manager.disable

    with warnings.catch_warnings(record=True) as seen:
        export_onnx(model, example, tmp_path / "model.onnx")

    assert model.training and model.norm.training and not model.head.training
    assert len(model._forward_hooks) == 1
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    assert capfd.readouterr() == ("", "")
    assert not seen
    assert logging.root.manager.disable == disabled


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)

    def forward(self, tokens, *, scale, doubled=False):
        x = self.embed(tokens["ids"]).sum(1) * scale
        return {"sum": 2 * x if doubled else x, "best": (x.argmax(1), None)}


def test_keyword_inputs_and_nested_outputs_at_batch_one(tmp_path):
    example = {
        "tokens": {"ids": torch.tensor([[1, 2, 3]])},
        "scale": torch.tensor(2.0),
        "doubled": True,
    }
    path = export_onnx(Nested(), example, tmp_path / "model.onnx")
    assert len(onnx.load(path).graph.output) == 2


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.reshape(2, 12)


def test_a_fixed_batch_size_is_refused_with_the_way_out_and_then_taken(tmp_path):
    example = torch.randn(2, 3, 4)
    assert "dynamic_batch=False" in export_error(FixedBatch(), example, tmp_path / "model.onnx")

    path = export_onnx(FixedBatch(), example, tmp_path / "model.onnx", dynamic_batch=False)
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Custom(nn.Module):
    def forward(self, x):
        return x * x.new_tensor(float("nan"))


class Uncopyable(nn.Module):
    def __deepcopy__(self, memo):
        raise RuntimeError("no copies")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Branch(), "values of tensors"),
        (Custom(), "NaN or infinity"),
        (Uncopyable(), "no copies"),
        (nn.Linear(3, 2), "cannot be run on the example"),
    ],
)
def test_what_cannot_be_exported_says_why(model, words, tmp_path):
    assert words in export_error(model, torch.randn(2, 4), tmp_path / "model.onnx")


def test_a_file_that_computes_something_else_is_refused(tmp_path, example, monkeypatch):
    honest = torch.onnx.export

    def faulty(model, *args, **kwargs):
        model.head.weight.data[0] *= 1.01
        return honest(model, *args, **kwargs)

    monkeypatch.setattr(torch.onnx, "export", faulty)
    assert "differs from torch" in export_error(Residual(), example, tmp_path / "model.onnx")


class Taken(nn.Module):
    """A network with a layer called as PyTorch's exported graphs call their source."""

    def __init__(self):
        super().__init__()
        self.code = nn.Linear(4, 4)

    def forward(self, x):
        return self.code(x)


def test_a_name_that_the_exporter_needs_is_told(tmp_path):
    said = export_error(Taken(), torch.randn(2, 4), tmp_path / "model.onnx")
    assert "rename what Taken calls 'code', a name that torch.export needs" in said
    with pytest.raises(ExportError, match="rename what Taken calls 'code'"):
        export_program(Taken(), torch.randn(2, 4), tmp_path / "model.pt2")


def test_a_failed_export_keeps_the_old_file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    with pytest.raises(ExportError):
        export_onnx(Branch(), torch.randn(2, 4), path)
    assert path.read_text() == "old"


def test_weights_beyond_one_file_are_refused(tmp_path, example, monkeypatch):
    monkeypatch.setattr(onnx_module, "_MAX_BYTES", 1000)
    assert "less than 2 GiB" in export_error(Residual(), example, tmp_path / "model.onnx")


def test_an_example_without_a_batch_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="first dimension is the batch"):
        export_onnx(Residual(), torch.tensor(1.0), tmp_path / "model.onnx")


def test_a_reason_after_a_colon_is_told():
    assert summary(ValueError("conflicts found:\n- a static shape of 5\n\nSuggested: ...")) == (
        "ValueError: conflicts found: - a static shape of 5"
    )
    assert summary(ValueError("one\ntwo")) == "ValueError: one"
    assert summary(KeyError()) == "KeyError"


class Padded(nn.Module):
    """A transformer whose input has padding, which PyTorch's fused layers would set to zero."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def forward(self, x, padding):
        return self.encoder(x, src_key_padding_mask=padding)


def test_a_transformer_with_padding_runs_for_any_batch_size(tmp_path):
    torch.manual_seed(0)
    model, padding = Padded().eval(), torch.arange(5) >= torch.tensor([[5], [3]])
    path = export_onnx(model, (torch.randn(2, 5, 16), padding), tmp_path / "x.onnx")
    nodes = onnx.load(path).graph.node
    widened = {node.output[0] for node in nodes if node.op_type == "Expand"}
    masks = [node.input[3] for node in nodes if node.op_type == "Attention"]
    assert masks and {*masks} <= widened


class Pairs(nn.Module):
    """Both inputs go through one layer as one batch, and are taken apart again."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, a, b):
        a, b = self.body(torch.cat([a, b])).split(a.shape[0])
        return (a - b).abs().sum(1)


def test_a_network_that_the_exporters_optimizer_fails_at_is_exported_as_it_is(tmp_path):
    export_onnx(Pairs(), (torch.randn(2, 4), torch.randn(2, 4)), tmp_path / "x.onnx")


class Attention(nn.Module):
    """Attention whose heads are put together as their memory lies.

    Args:
        keys: Heads of keys and values, 2 or one for both heads of queries.
    """

    def __init__(self, keys):
        super().__init__()
        self.keys = keys
        self.q, self.kv = nn.Linear(8, 8), nn.Linear(8, 8 * keys)
        self.bias = nn.Parameter(torch.randn(1, 2, 5, 5))

    def forward(self, x):
        q = self.q(x).view(*x.shape[:2], 2, 4).transpose(1, 2)
        k, v = self.kv(x).view(*x.shape[:2], 2, self.keys, 4).permute(2, 0, 3, 1, 4)
        bias = self.bias.expand(len(x), -1, -1, -1)
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return out.transpose(1, 2).contiguous().reshape(*x.shape[:2], 8)


@pytest.mark.parametrize(("keys", "fused"), [(2, True), (1, False)])
def test_attention_with_a_bias_is_exported(keys, fused, tmp_path):
    path = export_onnx(Attention(keys).eval(), torch.randn(2, 5, 8), tmp_path / "x.onnx")
    assert ("Attention" in [node.op_type for node in onnx.load(path).graph.node]) == fused


class Heads(nn.Module):
    """Attention of units of a mask, as Hiera has it, or of heads that share keys."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.kv = nn.Linear(8, 16)

    def forward(self, x):
        k, v = self.kv(x).chunk(2, -1)
        q, k, v = (z.unflatten(-1, (4, 2)).transpose(1, 2) for z in (x, k, v))
        options = {}
        if self.kind == "units":
            q, k, v = (z.unflatten(2, (2, 3)) for z in (q, k, v))
        elif self.kind == "causal units":
            q, k, v = (z.unflatten(2, (2, 3)) for z in (q, k, v))
            options = {"is_causal": True, "scale": 0.3}
        elif self.kind == "masked units":
            q, k, v = (z.unflatten(2, (2, 3)) for z in (q, k, v))
            options = {"attn_mask": torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]]).bool()}
        else:
            k, v = k[:, ::2], v[:, ::2]
            options = {"enable_gqa": True, "attn_mask": torch.linspace(0, 3, 36).view(6, 6)}
        return nn.functional.scaled_dot_product_attention(q, k, v, **options).flatten(1)


@pytest.mark.parametrize("kind", ["units", "causal units", "masked units", "shared"])
def test_attention_that_the_operator_does_not_take_is_exported_as_products(kind, tmp_path):
    export_onnx(Heads(kind), torch.randn(2, 6, 8), tmp_path / "x.onnx")


@dataclass
class Mixture:
    means: torch.Tensor
    weights: torch.Tensor
    parts: int = 3


class MixtureDensity(nn.Module):
    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        return Mixture(torch.cdist(x, self.centres), (x @ self.centres.t()).softmax(-1))


def test_tensors_in_objects_and_beside_numbers_and_distances_are_exported(tmp_path):
    path = export_onnx(MixtureDensity(), torch.randn(2, 4), tmp_path / "x.onnx")
    assert len(onnx.load(path).graph.output) == 2


@pytest.mark.parametrize("counts", [(2, 0, 3), (0, 0, 5), (5, 0, 0)])
def test_rows_in_groups_are_multiplied_by_a_matrix_each(counts, tmp_path):
    x, weight = torch.randn(5, 3), torch.randn(3, 3, 4)
    model = translations.grouped_products.to_model_proto(
        input_types=[FLOAT[None, 3], FLOAT[3, 3, 4], INT64[3]], output_types=[FLOAT[None, 4]]
    )
    ends = torch.tensor(counts).cumsum(0)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    (found,) = session.run(
        None, dict(zip(names, (x.numpy(), weight.numpy(), ends.numpy()), strict=True))
    )
    group = torch.arange(3).repeat_interleave(torch.tensor(counts))
    expected = torch.stack([row @ weight[k] for row, k in zip(x, group, strict=True)])
    torch.testing.assert_close(torch.from_numpy(found), expected)
