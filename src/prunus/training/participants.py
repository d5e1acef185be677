"""Device, precision and ranks, from Lightning Fabric."""

import atexit
import gc
import os
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.utils._pytree import tree_map_only

if TYPE_CHECKING:
    from lightning_fabric import Fabric


Batch = TypeVar("Batch")

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others before it gives up: the first one measures, evaluates on the
validation split and exports meanwhile. That a rank has died is noticed at once."""


def ranks() -> int:
    """Return how many processes torchrun has started together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank_seed(seed: int, rank: int) -> int:
    """Return the seed of a rank's random numbers: the run's own for the first one, else another.

    Their sum would not do: rank 1 would draw what rank 0 does in the run of the next seed.
    """
    return seed if rank == 0 else Random(f"{seed} {rank}").getrandbits(32)


def join() -> None:
    """Join the other ranks where torchrun has started some; they part when the process ends."""
    if ranks() > 1 and not distributed.is_initialized():
        launch("fp32")
        atexit.register(_part)


def _part() -> None:
    gc.collect()  # a process aborts now and then if something holds the group at its end
    if distributed.is_initialized():
        distributed.destroy_process_group()


def launch(precision: str) -> "Fabric":
    """Return a Fabric for this process: one GPU if there is one, else the CPU.

    Under torchrun it joins the other ranks with data-parallel training.

    Args:
        precision: "fp32", "bf16" or "auto".
    """
    # Imported here because it takes as long as torch itself, and only training needs it.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.strategies.ddp import DDPStrategy

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        precision = "bf16" if _multiplies_bf16(device) else "fp32"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=ranks() // local,
        strategy=DDPStrategy(timeout=PATIENCE) if ranks() > 1 else "auto",
        # A plugin rather than a name, for which Fabric would print a line.
        plugins=[MixedPrecision("bf16-mixed", device)] if precision == "bf16" else None,
    )
    fabric.launch()
    return fabric


def _multiplies_bf16(device: str) -> bool:
    """Say whether bfloat16 products run in hardware."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return any(bool(able.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def share(fabric: "Fabric", batch: Batch) -> Batch:
    """Return this rank's part of a batch, a tensor or several, the same on every rank before."""
    if fabric.world_size == 1:
        return batch
    rank, count = fabric.global_rank, fabric.world_size
    return cast(Batch, tree_map_only(Tensor, lambda x: x[rank::count], batch))


def share_weight(own: int, whole: int, ranks: int) -> float:
    """Return what a rank's mean loss counts for: ranks, averaged alike, have unequal shares.

    Args:
        own: Over how many labels its mean is.
        whole: Over how many that of the whole batch is; 0 where none of it is labelled.
        ranks: How many there are.
    """
    return own * ranks / whole if whole else 1.0


def synchronise_buffers(fabric: "Fabric", model: nn.Module) -> None:
    """Give every rank the first rank's buffers, in which ranks may differ (batch norm's)."""
    if fabric.world_size > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def random_states(fabric: "Fabric") -> dict[str, Tensor]:
    """Return the global random states of this rank: of the CPU and of its GPU, uint8."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return states


def load_random_states(fabric: "Fabric", states: dict[str, Tensor]) -> None:
    """Restore what `random_states` returned."""
    torch.set_rng_state(states["cpu"])
    if fabric.device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], fabric.device)


def mean_over_ranks(fabric: "Fabric", value: float) -> float:
    """Return the mean of a number of which each rank has its own."""
    own = torch.tensor(value, dtype=torch.float64, device=fabric.device)
    return float(cast(Tensor, fabric.all_reduce(own, reduce_op="mean")))


def gather(fabric: "Fabric", own: Tensor) -> Tensor:
    """Return the tensors of all ranks, of equal shapes, as rows on the CPU."""
    if fabric.world_size == 1:
        return own.unsqueeze(0)
    rows = [torch.empty_like(own, device=fabric.device) for _ in range(fabric.world_size)]
    distributed.all_gather(rows, own.to(fabric.device))
    return torch.stack(rows).cpu()
