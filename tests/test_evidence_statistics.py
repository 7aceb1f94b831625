"""Paired tests against scipy's, corrections by hand, and how often verdicts are wrong."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp, ttest_rel

from prunenas.evidence.statistics import ALPHA, Paired, holm, paired, verdicts

rng = np.random.default_rng(5)


def by_seed(values: np.ndarray) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values)}


def drawn(mean: float, deviation: float, n: int) -> Paired:
    values = by_seed(rng.normal(mean, deviation, n))
    return paired(dict.fromkeys(values, 0.0), values)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_p_of_a_difference_is_scipys(n: int) -> None:
    one, other = rng.normal(0.9, 0.01, n), rng.normal(0.91, 0.01, n)
    pairs = paired(by_seed(one), by_seed(other))
    expected = ttest_rel(other, one)
    assert pairs.p_different() == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert pairs.interval() == pytest.approx((low, high))
    assert pairs.effect == pytest.approx(expected.statistic / math.sqrt(n))


@pytest.mark.parametrize("shift", [-0.004, 0.0, 0.002, 0.008])
def test_the_p_of_being_as_good_is_that_of_two_one_sided_tests(shift: float) -> None:
    values = rng.normal(shift, 0.003, 6)
    pairs = paired(dict.fromkeys(range(6), 0.0), by_seed(values))
    below = ttest_1samp(values, 0.005, alternative="less").pvalue
    above = ttest_1samp(values, -0.005, alternative="greater").pvalue
    assert pairs.p_as_good(0.005) == pytest.approx(max(below, above))


def test_only_seeds_that_both_have_make_pairs() -> None:
    pairs = paired({0: 0.5, 1: 0.6, 2: 0.7}, {1: 0.7, 2: 0.9, 3: 0.1})
    assert (pairs.n, pairs.mean) == (2, pytest.approx(0.15))
    with pytest.raises(ValueError, match="seed that both have"):
        paired({0: 0.5}, {1: 0.5})


def test_one_pair_tells_nothing() -> None:
    pairs = paired({0: 0.5}, {0: 0.9})
    assert pairs.deviation is None
    assert pairs.effect is None
    assert pairs.interval() is None
    assert verdicts([pairs])[0].outcome == "no difference"


def test_of_equal_differences_only_the_signs_count() -> None:
    """Five accuracies of a small test split may differ by one image each, by chance."""
    for n in (2, 5, 8):
        first = {seed: 0.1 * seed for seed in range(n)}
        pairs = paired(first, {seed: value + 0.01 for seed, value in first.items()})
        assert pairs.deviation == 0.0  # whatever is left of 0.3 + 0.01 - 0.3
        assert pairs.effect is None
        assert pairs.interval() is None
        assert pairs.p_different() == pytest.approx(binomtest(n, n, 0.5).pvalue)
        assert pairs.p_as_good(0.02) == pytest.approx(0.5**n)
        assert pairs.p_as_good(0.005) == 1.0
    assert Paired(5, 0.0, 0.0).p_different() == 1.0
    few, many = Paired(5, 0.02, 0.0), Paired(8, 0.02, 0.0)
    assert [verdicts([each])[0].outcome for each in (few, many)] == ["no difference", "better"]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_small_test_splits_do_not_raise_the_error_rate(n: int) -> None:
    """Accuracies of 360 images that each differ by an image or two: many ties, and few seeds."""
    draw, tables, wrong = np.random.default_rng(3), 3000, 0
    for _ in range(tables):
        one, other = (np.round(draw.normal(324, 1.0, n)) / 360 for _ in range(2))
        outcome = verdicts([paired(by_seed(one), by_seed(other))])[0].outcome
        wrong += outcome in ("better", "worse")
    assert wrong / tables < ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / tables)


def test_holm_by_hand() -> None:
    """Of Holm's rule: 0.01 × 4, 0.02 × 3, 0.03 × 2 (not below the one before), 0.04 × 1."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_sentence_says_who_and_at_what_n() -> None:
    better, worse, alike, unknown = verdicts(
        [Paired(5, 0.02, 0.002), Paired(5, -0.02, 0.002), Paired(5, 0.0, 0.001), Paired(5, 0.01, 1)]
    )
    assert better.sentence("fine-tuned", "scratch") == "scratch better at n = 5"
    assert worse.sentence("fine-tuned", "scratch") == "fine-tuned better at n = 5"
    assert alike.sentence("fine-tuned", "scratch") == "scratch as good at n = 5"
    assert unknown.sentence("fine-tuned", "scratch") == "no difference at n = 5"


def rate(of: set[str], mean: float, *, rows: int = 4, tables: int = 1500) -> float:
    """Share of simulated tables in which any row comes to one of these outcomes."""
    hits = sum(
        any(each.outcome in of for each in verdicts([drawn(mean, 0.004, 5) for _ in range(rows)]))
        for _ in range(tables)
    )
    return hits / tables


def test_tables_with_nothing_in_them_claim_a_difference_as_rarely_as_stated() -> None:
    """Of 1,500 tables of four rows; within three standard errors of the stated rate."""
    found = rate({"better", "worse"}, 0.0)
    error = math.sqrt(ALPHA * (1 - ALPHA) / 1500)
    assert ALPHA - 4 * error < found < ALPHA + 3 * error


def test_rows_at_the_margin_claim_to_be_as_good_as_rarely_as_stated() -> None:
    error = math.sqrt(ALPHA * (1 - ALPHA) / 1500)
    assert rate({"as good"}, 0.005) < ALPHA + 3 * error


def test_what_is_there_is_found() -> None:
    """Two points with deviations of 0.4: t has 4 degrees of freedom and lies near 11."""
    assert rate({"better"}, 0.02, rows=1, tables=200) > 0.95
