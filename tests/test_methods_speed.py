"""How much faster sums over samples are than the samples themselves, on 512 channels x 5,000.

Ratios only: a second says more of the machine than of the code. ``pytest -m slow -s`` shows them.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import Tensor

from prunenas.methods._least_squares import _of_columns, _of_eigenvectors, refit
from prunenas.methods.channel_regression import lasso
from prunenas.methods.thinet import keep

pytestmark = pytest.mark.slow

CHANNELS, SAMPLES, KEPT = 512, 5000, 256


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def samples(columns: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(SAMPLES, columns, generator=random).relu()
    mixing = torch.eye(columns) + 0.02 * torch.randn(columns, columns, generator=random)
    return (hidden @ mixing).double()


def test_the_greedy_choice() -> None:
    x = samples(CHANNELS)
    fast = seconds(lambda: keep(x.T @ x, KEPT))
    half = list(range((CHANNELS - KEPT) // 2))  # gone at the middle of the way

    def one_step() -> None:
        for channel in range(len(half), CHANNELS):
            float(x[:, [*half, channel]].sum(dim=1).square().sum())

    ratio = (CHANNELS - KEPT) * seconds(one_step) / fast
    print(f"greedy choice, {CHANNELS} channels x {SAMPLES} samples: {ratio:.0f} times as fast")
    assert ratio > 20


def test_the_least_squares_of_whole_filters() -> None:
    x = samples(CHANNELS * 9)
    y = torch.randn(SAMPLES, CHANNELS, dtype=torch.float64)
    kept = (torch.arange(0, CHANNELS, 2)[:, None] * 9 + torch.arange(9)).flatten()
    old = torch.zeros(CHANNELS * 9, CHANNELS)
    found: list[Tensor] = []
    fast = seconds(lambda: found.append(refit(x.T @ x, x.T @ y, old, kept)))
    inside, targets = x[:, kept].numpy(), y.numpy()
    exact: list[np.ndarray] = []
    slow = seconds(lambda: exact.append(np.linalg.lstsq(inside, targets)[0]))
    np.testing.assert_allclose(found[0].numpy(), exact[0], rtol=1e-4, atol=1e-6)
    print(f"least squares of {len(kept)} weights: {slow / fast:.1f} times as fast as lstsq")


def test_the_least_squares_of_channels_that_move_together() -> None:
    """A fifth of all channels is zero or a copy: no system of equations has one solution."""
    x = samples(CHANNELS * 4)
    x[:, 3::10] = 0.0
    x[:, 7::10] = x[:, 6::10][:, : x[:, 7::10].shape[1]]
    gram, cross = x.T @ x, x.T @ torch.randn(SAMPLES, CHANNELS, dtype=torch.float64)
    found: list[Tensor | None] = []
    fast = seconds(lambda: found.append(_of_columns(gram, cross)))
    slow = seconds(lambda: found.append(_of_eigenvectors(gram, cross)))
    assert found[0] is not None
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)
    print(f"{len(gram)} dependent weights: {slow / fast:.1f} times as fast as eigenvectors")


def test_lasso() -> None:
    z = samples(CHANNELS)
    y = z.sum(dim=1) + torch.randn(SAMPLES, dtype=torch.float64)
    found: list[Tensor] = []
    fast = seconds(lambda: found.append(lasso(z.T @ z, z.T @ y, KEPT)))
    # One penalty on the samples themselves; the search tries about twenty.
    alpha = float((z.T @ (y - z @ found[0])).abs().max()) / SAMPLES
    solver = Lasso(alpha=alpha, fit_intercept=False, max_iter=10_000, tol=1e-6)
    slow = 20 * seconds(lambda: solver.fit(z.numpy(), y.numpy()))
    same = set(np.flatnonzero(solver.coef_)) ^ set(found[0].nonzero().flatten().tolist())
    assert len(same) <= 4  # at the edge of the penalty
    print(f"LASSO, {CHANNELS} channels x {SAMPLES} samples: {slow / fast:.1f} times as fast")
    assert slow > fast
