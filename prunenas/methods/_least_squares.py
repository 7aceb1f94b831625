"""Least squares from sums over samples: the size of the problem is that of the unknowns.

For samples ``X`` (M x C) and targets ``Y`` (M x O) only ``X'X`` and ``X'Y`` are kept, float64, to
which batches of samples are added. Single-precision activations have no more than seven digits, so
the squared condition number costs nothing that they had.
"""

import numpy as np
import torch
from torch import Tensor

SURE = 1e-10  # smallest pivot of a Cholesky factor, relative to the largest, that is trusted
LARGE = 1000  # unknowns from which on eigenvectors take longer than a pivoted factorisation


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
        only: Tensor = torch.cholesky_solve(cross, factor)
        return only
    # Several W are as good: channels that are zero on all samples, or that move together.
    found = _of_columns(gram, cross) if gram.is_cpu and len(gram) >= LARGE else None
    return _of_eigenvectors(gram, cross) if found is None else found


def _of_columns(gram: Tensor, cross: Tensor) -> Tensor | None:
    """Solve for columns that determine the others; None where that can't be trusted.

    A Cholesky factorisation that takes the largest pivot next ends where all others are noise. With
    ``X = X_s F'``, ``F = (1, T)'``, for the columns ``s`` that it took, what solves for those alone
    is one solution, and its projection onto the range of ``F``, which is that of ``X'``, is the
    shortest.
    """
    from scipy.linalg.lapack import dpstrf  # imported on use: most commands solve nothing

    size = len(gram)
    # No eigenvalue is known to be larger; what is dropped is what eigenvalues would drop.
    largest = max(float(gram.diagonal().max()), float(gram.sum()) / size)
    noise = size * torch.finfo(gram.dtype).eps * largest
    factors, order, rank, _ = dpstrf(np.array(gram.numpy(), order="F"), tol=noise, lower=1)
    if not 0 < rank < size:
        return None
    lower = torch.from_numpy(factors)[:, :rank]
    columns = torch.from_numpy(order.astype(np.int64) - 1)
    some, inside = columns[:rank], lower[:rank].tril()
    others = torch.linalg.solve_triangular(inside, lower[rank:], upper=False, left=False)
    square = others.T @ others
    square.diagonal().add_(1.0)
    outer, failed = torch.linalg.cholesky_ex(square)
    pivots = outer.diagonal().square()
    if int(failed) or not bool(pivots.min() > SURE * pivots.max()):
        return None
    shortest = torch.cholesky_solve(torch.cholesky_solve(cross[some], inside), outer)
    found = torch.empty_like(cross)
    found[columns] = torch.cat([shortest, others @ shortest])
    return found


def _of_eigenvectors(gram: Tensor, cross: Tensor) -> Tensor:
    """Solve by the inverse of all eigenvalues that are more than noise."""
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
