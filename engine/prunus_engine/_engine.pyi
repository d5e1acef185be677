"""The compiled kernels (`src/module.cpp`)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def instructions() -> list[str]: ...

class SparseMatrix:
    def __init__(
        self,
        rows: int,
        columns: int,
        height: int,
        starts: NDArray[np.int64],
        columns_of: NDArray[np.int64],
        values: NDArray[np.float32],
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def entries(self) -> int: ...

class Program:
    def __init__(self, threads: int = 1, instructions: str = "") -> None: ...
    @property
    def instructions(self) -> str: ...
    @property
    def steps(self) -> int: ...
    def buffer(self, floats: int, outside: bool = False) -> int: ...
    def view(self, buffer: int) -> NDArray[np.float32]: ...
    def bind(self, buffer: int, array: NDArray[np.float32]) -> None: ...
    def release(self) -> None: ...
    def conv(
        self,
        x: int,
        residual: int,
        y: int,
        geometry: Sequence[int],
        matrix: SparseMatrix,
        bias: NDArray[np.float32],
        activation: str = "none",
        low: float = 0.0,
        high: float = 0.0,
    ) -> int: ...
    def depthwise(
        self,
        x: int,
        residual: int,
        y: int,
        geometry: Sequence[int],
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        activation: str = "none",
        low: float = 0.0,
        high: float = 0.0,
    ) -> int: ...
    def linear(
        self,
        x: int,
        residual: int,
        y: int,
        batch: int,
        matrix: SparseMatrix,
        bias: NDArray[np.float32],
        activation: str = "none",
        low: float = 0.0,
        high: float = 0.0,
    ) -> int: ...
    def lstm(
        self,
        x: int,
        y: int,
        times: int,
        batch: int,
        input: SparseMatrix,
        recurrent: SparseMatrix,
        bias: NDArray[np.float32],
    ) -> int: ...
    def pooling(
        self, x: int, y: int, geometry: Sequence[int], average: bool, count_padding: bool = False
    ) -> int: ...
    def spread(self, step: int, x: int, residual: int, y: int) -> None: ...
    def run(self, begin: int, end: int, images: int = 1) -> None: ...
    def time(self, step: int, repeats: int = 3) -> float: ...
    def measure(self, step: int, repeats: int = 3) -> tuple[dict[str, int], float]: ...
    def tune(
        self, step: int, width: int = 0, near: int = 0, chunk: int = 0, packed: bool = False
    ) -> None: ...
