"""Least squares from sums over samples: the size of the problem is that of the unknowns.

For samples ``X`` (M x C) and targets ``Y`` (M x O) only ``X'X`` and ``X'Y`` are kept, float64, to
which batches of samples are added. Single-precision activations have no more than seven digits, so
the squared condition number costs nothing that they had.
"""

import torch
from torch import Tensor

SURE = 1e-10  # smallest pivot of a Cholesky factor, relative to the largest, that is trusted


def solve(gram: Tensor, cross: Tensor) -> Tensor:
    """Return the ``W`` of least norm among those that minimise ``|Y - X W|``.

    Args:
        gram: ``X'X``, float64 of shape (C, C).
        cross: ``X'Y``, float64 of shape (C, O).

    Returns:
        float64 of shape (C, O).
    """
    if not len(gram):
        return torch.zeros_like(cross)
    factor, failed = torch.linalg.cholesky_ex(gram)
    pivots = factor.diagonal().square()
    if not int(failed) and bool(pivots.min() > SURE * pivots.max()):
        found: Tensor = torch.cholesky_solve(cross, factor)
        return found
    # Several W are as good: channels that are zero on all samples, or that move together.
    values, vectors = torch.linalg.eigh(gram)
    small = values <= values[-1].clamp(min=0) * len(gram) * torch.finfo(gram.dtype).eps
    inverse = torch.where(small, 0.0, 1 / torch.where(small, 1.0, values))
    least: Tensor = vectors @ (inverse[:, None] * (vectors.T @ cross))
    return least


def refit(gram: Tensor, cross: Tensor, old: Tensor, kept: Tensor) -> Tensor:
    """Return the rows of ``W`` that minimise ``|Y - X[:, kept] W|``, nearest to the old ones.

    Where the samples decide, that is numpy's ``lstsq``; what they don't show stays as it was.

    Args:
        gram: ``X'X``, float64 of shape (C, C).
        cross: ``X'Y``, float64 of shape (C, O).
        old: (C, O).
        kept: Indices of the columns of ``X`` that are left.

    Returns:
        float64 of shape (kept, O).
    """
    inside = gram[kept[:, None], kept]
    before = old[kept].to(gram)
    return before + solve(inside, cross[kept] - inside @ before)
