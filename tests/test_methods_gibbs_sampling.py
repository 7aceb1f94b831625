"""Gibbs masks: against enumeration, against the paper's off-fractions, and against each other."""

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from prunenas.methods._gibbs import (
    draw_filters,
    draw_kernels,
    draw_weights,
    off_probability,
    threshold,
    unit_means,
)


def weights(out: int, into: int, size: int = 3, *, seed: int = 0) -> Tensor:
    """Squares of weights as He's initialisation has them for 16 filters: N(0, 2 / 144)."""
    drawn = torch.randn(out, into, size, size, generator=torch.Generator().manual_seed(seed))
    return (drawn * math.sqrt(2 / 144)).double().square()


@pytest.mark.parametrize(
    ("beta", "off"), [(1e-9, 0.5), (1, 0.506), (10, 0.558), (100, 0.847), (1e3, 0.8997), (1e4, 0.9)]
)
def test_the_share_that_is_off_is_the_measured_one(beta: float, off: float) -> None:
    squares = weights(64, 64)  # 36,864 weights
    field = threshold(squares, 4, 0.9) - squares
    assert off_probability(field, beta).mean() == pytest.approx(off, abs=2e-3)


def test_weights_are_off_half_the_time_at_the_threshold_and_less_above() -> None:
    field = torch.tensor([0.2, 0.1, 0.0, -0.1])
    chance = off_probability(field, 30.0)
    assert chance[2] == 0.5
    assert (chance.diff() < 0).all()
    # by hand: 1 / (1 + exp(30 * (w^2 - Q)))
    assert chance[1] == pytest.approx(1 / (1 + math.exp(-3.0)), rel=1e-6)


def test_the_threshold_is_numpys_percentile_of_the_units() -> None:
    squares = weights(6, 5)
    for dims, pruned in itertools.product((1, 2, 4), (0.0, 0.37, 0.9, 1.0)):
        means = squares.reshape(*squares.shape[:dims], -1).mean(dim=-1) if dims < 4 else squares
        expected = torch.quantile(means.flatten(), pruned)
        assert threshold(squares, dims, pruned) == pytest.approx(float(expected), rel=1e-12)


def test_weights_are_drawn_as_often_as_they_should() -> None:
    field = torch.linspace(-0.2, 0.2, 5).repeat(20_000, 1)
    drawn = draw_weights(field, 10.0, torch.Generator().manual_seed(1))
    off = (~drawn).sum(dim=0)
    expected = off_probability(field[0], 10.0) * len(field)
    spread = (expected * (1 - expected / len(field))).sqrt()
    assert ((off - expected).abs() < 4 * spread).all()


def energies(field: Tensor, coupling: float) -> Tensor:
    """H of all 2^n states of one kernel, by the formula of the paper: x'Ax + b'x."""
    size = len(field)
    states = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=size)), dtype=torch.float64)
    matrix = -coupling * (torch.ones(size, size) - torch.eye(size)).double()
    return torch.einsum("si,ij,sj->s", states, matrix, states) + states @ field


@pytest.mark.parametrize(("beta", "coupling"), [(0.5, 0.0), (3.0, 0.05), (8.0, 0.02)])
def test_kernels_follow_the_distribution_over_all_their_states(
    beta: float, coupling: float
) -> None:
    field = torch.tensor([0.3, -0.2, 0.1, 0.05, -0.15], dtype=torch.float64)
    chances = torch.softmax(-beta * energies(field, coupling), dim=0)
    number = 40_000
    random = torch.Generator().manual_seed(3)
    drawn = draw_kernels(field.repeat(number, 1).reshape(number, 1, 1, 5), beta, coupling, random)
    powers = 2 ** torch.arange(4, -1, -1)
    counts = torch.bincount((drawn.reshape(number, 5) * powers).sum(dim=1), minlength=32)
    expected = chances.numpy() * number
    usual = expected >= 5  # the test's own condition; the rare states are one class
    observed = [*counts.numpy()[usual], counts.numpy()[~usual].sum()]
    wanted = [*expected[usual], expected[~usual].sum()]
    if not wanted[-1]:
        observed, wanted = observed[:-1], wanted[:-1]
    assert stats.chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize(
    ("beta", "coupling", "alike", "off"),
    [(1, 0.01, 0.008, 0.506), (10, 0.01, 0.650, 0.760), (100, 0.01, 1.0, 0.903)],
)
def test_kernels_go_as_wholes_as_measured(
    beta: float, coupling: float, alike: float, off: float
) -> None:
    squares = weights(16, 16)
    field = threshold(squares, 2, 0.9) - squares
    random = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_kernels(field, beta, coupling, random) for _ in range(40)])
    on = drawn.flatten(3).float().mean(dim=3)
    whole = ((on == 0) | (on == 1)).float().mean()
    # One draw of the measurement's weights against another of ours: within a few per cent.
    assert whole == pytest.approx(alike, abs=0.05)
    assert 1 - on.mean() == pytest.approx(off, abs=0.03)


