"""Least squares from sums over samples: the size of the problem is that of the unknowns.

For samples ``X`` (M x C) and targets ``Y`` (M x O) only ``X'X`` and ``X'Y`` are kept, float64, to
which batches of samples are added. Single-precision activations have no more than seven digits, so
the squared condition number costs nothing that they had.
"""

import numpy as np
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
    values, vectors = spectrum(gram)
    least: Tensor = vectors @ (vectors.T @ cross / values[:, None])
    return least


def spectrum(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues of ``X'X`` that are certainly not 0, ascending, and their vectors.

    Columns of ``X`` that are zero are left out before: there may be many (dead channels, padding),
    and LAPACK's divide and conquer doesn't always converge with them.

    Args:
        gram: ``X'X``, float64 of shape (C, C).

    Returns:
        float64 of shapes (R,) and (C, R), R the rank.
    """
    seen = gram.diagonal() > 0
    if not bool(seen.any()):
        return gram.new_zeros(0), gram.new_zeros(len(gram), 0)
    inside = gram[seen][:, seen]
    try:
        values, vectors = torch.linalg.eigh(inside)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # numpy's LAPACK may manage
        found = np.linalg.eigh(inside.cpu().numpy())
        values, vectors = (torch.from_numpy(each).to(gram) for each in found)
    sure = values > values[-1].clamp(min=0) * len(gram) * torch.finfo(gram.dtype).eps
    whole = gram.new_zeros(len(gram), int(sure.sum()))
    whole[seen] = vectors[:, sure]
    return values[sure], whole


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
