import math
import threading
from copy import deepcopy

import pytest
import torch
from torch.nn import functional

from prunus.errors import DataError, TrainingError
from prunus.training import TrainSettings, evaluate, fit


def settings(**options):
    return TrainSettings(**{"length": "3ep", "lr": 0.05} | options)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_it_equals_a_loop_written_by_hand(optimizer, model, data):
    start = weights(model)
    history = fit(
        model,
        data,
        settings(optimizer=optimizer, weight_decay=0.01, clip_norm=1.0, label_smoothing=0.1),
        seed=7,
    )
    found = weights(model)

    model.load_state_dict(start)
    model.train().to(memory_format=torch.channels_last)
    by_hand = {
        "sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.01, fused=True),
        "adam": lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.01, fused=True),
        "adamw": lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.01, fused=True),
    }[optimizer](model.parameters())
    torch.manual_seed(7)
    losses = []
    for epoch in range(3):
        for inputs, labels in data.train_batches(epoch):
            by_hand.zero_grad()
            loss = functional.cross_entropy(model(inputs), labels, label_smoothing=0.1)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            by_hand.step()
            losses.append(loss.item())
    assert same(found, weights(model))
    assert [record["train_loss"] for record in history.records] == [
        sum(losses[i : i + 5]) / 5 for i in (0, 5, 10)
    ]
    assert history.steps == 15
    assert history.records[-1]["val_accuracy"] == evaluate(model, data, "val").accuracy


def test_it_learns(model, data):
    history = fit(model, data, settings(length="15ep", lr=0.1, schedule="cosine", warmup="1ep"))
    assert evaluate(model, data).accuracy > 0.9
    assert history.records[-1]["val_accuracy"] > 0.9
    assert history.records[-1]["epoch"] == 15


def test_the_model_and_the_process_are_left_as_they_were_found(model, data):
    model.eval()
    model[1].train()
    model.to(memory_format=torch.contiguous_format)
    keys, parameters = list(model.state_dict()), list(map(id, model.parameters()))
    state, deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    threads = threading.active_count()
    fit(model, data, settings(length="1ep"))
    evaluate(model, data)
    assert [module.training for module in model] == [False, True] + [False] * 7
    assert list(model.state_dict()) == keys
    assert list(map(id, model.parameters())) == parameters
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert threading.active_count() == threads


def test_evaluation_by_hand(model, data):
    metrics = evaluate(model, data, "test")
    model.eval()
    inputs, labels = (torch.cat(part) for part in zip(*data.eval_batches("test"), strict=True))
    with torch.no_grad():
        outputs = model(inputs)
    assert metrics.count == 10
    assert metrics.accuracy == float((outputs.argmax(1) == labels).double().mean())
    assert metrics.loss == pytest.approx(float(functional.cross_entropy(outputs, labels)), 1e-5)


def test_bf16_trains_float32_weights(model, data):
    precise = weights(model)
    fit(model, data, settings(length="2it", precision="bf16"))
    bf16 = weights(model)
    model.load_state_dict(precise)
    fit(model, data, settings(length="2it"))
    assert all(value.dtype != torch.bfloat16 for value in bf16.values())
    assert not torch.equal(bf16["0.weight"], model[0].weight)
    torch.testing.assert_close(bf16["0.weight"], model[0].weight.data, atol=0.01, rtol=0.1)


def test_the_hook_is_called_after_each_step_and_its_penalty_counts(model, data, mask_hook):
    start = weights(model)
    hook = mask_hook(model)
    fit(model, data, settings(), hook=hook)
    masked = weights(model)
    assert hook.steps == 15
    assert (masked["0.weight"] == 0).equal(~hook.kept)

    model.load_state_dict(start)
    hook = mask_hook(model)
    hook.penalty = lambda: 0
    fit(model, data, settings(), hook=hook)
    assert not torch.equal(model[0].weight, masked["0.weight"])


def test_the_average_follows_the_weights_and_is_zero_where_they_are(model, data, mask_hook):
    hook = mask_hook(model)
    history = fit(model, data, settings(ema=0.9), hook=hook)
    assert (model[0].weight == 0).equal(~hook.kept)
    assert not hook.kept.all()
    assert history.final["val_accuracy"] == evaluate(model, data, "val").accuracy
    assert history.final["val_loss"] == pytest.approx(evaluate(model, data, "val").loss, rel=1e-4)


