"""Pruned transformers in Hugging Face's own folders, and back in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch.utils._pytree import tree_leaves

import prunus
from prunus import Target, prune
from prunus.errors import CheckpointError, EquivalenceError
from prunus.integrations.transformers import load_pretrained, save_pretrained
from prunus.methods import l1_filter

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {"vocab_size": 99, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
SHORT = {"bos_token_id": 1, "eos_token_id": 2, "use_cache": False}
T5 = {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
START = {"decoder_start_token_id": 0, "use_cache": False}
VIT = {key: SIZES[key] for key in [*SIZES][1:5]} | {"image_size": 32, "patch_size": 8}


def ids(length=9):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, 99, (2, length), generator=generator)


def words():
    return {"input_ids": ids()}


def image():
    return {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}


CASES = {
    "bert": (hf.BertForSequenceClassification, hf.BertConfig(**SIZES), words),
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config(**GPT2, **SHORT), words),
    "llama": (
        hf.LlamaForCausalLM,
        hf.LlamaConfig(**SIZES, num_key_value_heads=2, use_cache=False),
        words,
    ),
    "vit": (hf.ViTForImageClassification, hf.ViTConfig(**VIT), image),
    "t5": (
        hf.T5ForConditionalGeneration,
        hf.T5Config(**T5, **START),
        lambda: words() | {"decoder_input_ids": ids(6)},
    ),
}
"""Of each family, what its config can say: no heads of BERT and GPT-2, all of the others."""

PLAIN = ("llama", "vit", "t5")


def small_of(name, **options):
    kind, config, example = CASES[name]
    torch.manual_seed(0)
    dense = kind(config).eval()
    method = l1_filter(coupled=True, round_to=1, **options)
    return dense, prune(dense, example(), method=method, target=Target(sparsity=0.4), check=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    expected = {}
    for name in CASES:
        dense, result = small_of(name)
        example = CASES[name][2]()
        save_pretrained(result, root / name, example, dense=dense)
        assert {file.name for file in (root / name).iterdir()} >= {"config.json"}
        outputs = tree_leaves(result.model.eval()(**example))
        logits = next(x.detach() for x in outputs if isinstance(x, torch.Tensor))
        expected[name] = [example, logits, sum(p.numel() for p in result.model.parameters())]
    torch.save(expected, root / "expected.pt")
    return root


SCRIPT = """
import sys, torch, prunus, transformers
from prunus.integrations.transformers import load_pretrained, save_pretrained
from prunus.methods import l1_filter
root = sys.argv[1]
for name, (example, logits, size) in torch.load(root + "/expected.pt", weights_only=True).items():
    models = [load_pretrained(f"{root}/{name}")]
    kind = type(models[0])
    assert kind.__module__.startswith("transformers.models."), kind
    if name in sys.argv[2:]:
        models.append(kind.from_pretrained(f"{root}/{name}", local_files_only=True))
    for model in models:
        assert sum(p.numel() for p in model.parameters()) == size, name
        assert torch.allclose(model.eval()(**example).logits, logits, atol=1e-6), name
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.train().parameters(), 0.1)
    model(**example).logits.square().mean().backward()
    optimizer.step()
    assert sum(bool((p != b).any()) for p, b in zip(model.parameters(), before)) > 10, name
    if name == "gpt2":
        assert model.eval().generate(example["input_ids"], max_new_tokens=3).shape[1] == 12
        method = l1_filter(coupled=True, round_to=1)
        target = prunus.Target(sparsity=0.2)
        again = prunus.prune(model, example, method=method, target=target, check=False)
        save_pretrained(again, root + "/again", example, dense=model)
        last = load_pretrained(root + "/again").eval()(**example).logits
        assert torch.allclose(last, again.model(**example).logits, atol=1e-5)
