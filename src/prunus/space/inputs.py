"""Other inputs like the example: copies, larger batches, random values."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_map_only, tree_unflatten

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

    The first has normal numbers of the example's spread, and the example's own rows of other types,
    drawn anew. The second keeps to the example's range: numbers with its mean, without a sign where
    it has none, and whole numbers between its smallest and its largest.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(x: Any) -> Any:
        if not isinstance(x, Tensor) or x.ndim == 0:
            return x
        if x.is_floating_point():
            return _noise(x, len(x), generator)
        return x[torch.randint(len(x), (len(x),), generator=generator).to(x.device)]

    def draw_more(x: Any) -> Any:
        if not isinstance(x, Tensor) or x.ndim == 0:
            return x
        rows = len(x) + 1
        if x.is_floating_point():
            drawn = _noise(x, rows, generator)
            drawn = drawn + x.detach().double().mean().to(x) if x.numel() else drawn
            return drawn.abs() if x.numel() and x.min() >= 0 else drawn
        if x.dtype == torch.bool or x.is_complex() or not x.numel():
            return x[torch.randint(len(x), (rows,), generator=generator).to(x.device)]
        low, high = int(x.min()), int(x.max())
        return torch.randint(low, high + 1, (rows, *x.shape[1:]), generator=generator).to(x)

    yield tree_map(draw, example)
    yield tree_map(draw_more, example)


def resized(example: Example, ratios: Iterable[float] = (), seed: int = 0) -> Iterator[Example]:
    """Yield inputs of other sizes: a batch of one; of each further size smaller and larger ones.

    Dimensions of one size are changed together, as those of a square, and each alone.

    Args:
        example: What they are like.
        ratios: Further sizes to be tried, about so many times the example's, unless an input would
            get 32 times as large.
        seed: Of the positions that are picked.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = [x for x in tree_leaves(example) if isinstance(x, Tensor) and x.ndim]
    batch = {len(x) for x in tensors}
    if len(batch) == 1 and batch != {1}:
        yield tree_map_only(Tensor, lambda x: x[:1] if x.ndim else x, example)
    places: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for k, x in enumerate(tensors):
        for dim, size in enumerate(x.shape):
            if dim and size > 1:
                places[size].append((k, dim))
    for size, together in sorted(places.items(), reverse=True):
        far = {round(size * ratio) + more for ratio in ratios for more in (-1, 0, 1)}
        near = [size // 2, size // 2 + 1, size - 1, size + 1, size + max(1, size // 2)]
        others = [*near, *sorted(far)]
        groups = {tuple(together): others} | {
            (one,): [size // 2 + 1, size + 1, *sorted(far)] for one in together
        }
        for chosen, sizes in groups.items():
            most = max(sum(place[0] == k for place in chosen) for k in range(len(tensors)))
            for other in dict.fromkeys(sizes):
                if other != size and other > 0 and (other / size) ** most <= _LARGEST:
                    yield _changed(example, chosen, other, generator)


_LARGEST = 32


def size_ratios(example: Example, other: Example) -> tuple[float, float]:
    """Return how many times those of an example the sizes of another are, batches aside.

    Returns:
        The smallest and the largest, (1, 1) where there are none.
    """
    pairs = zip(tree_leaves(example), tree_leaves(other), strict=True)
    tensors = [(x.shape, y.shape) for x, y in pairs if isinstance(x, Tensor)]
    found = [b / a for x, y in tensors for a, b in zip(x[1:], y[1:], strict=True) if a]
    return min(found, default=1.0), max(found, default=1.0)


def _changed(
    example: Example, places: Iterable[tuple[int, int]], size: int, generator: torch.Generator
) -> Example:
    """Return the example with another size of some dimensions: number of the tensor, dimension."""
    leaves, spec = tree_flatten(example)
    tensors = [k for k, x in enumerate(leaves) if isinstance(x, Tensor) and x.ndim]
    for number, dim in places:
        x = leaves[tensors[number]]
        picked = torch.randint(x.shape[dim], (size,), generator=generator).sort().values
        leaves[tensors[number]] = x.index_select(dim, picked.to(x.device))
    found: Example = tree_unflatten(leaves, spec)
    return found
