"""What kernels are compared with: the same sums in float64, by plain numpy."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prunus_engine import Program, pack

Array = NDArray[np.float32]

ACTIVATIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "none": lambda x: x,
    "clip": lambda x: np.clip(x, 0, 6),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * np.vectorize(_normal)(x),
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
}


def _normal(x: float) -> float:
    from math import erf, sqrt

    return (1 + erf(x / sqrt(2))) / 2


def sparse(rng: np.random.Generator, rows: int, columns: int, density: float, height: int) -> Array:
    """Return a matrix with whole blocks of zeros, (rows, columns)."""
    kept = rng.random((-(-rows // height), columns)) < density
    return (rng.standard_normal((rows, columns)) * np.repeat(kept, height, 0)[:rows]).astype("f4")


def convolved(x: Array, weight: Array, numbers: list[int]) -> NDArray[np.float64]:
    """Return a convolution of x, shaped as `numbers` say, by weight (out, in / groups * kernel)."""
    batch, channels, _, _, kh, kw, sh, sw, top, left, bottom, right, dh, dw, groups = numbers
    padded = np.pad(x.astype("f8"), ((0, 0), (0, 0), (top, bottom), (left, right)))
    height = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    taps = np.empty((batch, channels, kh * kw, height * width))
    for j in range(kh):
        for k in range(kw):
            rows = slice(j * dh, j * dh + (height - 1) * sh + 1, sh)
            columns = slice(k * dw, k * dw + (width - 1) * sw + 1, sw)
            taps[:, :, j * kw + k] = padded[:, :, rows, columns].reshape(batch, channels, -1)
    split = taps.reshape(batch, groups, -1, height * width)
    whole = weight.astype("f8").reshape(groups, len(weight) // groups, -1)
    return np.matmul(whole, split).reshape(batch, len(weight), height, width)


def run(
    kind: str,
    x: Array,
    weight: Array,
    *,
    out: tuple[int, ...],
    numbers: list[int],
    height: int = 1,
    bias: Array | None = None,
    residual: Array | None = None,
    activation: str = "none",
    threads: int = 1,
    instructions: str = "",
    tuning: dict[str, int] | None = None,
    shift: int = 0,
) -> Array:
    """Run one step on memory that begins `shift` floats after a cache line, fenced by NaN."""
    program = Program(threads, instructions)
    fenced = {"x": _fenced(x, shift), "y": _fenced(np.full(out, np.nan, "f4"), shift)}
    if residual is not None:
        fenced["residual"] = _fenced(residual, shift)
    numbered = {}
    for name, (whole, inner) in fenced.items():
        numbered[name] = program.buffer(inner.size, outside=True)
        program.bind(numbered[name], inner)
        assert np.isnan(whole[:16]).all()
    ends = (np.zeros(0, "f4") if bias is None else bias, activation, 0.0, 6.0)
    before = (numbered["x"], numbered.get("residual", -1), numbered["y"])
    if kind == "depthwise":
        program.depthwise(*before, numbers, np.ascontiguousarray(weight.reshape(-1)), *ends)
    elif kind == "linear":
        program.linear(*before, numbers[0], pack(weight, height), *ends)
    else:
        program.conv(*before, numbers, pack(weight, height), *ends)
    if tuning:
        program.tune(0, **tuning)
    program.run(0, 1)
    whole, inner = fenced["y"]
    assert np.isnan(whole[:16]).all() and np.isnan(whole[16 + shift + inner.size :]).all()
    return inner.reshape(out).copy()


def _fenced(values: Array, shift: int) -> tuple[Array, Array]:
    whole = np.full(values.size + 48 + shift, np.nan, "f4")
    inner = whole[16 + shift : 16 + shift + values.size]
    inner[:] = values.reshape(-1)
    return whole, inner
