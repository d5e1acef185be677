"""Pruning inside a Hugging Face `Trainer`."""

from collections.abc import Sized
from math import ceil
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from prunus.errors import CheckpointError
from prunus.files import read_tensors, write_tensors
from prunus.integrations.attached import Attached

_FILE = "pruner.safetensors"


class PruningCallback(TrainerCallback, Attached):
    """Prunes a model while a Hugging Face `Trainer` trains it.

    The method's penalty is added to the gradient right before each optimizer step. The pruner's
    state lies beside the weights in each of the trainer's checkpoints, from which training goes on.
    After training, `result` is the smaller network. For arguments see `Attached`; the example is a
    dict of the model's inputs.

    Example::

        pruning = PruningCallback({"input_ids": ids}, "gradual", target=Target(sparsity=0.5))
        Trainer(model, arguments, train_dataset=data, callbacks=[pruning]).train()
        small = pruning.result.model
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        Attached.__init__(self, *args, **options)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Start, or go on from the checkpoint of the step reached.

        Raises:
            CheckpointError: The trainer goes on from a checkpoint without a pruner's state.
            ValueError: The method's schedule ends after the training, or it adds to a scaled loss.
        """
        found: dict[str, Any] = {}
        if state.global_step:
            path = _folder(args, state) / _FILE
            if not path.exists():
                raise CheckpointError(
                    f"training goes on from step {state.global_step}, but there is no {path}; "
                    "train from the beginning, or from a checkpoint that this callback has seen."
                )
            found = dict(read_tensors(path)[0])
        batches = kwargs.get("train_dataloader")
        steps = None  # of a stream there are no epochs
        if isinstance(batches, Sized):
            steps = max(1, ceil(len(batches) / args.gradient_accumulation_steps))
        self.begin(kwargs["model"], steps, found, total=state.max_steps, scaled=args.fp16)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the gradient of the method's penalty."""
        self.before_step()

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Act after an optimizer step."""
        self.after_step(kwargs["optimizer"])

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the pruner's state into the checkpoint."""
        if state.is_world_process_zero:
            values = {key: torch.as_tensor(value) for key, value in self.pruner.state().items()}
            write_tensors(_folder(args, state) / _FILE, values)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take out what the mask drops."""
        self.end()


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
