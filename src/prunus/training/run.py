"""A training run between its first and its last step."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunus.errors import DataError
from prunus.schedules import iterations
from prunus.training.batches import labelled
from prunus.training.checkpoint import Checkpoint, RunFiles, Value
from prunus.training.data import Data
from prunus.training.ema import Ema
from prunus.training.evaluation import evaluate
from prunus.training.hook import Hook, Objective, Rewinder, Watch
from prunus.training.metrics import LossMeter, Record, RecordLog, best_record
from prunus.training.optimizers import (
    LearningRate,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
)
from prunus.training.participants import (
    gather,
    load_random_states,
    mean_over_ranks,
    random_states,
    share,
    share_weight,
    synchronise_buffers,
)
from prunus.training.placement import answer, moved
from prunus.training.settings import TrainSettings
from prunus.types import Example

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Run:
    """Everything that changes while a model trains, and the ways in which it changes.

    Args:
        fabric: Device, precision and ranks; the model is already on its device.
        model: What is trained.
        data: What it is trained on.
        settings: How.
        hook: A pruner.
        objective: Gives the loss; None for the cross-entropy.
        watch: Told of the records.
        files: Where its files lie; None writes nothing.
        made_by: What the run was started with; stored in its checkpoints.

    Raises:
        DataError: The data lack a validation split that the settings need.
        ValueError: The settings contradict the data or the hook.
    """

    def __init__(
        self,
        fabric: "Fabric",
        model: nn.Module,
        data: Data,
        settings: TrainSettings,
        *,
        hook: Hook | None,
        objective: Objective | None,
        watch: Watch | None,
        files: RunFiles | None,
        made_by: dict[str, Any],
    ) -> None:
        self.rate = LearningRate(settings, data.steps_per_epoch)
        # Steps made in all, and where in schedule and data they are, which a hook may send back.
        self.step = self.position = self.rate.start
        self.total = self.rate.total
        first = fabric.is_global_zero
        self.log = RecordLog(files.metrics if files and first else None, watch if first else None)
        self._fabric, self._model, self._data, self._settings = fabric, model, data, settings
        self._hook = hook
        self._rewinder = hook if isinstance(hook, Rewinder) else None
        if self._rewinder is not None:
            self.total = self._rewinder.total(self.rate.total)
        if self.total != self.rate.total and (settings.keep == "best" or settings.early_stop):
            raise ValueError(
                "keep 'best' and early_stop look at one training, and the hook rewinds to make "
                "several; leave them out."
            )
        self._objective = objective or self._cross_entropy
        self._files, self._made_by = files, made_by
        # Fabric averages over ranks and converts types; otherwise it only takes time, of a step of
        # LeNet-300-100 a fiftieth.
        alone = fabric.world_size == 1 and settings.precision == "fp32"
        self._parallel: nn.Module = model if alone else fabric.setup_module(model)
        self._optimizer = build_optimizer(model, settings)
        self._ema = self._averaged()
        self._best: dict[str, Tensor] = {}
        self._in_use: tuple[Example, ...] = ()
        self._losses = LossMeter(fabric.device)
        self._eval_every = iterations(settings.eval_every, data.steps_per_epoch)
        self._checkpoint_every = iterations(settings.checkpoint_every, data.steps_per_epoch)
        self._layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self._has_val = next(data.eval_batches("val"), None) is not None
        if not self._has_val and (settings.keep == "best" or settings.early_stop is not None):
            raise DataError(
                f"keep 'best' and early_stop need a validation split, and {data.name} has none; "
                "set val_size."
            )

    def finished(self) -> bool:
        """Whether the last step was taken, or the metric has stopped getting better."""
        return self.position >= self.rate.total or self._stalled()

    def train(self, after_step: Callable[[], None]) -> None:
        """Train to the end, calling `after_step` between steps."""
        while not self.finished():
            epoch, start = divmod(self.position, self._data.steps_per_epoch)
            before = self.step
            for inputs, labels in self._data.train_batches(epoch, start):
                rewinds = self._update(inputs, labels)
                last = rewinds or self.position == self.rate.total
                if last or self.position % self._eval_every == 0:
                    self._evaluate()
                    last = last or self._stalled()
                if rewinds:
                    self._begin_again()
                if last or self.position % self._checkpoint_every == 0:
                    self.save()
                after_step()
                if last:
                    break
            if self.step == before:
                raise DataError(f"{self._data.name} gave no batches for epoch {epoch}.")

    def save(self) -> None:
        """Write a checkpoint, if the run has one; raises as `Checkpoint.write`."""
        if self._files is None:
            return
        self._losses.read()
        own = random_states(self._fabric)
        own["loss_sum"] = torch.tensor(self._losses.sum, dtype=torch.float64)
        by_rank = {name: gather(self._fabric, tensor) for name, tensor in own.items()}
        if not self._fabric.is_global_zero:
            return
        counters: dict[str, Value] = {
            "step": self.step,
            "position": self.position,
            "loss_count": self._losses.count,
            "averaged": self._ema.updates if self._ema is not None else 0,
            "metrics_bytes": self.log.secure(),
        }
        parts: dict[str, dict[str, Any]] = {
            "model": self._model.state_dict(),
            "optimizer": optimizer_tensors(self._model, self._optimizer),
            "ema": self._ema.average if self._ema is not None else {},
            "best": self._best,
            "hook": self._hook.state() if self._hook is not None else {},
            "by_rank": by_rank,
            "counters": counters,
        }
        Checkpoint(self._made_by, parts).write(self._files.checkpoint)

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one; else discard records of a run without one."""
        if self._files is None:
            return
        found = Checkpoint.read(self._files.checkpoint, self._made_by)
        if found is None:
            self.log.restore(0)
            return
        parts: dict[str, dict[str, Any]] = found.parts
        counters = parts["counters"]
        self.log.restore(counters["metrics_bytes"])
        self.log.records = self._fabric.broadcast(self.log.records)
        self._model.load_state_dict(parts["model"])
        load_optimizer_tensors(self._model, self._optimizer, parts["optimizer"])
        if self._ema is not None:
            self._ema.load(parts["ema"], counters["averaged"])
        self._best = parts["best"]
        if self._hook is not None:
            self._hook.load_state(parts["hook"])
        # Cloned because torch reads a random state from the beginning of its storage.
        rank = self._fabric.global_rank
        own = {name: rows[rank].clone() for name, rows in parts["by_rank"].items()}
        self._losses.sum, self._losses.count = float(own.pop("loss_sum")), counters["loss_count"]
        load_random_states(self._fabric, own)
        self.step, self.position = counters["step"], counters["position"]
        self._fabric.barrier()  # a finished run's checkpoint may be deleted by the first rank

    def finish(self) -> Record:
        """Give the model the weights that the settings ask for; return their record."""
        self._optimizer.zero_grad()
        self._in_use = ()
        best = best_record(self.log.records, self._data.metric)
        if self._settings.keep == "best" and best is not None:
            self._model.load_state_dict(self._best)
            return best
        if self._ema is not None:
            self._ema.give()
        synchronise_buffers(self._fabric, self._model)
        return self.log.records[-1]

    def _update(self, inputs: Example, labels: Tensor) -> bool:
        """Make one step; say whether the hook is now to send training back."""
        rate = self.rate(self.position)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        whole, labels = labels, share(self._fabric, labels)
        if not len(labels):
            raise DataError(
                f"a batch of {len(whole)} cannot be shared by {self._fabric.world_size} ranks; use "
                "fewer ranks or larger batches."
            )
        weight = 1.0
        if (ranks := self._fabric.world_size) > 1:
            counted = getattr(self._objective, "counted", labelled)
            weight = share_weight(counted(labels), counted(whole), ranks)
        inputs = moved(share(self._fabric, inputs), self._fabric.device, self._layout)
        labels = labels.to(self._fabric.device, non_blocking=True)
        self._optimizer.zero_grad()
        with self._fabric.autocast():  # of other networks that the objective may ask, too
            loss = self._objective(self._parallel, inputs, labels)
        if weight != 1:
            loss = (loss if weight else loss.nan_to_num(0.0)) * weight  # or a mean of nothing
        penalty = self._hook.penalty() if self._hook is not None else 0
        objective = loss + penalty if isinstance(penalty, Tensor) or penalty != 0 else loss
        self._losses.add(self.step + 1, rate, loss, objective)
        # Kept until the next step so that the allocator does not return the memory around them to
        # the system in between; doing so costs about 3 % of a step in page faults.
        self._in_use = (inputs, loss)
        self._fabric.backward(objective)
        if self._settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.clip_norm)
        self._optimizer.step()
        rewinds = False
        if self._rewinder is not None:
            self._rewinder.hold(self._optimizer)
            rewinds = self._rewinder.rewinds
            if not rewinds:
                self._rewinder.update(self._optimizer)
        elif self._hook is not None:
            self._hook.step(self._optimizer)
        if getattr(self._hook, "mended", False):
            self._ema = self._averaged()
        if self._ema is not None:
            self._ema.update()
        self.step += 1
        self.position += 1
        return rewinds

    def _begin_again(self) -> None:
        """Let the hook send training back, now that the trained network was evaluated."""
        assert self._rewinder is not None
        self._rewinder.update(self._optimizer)
        assert self._rewinder.rewound is not None
        self.position = self._rewinder.rewound
        self._ema = self._averaged()

    def _averaged(self) -> Ema | None:
        """Return an average that begins with the weights as they are."""
        return None if self._settings.ema is None else Ema(self._model, self._settings.ema)

    def _evaluate(self) -> None:
        record: Record = {
            "step": self.step,
            "epoch": self.step / self._data.steps_per_epoch,
            "train_loss": mean_over_ranks(self._fabric, self._losses.mean()),
            "val_loss": None,
            "val_accuracy": None,
            f"val_{self._data.metric}": None,
            "lr": self.rate(self.position - 1),
        }
        with self._ema.given() if self._ema is not None else nullcontext():
            synchronise_buffers(self._fabric, self._model)
            if self._fabric.is_global_zero and self._has_val:
                metrics = evaluate(self._model, self._data, "val")
                found = metrics.named(self._data.metric)
                record |= {f"val_{name}": value for name, value in found.items()}
            record = self._fabric.broadcast(record)
            self.log.append(record)
            best = best_record(self.log.records, self._data.metric)
            if self._settings.keep == "best" and best is record:
                state = self._model.state_dict()
                self._best = {name: value.detach().clone() for name, value in state.items()}

    def _stalled(self) -> bool:
        patience, records = self._settings.early_stop, self.log.records
        best = best_record(records, self._data.metric)
        if patience is None or best is None:
            return False
        return len(records) - 1 - records.index(best) >= patience

    def _cross_entropy(self, model: nn.Module, inputs: Example, labels: Tensor) -> Tensor:
        smoothing = self._settings.label_smoothing
        return functional.cross_entropy(answer(model, inputs), labels, label_smoothing=smoothing)