"""


@pytest.mark.slow
def test_they_come_back_in_a_fresh_process_train_and_are_pruned_again(folders):
    environment = {
        "PYTHONPATH": str(Path(prunus.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-c", SCRIPT, str(folders), *PLAIN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_config_says_the_new_widths(folders):
    said = {name: json.loads((folders / name / "config.json").read_text()) for name in CASES}
    assert all(("prunus" in said[name]) != (name in PLAIN) for name in CASES)
    llama = said["llama"]
    assert (llama["num_attention_heads"], llama["num_key_value_heads"]) == (2, 1)
    assert llama["head_dim"] == 8 and llama["intermediate_size"] == 38
    assert said["vit"]["intermediate_size"] == 38 and said["t5"]["num_heads"] == 2
    widths = said["bert"]["prunus"]["widths"]
    assert widths["bert.encoder.layer.0.attention.self.query.weight"] == [16, 32]
    assert said["bert"]["num_attention_heads"] == 4
    with pytest.raises(RuntimeError):  # plain transformers refuses what its config does not say
        hf.BertForSequenceClassification.from_pretrained(folders / "bert")


def test_a_rewritten_graph_needs_its_class(tmp_path):
    _, result = small_of("gpt2")
    with pytest.raises(TypeError, match="pass dense="):
        save_pretrained(result, tmp_path / "m", words())
    other = hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2 | {"n_layer": 1}, **SHORT))
    with pytest.raises(EquivalenceError, match="cannot have these widths"):
        save_pretrained(result, tmp_path / "m", words(), dense=other)
    assert not (tmp_path / "m" / "config.json").exists()


def test_convolutions_whose_groups_are_narrower_come_back(tmp_path):
    config = hf.RegNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], groups_width=4, num_labels=3
    )
    dense, example = hf.RegNetForImageClassification(config).eval(), image()
    method, target = l1_filter(coupled=True, round_to=1), Target(sparsity=0.3)
    result = prune(dense, example, method=method, target=target)
    save_pretrained(result, tmp_path / "m", example, dense=dense)
    read = load_pretrained(tmp_path / "m")
    groups = [m.groups for m in read.modules() if isinstance(m, torch.nn.Conv2d)]
    assert groups == [m.groups for m in dense.modules() if isinstance(m, torch.nn.Conv2d)]
    assert max(groups) == 8
    assert torch.equal(read(**example).logits, result.model(**example).logits)


def copied(folder, to, **changed):
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    config = json.loads((to / "config.json").read_text()) | changed
    (to / "config.json").write_text(json.dumps(config))
    return to


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architectures": ["os.system"]}, "has no model 'os.system'"),
        ({"architectures": ["AutoModel"]}, "has no model 'AutoModel'"),
        ({"architectures": None}, "has no model None"),
        ({"model_type": "none"}, "cannot be read"),
        ({"num_hidden_layers": 10**9}, "far more than"),
        ({"num_hidden_layers": 3}, "damaged: missing"),
        ({"vocab_size": 98}, "cannot be read|damaged"),
        ({"prunus": 3}, "must be an object"),
        ({"prunus": {}}, "damaged|cannot be read"),
        ({"prunus": {"widths": {"../../x": [1]}}}, "must have a tensor '../../x'"),
        ({"prunus": {"widths": {"classifier.weight": [2, 64]}}}, "at least the size"),
        ({"prunus": {"widths": {"classifier.weight": [-1, 32]}}}, "at least the size"),
        ({"prunus": {"widths": {}, "sizes": {"classifier": {"forward": 3}}}}, "no size 'forward'"),
        ({"prunus": {"widths": {}, "sizes": {"none": {"groups": 3}}}}, "'none' holds no size"),
        ({"attn_implementation": "someone/kernels"}, "asks for"),
        ({"text_config": {"_attn_implementation": {"": "someone/kernels"}}}, "asks for"),
        ({"quantization_config": {"quant_method": "gptq"}}, "a quantiser"),
        ({"prunus": {"widths": {"classifier.weight": ["2", 32]}}}, "damaged|cannot be read"),
    ],
)
def test_a_config_that_is_forged_is_refused(folders, tmp_path, changed, said):
    with pytest.raises(CheckpointError, match=said):
        load_pretrained(copied(folders / "bert", tmp_path / "m", **changed))


def test_damaged_weights_and_pickles_are_refused(folders, tmp_path):
    folder = copied(folders / "bert", tmp_path / "m")
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-100])
    with pytest.raises(CheckpointError, match=r"m is damaged|cannot be read"):
        load_pretrained(folder)
    file.unlink()
    torch.save({"x": torch.ones(1)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_pretrained(folder)
    with pytest.raises(FileNotFoundError):
        load_pretrained(tmp_path / "none")
