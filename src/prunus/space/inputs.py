"""Other inputs like the example: copies, larger batches, random values."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from prunus.types import Example


def cloned(example: Example) -> Example:
    """Return the example with copies of its tensors, to be written into and to take gradients."""

    def clone(x: Tensor) -> Tensor:
        return x.detach().clone().requires_grad_(x.requires_grad)

    return tree_map_only(Tensor, clone, example)  # type: ignore[no-any-return]


def doubled(example: Example) -> Example:
    """Return the example with its batch twice: one sample is too few for some layers."""
    return tree_map_only(  # type: ignore[no-any-return]
        Tensor, lambda x: torch.cat([x, x]) if x.ndim else x, example
    )


def varied(example: Example, seed: int = 0) -> Example:
    """Return the example with twice as many further samples, all different.

    Statistics over copies of one sample have no spread, and what is divided by it is rounding only.
    """
    generator = torch.Generator().manual_seed(seed)

    def more(x: Tensor) -> Tensor:
        if x.ndim == 0:
            return x
        if not x.is_floating_point():
            return torch.cat([x, *(x.roll(k, dims=-1) for k in (1, 2))])
        return torch.cat([x, _noise(x, 2 * len(x), generator)])

    found: Example = tree_map_only(Tensor, more, example)
    return found


def _noise(x: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Return normal numbers of the spread of `x`, for so many samples."""
    scale = float(x.detach().double().std()) if x.numel() > 1 else 1.0
    noise = torch.randn((rows, *x.shape[1:]), generator=generator, dtype=torch.float64)
    return (noise * (scale or 1.0)).to(x)


def random_inputs(example: Example, seed: int = 0) -> Iterator[Example]:
    """Yield a random input of the example's shape, and one with a batch larger by one.

    Floating-point values are normal with the example's spread, others are its rows drawn anew.
    """
    generator = torch.Generator().manual_seed(seed)
    for more in (0, 1):

        def draw(x: Any, more: int = more) -> Any:
            if not isinstance(x, Tensor) or x.ndim == 0:
                return x
            rows = torch.randint(len(x), (len(x) + more,), generator=generator)
            if not x.is_floating_point():
                return x[rows.to(x.device)]
            return _noise(x, len(rows), generator)

        yield tree_map(draw, example)


def resized(example: Example, seed: int = 0) -> Iterator[list[Example]]:
    """Yield inputs of other sizes: a batch of one; of each further size a smaller and a larger.

    Dimensions of the same size are taken for the same: they change together.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = [x for x in tree_leaves(example) if isinstance(x, Tensor) and x.ndim]
    batch = {len(x) for x in tensors}
    if len(batch) == 1 and batch != {1}:
        yield [tree_map_only(Tensor, lambda x: x[:1] if x.ndim else x, example)]
    for size in sorted({n for x in tensors for n in x.shape[1:] if n > 1}, reverse=True):

        def changed(other: int, size: int = size) -> Example:
            def change(x: Tensor) -> Tensor:
                for dim in range(1, x.ndim):
                    if x.shape[dim] == size:
                        picked = torch.randint(size, (other,), generator=generator)
                        x = x.index_select(dim, picked.sort().values.to(x.device))
                return x

            found: Example = tree_map_only(Tensor, change, example)
            return found

        yield [changed(size // 2), changed(size + max(1, size // 2))]
