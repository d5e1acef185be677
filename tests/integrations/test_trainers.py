"""The callbacks inside the real trainers."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from prunus import Target
from prunus.errors import TrainingError
from prunus.integrations.attached import Attached
from prunus.methods import gradual, group_lasso, lottery, slimming, soft_filter, sss

X = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(128, 3)),
    )


def lightning_fit(callback, folder, epochs=4, checkpoint=None):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = network()

        def training_step(self, batch, number):
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)

    trainer = lightning.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        accelerator="cpu",
        accumulate_grad_batches=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    )
    module = Module()
    trainer.fit(module, DataLoader(TensorDataset(X, Y), 4), ckpt_path=checkpoint)
    return trainer, module


def lightning_callback(*args, **options):
    pytest.importorskip("lightning.pytorch")
    from prunus.integrations.lightning import PruningCallback

    return PruningCallback(X[:2], *args, network="model", **options)


@pytest.mark.filterwarnings("ignore")
def test_lightning_prunes_weights_while_it_trains(tmp_path):
    callback = lightning_callback(
        gradual(begin="1ep", end="3ep", every="2it"), target=Target(sparsity=0.8)
    )
    with pytest.raises(TrainingError, match="training has not begun"):
        _ = callback.pruner
    _, module = lightning_fit(callback, tmp_path)
    assert callback.pruner.steps == 16  # 8 batches, two to a step, four epochs
    assert callback.result.report.reached == pytest.approx(0.8, abs=0.01)
    weight = callback.result.model[0].weight
    assert torch.equal(weight, module.model[0].weight)
    assert not weight[~callback.result.mask["0.weight"]].any()


@pytest.mark.filterwarnings("ignore")
def test_lightning_adds_the_penalty_to_the_gradient(tmp_path):
    scales = {}
    for strength in (1e-9, 0.5):
        callback = lightning_callback(
            slimming(begin="3ep", strength=strength), target=Target(macs=0.6)
        )
        _, module = lightning_fit(callback, tmp_path)
        scales[strength] = float(module.model[1].weight.detach().abs().sum())
        assert callback.result.report.verification.passed
    assert scales[0.5] < 0.9 * scales[1e-9]


@pytest.mark.filterwarnings("ignore")
def test_lightning_goes_on_from_a_checkpoint(tmp_path):
    def callback():
        return lightning_callback(
            gradual(begin="1ep", end="2ep", every="1it"), target=Target(sparsity=0.8)
        )

    whole = callback()
    lightning_fit(whole, tmp_path)
    part = callback()
    trainer, _ = lightning_fit(part, tmp_path, epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = callback()
    lightning_fit(resumed, tmp_path, checkpoint=tmp_path / "half.ckpt")
    assert resumed.pruner.steps == whole.pruner.steps
    for name, kept in whole.result.mask.items():
        assert torch.equal(kept, resumed.result.mask[name])


def hugging_face_train(folder, callback, steps, resume=None):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=3,
    )
    model = transformers.BertForSequenceClassification(config)
    ids = torch.randint(1, 40, (32, 6), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": y} for row, y in zip(ids, Y, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        save_steps=6,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[callback])
    trainer.train(resume_from_checkpoint=resume)
    return model


def hugging_face_callback(end="10it"):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from prunus.integrations.transformers import PruningCallback

    example = {"input_ids": torch.ones(2, 6, dtype=torch.long)}
    method = gradual(begin="2it", end=end, every="2it")
    return PruningCallback(example, method, target=Target(sparsity=0.5))


@pytest.mark.parametrize(
    ("loader", "accumulated", "end"), [(range(100), 1, 100), (range(7), 2, 4), (iter([]), 1, None)]
)
def test_hugging_face_counts_the_batches_of_an_epoch(loader, accumulated, end):
    pytest.importorskip("transformers")
    from prunus.integrations.transformers import PruningCallback

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    callback = PruningCallback(torch.randn(2, 4), gradual(begin="0it", end="1ep", every="1it"))
    arguments = SimpleNamespace(
        num_train_epochs=0.5,
        gradient_accumulation_steps=accumulated,
        output_dir=".",
        fp16=False,
    )
    state = SimpleNamespace(global_step=0, max_steps=100)
    begin = partial(callback.on_train_begin, arguments, state, None, model=model)
    if end is None:
        with pytest.raises(ValueError, match="pass steps_per_epoch"):
            begin(train_dataloader=loader)
        return
    begin(train_dataloader=loader)
    assert callback.pruner.timeline.end == end


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_prunes_and_goes_on_from_a_checkpoint(tmp_path):
    whole = hugging_face_callback()
    hugging_face_train(tmp_path / "whole", whole, 12)
    assert whole.pruner.steps == 12
    assert whole.result.report.reached == pytest.approx(0.5, abs=0.01)
    assert (tmp_path / "whole" / "checkpoint-6" / "pruner.safetensors").exists()

    resumed = hugging_face_callback()
    hugging_face_train(
        tmp_path / "whole", resumed, 12, resume=str(tmp_path / "whole" / "checkpoint-6")
    )
    assert resumed.pruner.steps == 12
    for name, kept in whole.result.mask.items():
        assert torch.equal(kept, resumed.result.mask[name])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("length", "end"), [("17it", 17), ("5ep", 20)])
def test_lightning_refuses_a_schedule_that_training_does_not_reach(tmp_path, length, end):
    callback = lightning_callback(slimming(begin=length), target=Target(macs=0.6))
    with pytest.raises(ValueError, match=f"after {end} steps, but training after 16; .* '16it'"):
        lightning_fit(callback, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_refuses_a_schedule_that_training_does_not_reach(tmp_path):
    callback = hugging_face_callback(end="13it")
    with pytest.raises(ValueError, match=r"13 steps, but training after 12; train .* '12it'"):
        hugging_face_train(tmp_path, callback, 12)


@pytest.mark.parametrize(
    ("method", "scaled", "said"),
    [
        ("rigl", False, "1000 steps, but training after 500"),
        (soft_filter(end="1000it", every="100it"), False, "1000 steps, but training after 500"),
        (lottery(training="10it", rounds=2), False, "sends training back"),
        (sss(begin="9it"), True, "adds to the loss, which the trainer scales for float16"),
        (slimming(begin="9it"), True, "train in bfloat16 or float32"),
    ],
)
def test_what_a_trainer_cannot_do_is_refused_before_anything_is_pruned(method, scaled, said):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attached = Attached(torch.randn(2, 3, 8, 8), method, target=Target(sparsity=0.5))
    with pytest.raises(ValueError, match=said):
        attached.begin(model, None, None, total=500, scaled=scaled)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_scaled_loss_is_nothing_to_what_acts_after_the_step():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 3))
    attached = Attached(torch.randn(2, 3, 8, 8), group_lasso(begin="9it"))
    attached.begin(model, None, None, total=500, scaled=True)
    assert attached.pruner.steps == 0


def test_trainers_say_that_they_scale_the_loss():
    pytest.importorskip("transformers")
    from prunus.integrations.transformers import PruningCallback

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    callback = PruningCallback(torch.randn(2, 4), sss(begin="9it"))
    arguments = SimpleNamespace(gradient_accumulation_steps=1, output_dir=".", fp16=True)
    state = SimpleNamespace(global_step=0, max_steps=100)
    with pytest.raises(ValueError, match="scales for float16"):
        callback.on_train_begin(arguments, state, None, model=model)

    pytest.importorskip("lightning")
    from prunus.integrations.lightning import PruningCallback as Lightning

    trainer = SimpleNamespace(
        precision_plugin=SimpleNamespace(scaler=torch.amp.GradScaler("cpu")),
        num_training_batches=4,
        accumulate_grad_batches=1,
        estimated_stepping_batches=100,
        global_step=0,
    )
    with pytest.raises(ValueError, match="scales for float16"):
        Lightning(torch.randn(2, 4), sss(begin="9it")).on_train_start(trainer, model)
