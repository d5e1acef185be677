"""Least squares by second moments, near where one starts."""

import torch
from torch import Tensor

RIDGE = 1e-6
"""Relative to the average diagonal entry of the Gram matrix."""


def toward(gram: Tensor, residual: Tensor) -> Tensor:
    """Return the change D of coefficients that brings X D nearest to what is missing.

    It minimises |R - X D|^2 + ridge |D|^2 with a ridge of 1e-6 times the average diagonal of X'X:
    directions that the samples leave open, and channels that are always zero, stay as they were.

    Args:
        gram: X'X, float64, shape (..., coefficients, coefficients).
        residual: X'R, shape (..., coefficients, outputs).
    """
    ridge = RIDGE * gram.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    ridge = torch.where(ridge > 0, ridge, torch.ones_like(ridge))
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + ridge[..., None, None] * eye)
    return torch.cholesky_solve(residual, factor)
