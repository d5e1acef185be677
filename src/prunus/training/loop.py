"""The one training loop."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from prunus.modes import modes_kept
from prunus.seeds import seeded
from prunus.training.checkpoint import RunFiles, described, provenance
from prunus.training.data import Data
from prunus.training.hook import Hook, Objective, Watch
from prunus.training.interrupt import Interrupt
from prunus.training.metrics import Record, best_record
from prunus.training.participants import launch, rank_seed
from prunus.training.placement import placed
from prunus.training.progress import progress_bar
from prunus.training.run import Run
from prunus.training.settings import TrainSettings


@dataclass(frozen=True)
class History:
    """What happened during a run.

    Args:
        records: One per evaluation, with the keys step, epoch (fractional), train_loss (mean since
            the last evaluation, without the hook's penalty), val_loss, val_accuracy (in [0, 1])
            and val_mean_iou or val_perplexity where that is the data's metric (all None without a
            validation split), and lr.
        steps: The step reached; an early stop may come before the length asked for, and a hook that
            rewinds makes it a multiple.
        best: The record with the best validation metric, None without a validation split.
        final: The record of the weights that the model now holds.
    """

    records: list[Record]
    steps: int
    best: Record | None
    final: Record


def fit(
    model: nn.Module,
    data: Data,
    settings: TrainSettings,
    *,
    seed: int = 0,
    hook: Hook | None = None,
    directory: Path | str | None = None,
    name: str = "train",
    progress: bool = False,
    objective: Objective | None = None,
    watch: Watch | None = None,
) -> History:
    """Train a model in place; again and again if the hook rewinds.

    It trains on the GPU if there is one; under torchrun with all ranks. Afterwards the model is on
    the device and in the modes in which it was found, and the global random state is what it was:
    inside, it starts from `seed`.

    With a directory, the run survives being killed: started again with the same arguments, it goes
    on from the last checkpoint, and on the CPU (with the same number of threads) ends with the same
    bits in weights, hook and metrics. A finished run is not repeated. The first ctrl-C writes a
    checkpoint after the present step before it interrupts; a second one interrupts at once.

    Args:
        model: What maps inputs to one logit per class, classes in dimension 1: (batch, classes) for
            images, (batch, classes, height, width) for pixels, (batch, words, time) for text. It
            stays a plain module with the same state-dict keys.
        data: Training batches and the validation split; the test split is not touched.
        settings: Length, optimizer, schedule and so on; where the hook rewinds, of one training.
        seed: Of dropout and whatever else draws from the global random state.
        hook: A pruner.
        directory: Receives `<name>.checkpoint.safetensors` and `<name>.metrics.jsonl`, the records;
            None writes nothing.
        name: Names those files and the progress bar.
        progress: Draw a progress bar with the time left, on the first rank.
        objective: Gives the loss of a batch from the model, inputs and labels; None for the
            cross-entropy over all labels but those of -100.
        watch: Called after each evaluation, on the first rank, with all records so far. What it
            raises ends the training; the last checkpoint stays.

    Raises:
        CheckpointError: The directory cannot be written, or its checkpoint is damaged or was made
            with other arguments.
        DataError: The data lack a validation split that the settings need.
        TrainingError: The loss is not finite; the last checkpoint is intact.
        ValueError: The settings contradict the data or each other.
    """
    if objective is not None and settings.label_smoothing:
        raise ValueError("label_smoothing belongs to the cross-entropy; leave it or objective out.")
    files = None if directory is None else RunFiles.within(Path(directory), name)
    fabric = launch(settings.precision)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    with ExitStack() as stack:
        stack.enter_context(modes_kept(model))
        stack.enter_context(placed(model, fabric.device, layout))
        stack.enter_context(seeded(rank_seed(seed, fabric.global_rank), [fabric.device]))
        interrupt = Interrupt()
        if fabric.world_size == 1:
            # Ranks would notice ctrl-C at different steps, and wait for each other for ever.
            stack.enter_context(interrupt)
        model.train()
        run = Run(
            fabric,
            model,
            data,
            settings,
            hook=hook,
            objective=objective,
            watch=watch,
            files=files,
            made_by={}
            if files is None  # described for a checkpoint only
            else provenance(
                model,
                data,
                **settings.model_dump(mode="json"),
                seed=seed,
                hook=described(hook),
                objective=described(objective),
                ranks=fabric.world_size,
            ),
        )
        run.restore()
        shown = progress and fabric.is_global_zero
        show = stack.enter_context(progress_bar(name, run.step, run.total, shown=shown))

        def after_step() -> None:
            show(run.step, run.log.records[-1] if run.log.records else None)
            if interrupt.requested:
                run.save()
                raise KeyboardInterrupt

        run.train(after_step)
        final = run.finish()
    return History(run.log.records, run.step, best_record(run.log.records, data.metric), final)
