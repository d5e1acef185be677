"""One rank of a data-parallel pruning by every method, on data of its own; started by torchrun."""

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))
from test_conformance import STEPS, X, build, method, optimizer_of, target

from prunus import Calibration, Pruner
from prunus.files import write_tensors
from prunus.methods import METHODS


def main(directory):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    for name in sorted(METHODS):
        own = torch.Generator().manual_seed(rank)
        x = torch.randn(4, 3, 8, 8, generator=own)
        data = Calibration([(x, torch.tensor([0, 1, 2, rank]))])
        network = build()
        parallel = DistributedDataParallel(network)
        pruner = Pruner(parallel, X, method(name), target=target(name), calibration=data)
        optimizer = optimizer_of(network)
        for _ in range(STEPS):
            optimizer.zero_grad()
            x = torch.randn(4, 3, 8, 8, generator=own)
            (parallel(x).square().mean() + pruner.penalty()).backward()
            optimizer.step()
            pruner.step(optimizer)
        result = pruner.finish()
        write_tensors(directory / f"{name}-{rank}-mask.safetensors", result.mask)
        weights = dict(result.model.named_parameters())
        write_tensors(directory / f"{name}-{rank}-weights.safetensors", weights)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
