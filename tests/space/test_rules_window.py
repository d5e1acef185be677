"""Pooling, resampling, padding and patches: channels alone, positions in space mixed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align, roi_pool

from labelled import Case, Input, check_brute, few, row, unnoticed, worked
from prunus.space.rules import window


def resized(mode: str, **options: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: F.interpolate(x, scale_factor=2, mode=mode, **options)


def unpooled(x: Tensor) -> Tensor:
    return F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)


def unpooled_beside(x: Tensor, y: Tensor) -> Tensor:
    places = F.max_pool2d(y, 2, return_indices=True)[1]
    return F.max_unpool2d(x, places, 2)


def sampled(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid.tanh(), align_corners=False)


def regions(pool: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    boxes = [torch.tensor([[0.0, 0, 3, 3], [1, 0, 2, 3]], dtype=torch.float64)]
    return lambda x: pool(x, boxes, 2)


def fractional(x: Tensor, numbers: Tensor) -> Tensor:
    pool = F.fractional_max_pool3d if x.ndim == 5 else F.fractional_max_pool2d
    return pool(x, 2, output_size=3, _random_samples=numbers.sigmoid())


ROWS = [
    row("ab cd 6 6, ab cd 2 -> ab cd 3 3", fractional),
    row("2 cd 6 6, 3 cd 2 -> 2 cd 3 3", fractional),
    row("ab cd 6 6 6, ab cd 3 -> ab cd 3 3 3", fractional),
    row("cd 6 6, 1 cd 2 -> cd 3 3", fractional),
    row("ab cd 4 -> ab cd 2", lambda x: F.max_pool1d(x, 2)),
    row("ab cd 4 4 -> ab cd 2 2", lambda x: F.max_pool2d(x, 2)),
    row("ab cd 4 4 4 -> ab cd 2 2 2", lambda x: F.max_pool3d(x, 2)),
    row("ab 4 4 -> ab 2 2", lambda x: F.max_pool2d(x, 2)),
    row("ab cd 4 4 -> ab cd 2 2, ab cd 2 2", lambda x: F.max_pool2d(x, 2, return_indices=True)),
    row("!2 ~cd 4 4 -> 2 ~cd 2 2", lambda x: F.max_pool2d(x, 2)),
    row("ab cd 4 -> ab cd 2", lambda x: F.avg_pool1d(x, 2)),
    row("ab cd 4 4 -> ab cd 2 2", lambda x: F.avg_pool2d(x, 2)),
    row("ab cd 4 4 4 -> ab cd 2 2 2", lambda x: F.avg_pool3d(x, 2)),
    row("ab cd 5 5 -> ab cd 2 3", lambda x: F.adaptive_avg_pool2d(x, (2, 3))),
    row("ab cd 5 5 5 -> ab cd 2 2 2", lambda x: F.adaptive_avg_pool3d(x, 2)),
    row("ab cd 5 -> ab cd 2", lambda x: F.adaptive_max_pool1d(x, 2)),
    row("ab cd 5 5 -> ab cd 2 2", lambda x: F.adaptive_max_pool2d(x, 2)),
    row("ab cd 5 5 5 -> ab cd 2 2 2", lambda x: F.adaptive_max_pool3d(x, 2)),
    row("ab cd 4 4 -> ab cd 4 4", unpooled),
    row("ab 4 4 -> ab 4 4", unpooled),
    row("ab cd 2 2, ab cd 4 4 -> ab cd 4 4", unpooled_beside),
    row("ab cd 3 -> ab cd 6", resized("nearest")),
    row("ab cd 3 3 -> ab cd 6 6", resized("nearest")),
    row("ab cd 3 3 -> ab cd 6 6", resized("nearest-exact")),
    row("ab cd 3 3 3 -> ab cd 6 6 6", resized("nearest")),
    row("ab cd 3 -> ab cd 6", resized("linear")),
    row("ab cd 3 3 -> ab cd 6 6", resized("bilinear", align_corners=True)),
    row("ab cd 3 3 3 -> ab cd 6 6 6", resized("trilinear")),
    row("ab cd 3 3 -> ab cd 6 6", resized("bicubic")),
    row("ab cd 3 3 -> ab cd 6 6", resized("bilinear", antialias=True)),
    row("ab cd 3 3 -> ab cd 6 6", resized("bicubic", antialias=True)),
    row("ab cd 3 -> ab cd 5", lambda x: F.pad(x, (1, 1), mode="reflect")),
    row("ab cd 3 3 -> ab cd 5 4", lambda x: F.pad(x, (1, 0, 1, 1), mode="reflect")),
    row("ab cd 3 3 3 -> ab cd 5 5 5", lambda x: F.pad(x, (1,) * 6, mode="reflect")),
    row("ab cd 3 -> ab cd 5", lambda x: F.pad(x, (1, 1), mode="replicate")),
    row("ab cd 3 3 -> ab cd 5 4", lambda x: F.pad(x, (1, 0, 1, 1), mode="replicate")),
    row("ab cd 3 3 3 -> ab cd 5 5 5", lambda x: F.pad(x, (1,) * 6, mode="replicate")),
    row("!2 ab 3 3, !2 4 4 2 -> 2 ab 4 4", sampled),
    row("1 ab 4 4 -> 2 ab 2 2", regions(roi_align)),
    row("1 ab 4 4 -> 2 ab 2 2", regions(roi_pool)),
    row("ab cd 3 3 -> ab ccccdddd 4", lambda x: F.unfold(x, 2)),
    row("ab ccccdddd 4 -> ab cd 3 3", lambda x: F.fold(x, 3, 2)),
    row("ab cccccc 4 -> ab c 4 3", lambda x: F.fold(x, (4, 3), (3, 2))),
]


@pytest.mark.parametrize("case", ROWS, ids=[f"{k}: {case.expected}" for k, case in enumerate(ROWS)])
def test_labels_as_worked_out_and_by_brute_force(case: Case) -> None:
    assert worked(case) == case.expected
    check_brute(case)


def test_every_rule_has_a_row_that_notices_its_flaws() -> None:
    assert unnoticed(window, ROWS) == set()


@st.composite
def windows(draw: Callable) -> Case:
    """Pooling, resampling or padding of maps of one to three dimensions."""
    number, choose, truth = st.integers, st.sampled_from, st.booleans()
    dims, side = draw(number(1, 3)), draw(number(4, 6))
    shape = (draw(number(1, 3)), draw(number(1, 4)), *[side] * dims)
    kernel, stride, padding = draw(number(2, 3)), draw(number(1, 3)), draw(number(0, 1))
    sized = False
    kind = draw(choose(["max", "average", "adaptive", "adaptive max", "resize", "pad", "patches"]))
    common = {"stride": stride, "padding": padding, "ceil_mode": draw(truth)}
    if kind == "max":
        options = {"dilation": draw(number(1, 2)), "return_indices": draw(truth), **common}
        assume(kernel * options["dilation"] <= side)
        run = lambda x: getattr(F, f"max_pool{dims}d")(x, kernel, **options)  # noqa: E731
    elif kind == "average":
        counted = draw(truth)
        run = lambda x: getattr(F, f"avg_pool{dims}d")(  # noqa: E731
            x, kernel, count_include_pad=counted, **common
        )
    elif kind.startswith("adaptive"):
        name = f"adaptive_{'max' if 'max' in kind else 'avg'}_pool{dims}d"
        size = draw(number(1, 4))
        run = lambda x: getattr(F, name)(x, size)  # noqa: E731
    elif kind == "resize":
        modes = [["nearest", "linear"], ["nearest", "bilinear", "bicubic"], ["trilinear"]]
        mode, size = draw(choose(modes[dims - 1])), draw(number(2, 9))
        corners = None if mode == "nearest" else draw(truth)
        run = lambda x: F.interpolate(  # noqa: E731
            x, size=[size] * dims, mode=mode, align_corners=corners
        )
    elif kind == "pad":
        widths = draw(st.lists(number(0, 2), min_size=2 * dims, max_size=2 * dims))
        mode = draw(choose(["reflect", "replicate", "circular"]))
        sized = mode == "circular"  # made of slices, whose bounds are numbers
        run = lambda x: F.pad(x, widths, mode=mode)  # noqa: E731
    else:
        shape = (*shape[:2], side, side)
        own = {"dilation": draw(number(1, 2)), "stride": stride, "padding": padding}
        back = draw(truth)

        def run(x: Tensor) -> Tensor:
            patches = F.unfold(x, 2, **own)
            return F.fold(patches, side, 2, **own) if back else patches

    return Case(run, (Input(shape),), sized)


@few
@given(case=windows(), seed=st.integers(0, 99))
def test_windows_by_brute_force(case: Case, seed: int) -> None:
    check_brute(case, seed)


def test_a_map_and_the_grid_it_is_sampled_by_lose_the_same_rows() -> None:
    check_brute(Case(sampled, (Input((6, 2, 3, 3)), Input((6, 4, 4, 2)))), trials=6)
