"""Gibbs masks: against enumeration, against the paper's off-fractions, and against each other."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from prunenas.methods import _gibbs
from prunenas.methods._gibbs import (
    draw_filters,
    draw_kernels,
    draw_weights,
    enough,
    first_half,
    kept_units,
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
    [
        *[(1, 0.01, 0.008, 0.506), (10, 0.01, 0.650, 0.760), (100, 0.01, 1.0, 0.903)],
        (100, 0.0, 0.13, 0.805),  # without coupling no kernels, and not the share asked for
    ],
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


def test_cold_kernels_are_those_at_or_above_the_threshold() -> None:
    squares = weights(16, 16)
    q = threshold(squares, 2, 0.9)
    drawn = draw_kernels(q - squares, 1e4, 0.01, torch.Generator().manual_seed(0))
    hard = unit_means(squares, 2) >= q
    assert torch.equal(drawn, hard[:, :, None, None].expand_as(drawn))
    assert int((~hard).sum()) == 230  # of 256


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (2, 2), (5, 1), (2, 4)])
def test_kernels_of_any_shape_follow_their_states(shape: tuple[int, int]) -> None:
    size, number, beta, coupling = math.prod(shape), 20_000, 2.0, 0.06
    field = 0.4 * torch.randn(size, generator=torch.Generator().manual_seed(size)).double()
    chances = torch.softmax(-beta * energies(field, coupling), dim=0)
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=size)), dtype=torch.float64)
    random = torch.Generator().manual_seed(1)
    drawn = draw_kernels(field.repeat(number, 1).reshape(number, 1, *shape), beta, coupling, random)
    on = drawn.reshape(number, size).double()
    both = (states.T * chances) @ states  # how often any two are on together
    spread = 4.5 * math.sqrt(0.25 / number)
    assert torch.allclose(on.T @ on / number, both, atol=spread, rtol=0)


def test_25_weights_are_on_as_often_as_their_number_says() -> None:
    # All fields alike: of k on there are 25 over k states, each exp(-beta H(k)).
    size, beta, coupling, pull, number = 25, 1.5, 0.02, 0.05, 20_000
    log = [
        math.lgamma(size + 1)
        - math.lgamma(k + 1)
        - math.lgamma(size - k + 1)
        + beta * (coupling * ((2 * k - size) ** 2 - size) - pull * (2 * k - size))
        for k in range(size + 1)
    ]
    chances = torch.softmax(torch.tensor(log, dtype=torch.float64), dim=0)
    field = torch.full((number, 1, 5, 5), pull, dtype=torch.float64)
    drawn = draw_kernels(field, beta, coupling, torch.Generator().manual_seed(2))
    on = drawn.flatten(1).sum(dim=1)
    mean = float((chances * torch.arange(size + 1)).sum())
    deviation = math.sqrt(float((chances * torch.arange(size + 1) ** 2).sum()) - mean**2)
    assert on.double().mean() == pytest.approx(mean, abs=4.5 * deviation / math.sqrt(number))
    assert on.double().std() == pytest.approx(deviation, rel=0.03)
    places = drawn.flatten(1).double().mean(dim=0)  # and no place is another's better
    assert torch.allclose(places, torch.full((25,), mean / size).double(), atol=0.02, rtol=0)


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


def test_filters_are_almost_all_of_one_mind_at_a_tenth() -> None:
    drawn, hard = filters(0.1, seed=0)
    on = drawn.flatten(1).double().mean(dim=1)
    assert 1 - on.mean() == pytest.approx(0.9, abs=2e-3)
    assert int((on == 0).sum()) == pytest.approx(34, abs=3)
    assert int((on == 1).sum()) >= 3
    assert ((on > 0.5) == hard).all()


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


def test_the_halves_of_one_channel_are_of_its_places() -> None:
    assert first_half((8, 16, 3, 3)) == 72
    assert first_half((8, 3, 3, 3)) == 9  # one channel against two
    assert first_half((8, 1, 3, 3)) == 4
    assert first_half((8, 1, 1, 1)) == 0
    start = torch.tensor([True, False, True])
    random = torch.Generator().manual_seed(0)
    field = 0.1 * torch.randn(3, 1, 3, 3, generator=random)
    cold = draw_filters(field, 10.0, 5.0, start, 3, random)
    assert torch.equal(cold, start.reshape(3, 1, 1, 1).expand(3, 1, 3, 3))


def test_a_filter_of_one_weight_stays_what_its_norm_says() -> None:
    start = torch.tensor([True, False] * 500)
    field = torch.zeros(1000, 1, 1, 1)
    drawn = draw_filters(field, 1e-3, 1.0, start, 2, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.flatten(), start)


@pytest.mark.parametrize(("strength", "one", "other"), [(0.003, 72, 72), (0.1, 9, 18), (0.2, 3, 6)])
def test_after_enough_sweeps_the_start_is_forgotten(strength: float, one: int, other: int) -> None:
    sweeps, number = int(enough(strength, one, other)), 3000
    assert 1 < sweeps < 50
    field = 0.05 * torch.randn(one + other, generator=torch.Generator().manual_seed(7))

    def draw(on: bool, sweeps: int) -> Tensor:
        numbers = torch.rand(
            number, sweeps, one + other, generator=torch.Generator().manual_seed(0)
        )
        start = torch.full((number,), on)
        return _gibbs._sweep(field.repeat(number, 1), one, 1.0, strength, start, numbers)

    assert torch.equal(draw(True, sweeps), draw(False, sweeps))
    assert not torch.equal(draw(True, 1), draw(False, 1))


def test_a_strong_coupling_may_remember_its_start_for_ever() -> None:
    assert enough(2 / 72, 72, 72) == math.inf
    assert enough(0.0, 5, 5) == 1


@pytest.mark.parametrize("unit", ["weight", "kernel", "filter"])
def test_the_pieces_change_no_draw(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = weights(13, 6).float()

    def draw() -> Tensor:
        random = torch.Generator().manual_seed(3)
        if unit == "weight":
            return draw_weights(threshold(squares, 4, 0.7) - squares, 60.0, random)
        if unit == "kernel":
            return draw_kernels(threshold(squares, 2, 0.7) - squares, 20.0, 0.01, random)
        q = threshold(squares, 1, 0.7)
        return draw_filters(q - squares, 0.1, 1.0, unit_means(squares, 1) >= q, 7, random)

    whole = draw()
    assert 0 < whole.float().mean() < 1
    for size in (1, 100, 1000, 3000):
        monkeypatch.setattr(_gibbs, "CHUNK", size)
        assert torch.equal(draw(), whole)


@pytest.mark.parametrize("units", [1, 2, 7, 10, 256, 2304])
def test_as_many_units_are_kept_as_lie_at_or_above_the_threshold(units: int) -> None:
    scores = torch.rand(units, generator=torch.Generator().manual_seed(units))
    for pruned in (0.0, 0.1, 1 / 3, 0.5, 0.7, 0.9, 0.999, 1.0):
        above = scores >= np.percentile(scores.double().numpy(), 100 * pruned) - 1e-9
        assert kept_units(units, pruned) == int(above.sum())
        assert int((scores >= threshold(scores, 1, pruned)).sum()) == int(above.sum())


def test_nothing_and_everything_pruned() -> None:
    squares = weights(6, 5)
    assert threshold(squares, 4, 0.0) == squares.min()
    assert threshold(squares, 4, 1.0) == squares.max()
    assert kept_units(270, 0.0) == 270
    assert kept_units(270, 1.0) == 1


def test_equal_weights_never_harden() -> None:
    squares = torch.full((4, 4, 3, 3), 0.3)
    for pruned, beta in itertools.product((0.1, 0.9), (1.0, 1e4, 1e8)):
        field = threshold(squares, 4, pruned) - squares
        assert (off_probability(field, beta) == 0.5).all()
