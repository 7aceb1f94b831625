"""Least squares where several weights are as good: the shortest, as numpy's ``lstsq`` says."""

import numpy as np
import pytest
import torch
from torch import Tensor

from prunenas.methods import _least_squares
from prunenas.methods._least_squares import _of_columns, _of_eigenvectors, refit, solve

KINDS = ["copies", "mixtures", "zeros", "scales", "few samples"]


def samples(kind: str, *, size: int = 90, rank: int = 60) -> Tensor:
    """Columns of which no more than ``rank`` are independent, in random order."""
    random = torch.Generator().manual_seed(3)
    many = rank if kind == "few samples" else 400
    own = torch.randn(many, rank, generator=random, dtype=torch.float64).relu()
    mixing = torch.randn(rank, size - rank, generator=random, dtype=torch.float64)
    if kind == "scales":  # three orders of magnitude between columns
        own *= torch.logspace(-3, 0, rank, dtype=torch.float64)
    if kind == "copies":
        others = own[:, torch.randint(rank, (size - rank,), generator=random)]
    elif kind == "zeros":
        others = torch.zeros(many, size - rank, dtype=torch.float64)
    elif kind == "few samples":  # any further column is a mixture of as many as there are samples
        others = torch.randn(many, size - rank, generator=random, dtype=torch.float64)
    else:
        others = own @ mixing
    return torch.cat([own, others], dim=1)[:, torch.randperm(size, generator=random)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("large", [0, 1000], ids=["columns", "eigenvectors"])
def test_the_shortest_of_equally_good_weights_is_numpys(
    kind: str, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_least_squares, "LARGE", large)
    x = samples(kind)
    y = torch.randn(len(x), 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = np.linalg.lstsq(x.numpy(), y.numpy())[0]
    found = solve(x.T @ x, x.T @ y).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_are_taken_and_agree(kind: str) -> None:
    x = samples(kind)
    cross = x.T @ torch.ones(len(x), 2, dtype=torch.float64)
    found = _of_columns(x.T @ x, cross)
    assert found is not None
    torch.testing.assert_close(found, _of_eigenvectors(x.T @ x, cross), rtol=1e-5, atol=1e-7)


def test_nothing_is_solved_by_columns_where_there_are_none() -> None:
    zero = torch.zeros(4, 4, dtype=torch.float64)
    assert _of_columns(zero, zero) is None
    assert solve(zero, zero).eq(0).all()


def test_what_samples_do_not_show_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_least_squares, "LARGE", 0)
    x = samples("zeros")
    old = torch.randn(90, 3, generator=torch.Generator().manual_seed(5))
    kept = torch.arange(0, 90, 2)
    y = x @ old.double()
    found = refit(x.T @ x, x.T @ y, old, kept)
    dead = kept[(x[:, kept] == 0).all(dim=0)]
    assert 0 < len(dead) < len(kept)
    rows = torch.isin(kept, dead)
    torch.testing.assert_close(found[rows], old[dead].double(), rtol=1e-9, atol=1e-9)