def test_a_kernel_of_one_weight_has_no_coupling() -> None:
    field = torch.full((5000, 1, 1, 1), 0.1, dtype=torch.float64)
    drawn = draw_kernels(field, 2.0, 5.0, torch.Generator().manual_seed(0))
    chance = 1 / (1 + math.exp(2 * 2.0 * 0.1))  # on, of states -1 and +1
    assert drawn.double().mean() == pytest.approx(chance, abs=4 * math.sqrt(0.25 / 5000))


def test_large_kernels_and_cold_chains_stay_finite() -> None:
    field = 10 * torch.randn(3, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    drawn = draw_kernels(field, 1e4, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, field < 0)


def filters(beta: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """A draw for 40 filters of 16 channels at c = 1, p = 0.9, and the mask it should harden to."""
    squares = weights(40, 16, seed=seed)
    q = threshold(squares, 1, 0.9)
    hard = unit_means(squares, 1) > q
    random = torch.Generator().manual_seed(seed)
    return draw_filters(q - squares, beta, 1.0, hard, 50, random), hard


def test_cold_filters_are_what_their_norms_say() -> None:
    for beta in (0.4, 1.0):
        drawn, hard = filters(beta, seed=0)
        assert torch.equal(drawn, hard.reshape(40, 1, 1, 1).expand_as(drawn))
        assert int(hard.sum()) == 4


def test_hot_filters_are_off_half_the_time() -> None:
    drawn, _ = filters(0.0032, seed=0)
    on = drawn.flatten(1).double().mean(dim=1)
    assert on.mean() == pytest.approx(0.49, abs=0.02)
    assert ((on > 0) & (on < 1)).all()


def test_the_two_halves_follow_the_joint_distribution() -> None:
    # One weight in each half: p(x1, x2) ~ exp(-beta (b1 x1 + b2 x2 - c x1 x2) / 2), whose
    # conditionals are sigmoid(beta (b - c x)) for off, as the sweeps draw them.
    field, beta, coupling, number = torch.tensor([0.2, -0.3]), 1.5, 0.7, 20_000
    drawn = draw_filters(
        field.repeat(number, 1).reshape(number, 2, 1, 1).double(),
        *(beta, coupling, torch.zeros(number, dtype=torch.bool), 30),
        torch.Generator().manual_seed(5),
    ).reshape(number, 2)
    states = list(itertools.product((-1.0, 1.0), repeat=2))
    energy = [float(field[0]) * x + float(field[1]) * y - coupling * x * y for x, y in states]
    chances = torch.softmax(-beta / 2 * torch.tensor(energy, dtype=torch.float64), dim=0)
    counts = torch.bincount(2 * drawn[:, 0].long() + drawn[:, 1].long(), minlength=4)
    assert stats.chisquare(counts.numpy(), (chances * number).numpy()).pvalue > 1e-3


def test_one_channel_has_no_other_half() -> None:
    field = torch.full((4000, 1, 2, 2), 0.1, dtype=torch.float64)
    start = torch.zeros(4000, dtype=torch.bool)
    drawn = draw_filters(field, 2.0, 9.0, start, 3, torch.Generator().manual_seed(0))
    chance = 1 / (1 + math.exp(0.2))
    assert drawn.double().mean() == pytest.approx(chance, abs=4 * math.sqrt(0.25 / 16_000))
