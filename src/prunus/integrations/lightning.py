"""Pruning inside a Lightning `Trainer`."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from prunus.integrations.attached import Attached
from prunus.types import Example


class PruningCallback(Callback, Attached):
    """Prunes a module while Lightning trains it.

    The method's penalty is added to the gradient right before each optimizer step, so that the
    module's own `training_step` stays as it is. The pruner's state travels in Lightning's
    checkpoints. After training, `result` is the smaller network.

    Args:
        example: An input of the pruned network, as it is called.
        method: A method, or its name.
        network: Name of the module's attribute that is pruned; None for the module itself.
        options: Further arguments of `prunus.Pruner`: target, calibration, exact, seed.

    Example::

        pruning = PruningCallback(x, "gradual", network="model", target=Target(sparsity=0.9))
        Trainer(max_epochs=10, callbacks=[pruning]).fit(module, loader)
        small = pruning.result.model
    """

    def __init__(
        self, example: Example, method: Any, *, network: str | None = None, **options: Any
    ) -> None:
        Attached.__init__(self, example, method, **options)
        self._network = network
        self._loaded: dict[str, Any] = {}
        self._steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start, or go on from a checkpoint.

        Raises:
            ValueError: The method's schedule ends after the training, or it adds to a scaled loss.
        """
        network: nn.Module = pl_module
        if self._network is not None:
            network = pl_module.get_submodule(self._network)
        batches = trainer.num_training_batches / trainer.accumulate_grad_batches
        total = trainer.estimated_stepping_batches
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        steps = max(1, round(batches))
        self.begin(network, steps, self._loaded, total=total, scaled=scaled)
        self._steps = trainer.global_step

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the gradient of the method's penalty."""
        self.before_step()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Act where the batch has ended an optimizer step."""
        if trainer.global_step > self._steps:
            self._steps = trainer.global_step
            self.after_step(trainer.optimizers[0])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take out what the mask drops."""
        self.end()

    def state_dict(self) -> dict[str, Any]:
        """Return the pruner's state, for Lightning's checkpoint."""
        return self.pruner.state() if self._pruner is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until training starts."""
        self._loaded = state_dict