def test_the_average_by_hand(model, data):
    seen = []

    class Recorder:
        def penalty(self):
            return 0

        def step(self, optimizer):
            seen.append(model[0].bias.detach().clone())

    average = model[0].bias.detach().clone()
    fit(model, data, settings(length="4it", ema=0.2, eval_every="2it"), hook=Recorder())
    for step, weight in enumerate(seen):
        decay = min(0.2, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    torch.testing.assert_close(model[0].bias.data, average)


class Wrecker:
    """Spoils the weights from some step on."""

    def __init__(self, model, first):
        self.model, self.first, self.steps = model, first, 0

    def penalty(self):
        return 0

    def step(self, optimizer):
        self.steps += 1
        if self.steps >= self.first:
            with torch.no_grad():
                self.model[-1].weight.neg_()
                self.model[-1].bias.add_(torch.tensor([50.0, 0, 0]))


def test_the_best_weights_on_the_validation_split_are_kept(model, data):
    options = {"length": "30ep", "lr": 0.1, "keep": "best", "early_stop": 3}
    history = fit(model, data, settings(**options), hook=Wrecker(model, first=61))
    best = max(record["val_accuracy"] for record in history.records)
    assert history.final == history.best
    assert history.best["val_accuracy"] == best > 0.6
    assert evaluate(model, data, "val").accuracy == best
    assert len(history.records) - 1 - history.records.index(history.best) == 3
    assert history.steps < 150


def test_best_needs_a_validation_split(model, data):
    from_train_only = type(data)(
        "no val", train=next(data.train_batches(0)), test=next(data.eval_batches("test")),
        classes=3, mean=(0,), std=(1,),
    )  # fmt: skip
    with pytest.raises(DataError, match="val_size"):
        fit(model, from_train_only, settings(keep="best"))
    history = fit(model, from_train_only, settings(length="1it"))
    assert history.best is None
    assert history.final["val_accuracy"] is None


def test_the_test_split_is_never_read(model, data, monkeypatch):
    asked = []
    original = type(data).eval_batches
    monkeypatch.setattr(
        type(data), "eval_batches", lambda self, split: asked.append(split) or original(self, split)
    )
    fit(model, data, settings(keep="best", early_stop=2))
    assert set(asked) == {"val"}


def test_a_loss_that_is_not_finite_stops_before_it_does_harm(model, data):
    calls = []

    def objective(model, inputs, labels):
        calls.append(1)
        loss = functional.cross_entropy(model(inputs), labels)
        return loss * math.nan if len(calls) == 4 else loss

    with pytest.raises(TrainingError, match=r"nan at step 4, with learning rate 0\.05"):
        fit(model, data, settings(), objective=objective)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert len(calls) == 4


def test_what_else_an_objective_asks_runs_in_the_precision_of_training(model, data):
    other = torch.nn.Linear(3, 3)
    seen = []

    def objective(model, inputs, labels):
        outputs = model(inputs)
        seen.append((outputs.dtype, other(outputs).dtype))
        return functional.cross_entropy(outputs, labels)

    for precision in ("fp32", "bf16"):
        fit(model, data, settings(length="1it", precision=precision), objective=objective)
    assert seen == [(torch.float32, torch.float32), (torch.float32, torch.bfloat16)]


def test_a_start_enters_the_schedule_and_the_data_later(model, data):
    batches = []

    def objective(model, inputs, labels):
        batches.append(labels.clone())
        return functional.cross_entropy(model(inputs), labels)

    history = fit(model, data, settings(start="7it", length="2ep"), objective=objective)
    assert history.steps == 10
    assert len(batches) == 3
    expected = [labels for _, labels in data.train_batches(1, start=2)]
    assert all(map(torch.equal, batches, expected))


def test_who_watches_sees_each_evaluation_and_may_end_it(model, data, tmp_path):
    seen = []

    class Enough(Exception):
        pass

    def watch(records):
        seen.append([record["step"] for record in records])
        if len(seen) == 1:
            raise Enough

    with pytest.raises(Enough):
        fit(deepcopy(model), data, settings(), directory=tmp_path, watch=watch)
    # Started again, it goes on from its last checkpoint.
    history = fit(model, data, settings(), directory=tmp_path, watch=watch)
    assert seen == [[5], [5], [5, 10], [5, 10, 15]]
    assert [record["step"] for record in history.records] == [5, 10, 15]


def test_it_is_quiet_unless_asked(model, data, capfd):
    fit(model, data, settings(length="1ep"))
    assert capfd.readouterr() == ("", "")
    fit(model, data, settings(length="1ep"), name="dense", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "dense" in err
