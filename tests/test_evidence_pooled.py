"""Verdicts over methods against scipy, and how often whole simulated tables are wrong."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from made_comparisons import compared, comparison
from scipy.stats import ttest_1samp, ttest_rel

from prunenas.evidence.comparison import Compared
from prunenas.evidence.statistics import ALPHA
from prunenas.spec import Arm

rng = np.random.default_rng(11)

AUTOMATIC = ("network_slimming", "trainable_gates", "magnitude")
PREDEFINED = ("l1_norm", "fpgm")
ARMS: tuple[Arm, ...] = ("fine_tuned", "scratch_e")


def drawn(mean: float, deviation: float, n: int) -> list[float]:
    return [float(value) for value in rng.normal(mean, deviation, n)]


def test_means_over_methods_are_paired_over_seeds() -> None:
    n = 5
    values = {
        name: {arm: drawn(0.9, 0.01, n) for arm in ARMS} for name in (*AUTOMATIC, *PREDEFINED)
    }
    part = compared(values)
    found = part.pooled(comparison(list(values), ARMS, n))
    assert [(each.kind, each.rows) for each in found] == [("predefined", 2), ("automatic", 3)]
    plain = []
    for each, names in zip(found, (PREDEFINED, AUTOMATIC), strict=True):
        first, second = (np.mean([values[name][arm] for name in names], axis=0) for arm in ARMS)
        assert each.verdict.pairs.n == n
        assert each.verdict.pairs.mean == pytest.approx(float(np.mean(second - first)))
        plain.append(
            (
                ttest_rel(second, first).pvalue,
                ttest_1samp(second - first, -0.005, alternative="greater").pvalue,
            )
        )
    # Holm of two: the smaller twice, the larger once and not below it.
    for index, given in enumerate(
        ([e.verdict.p_different for e in found], [e.p_not_worse for e in found])
    ):
        p = [each[index] for each in plain]
        twice = min(1.0, 2 * min(p))
        expected = [twice if value == min(p) else max(twice, value) for value in p]
        assert given == pytest.approx(expected)


def test_only_seeds_that_all_rows_have_count_and_one_row_is_no_pool() -> None:
    part = compared(
        {
            "network_slimming": {"fine_tuned": [0.1, 0.2, 0.3], "scratch_e": [0.2, 0.3, 0.4]},
            "magnitude": {"fine_tuned": [0.1, None, 0.3], "scratch_e": [0.4, 0.9, 0.6]},
            "l1_norm": {"fine_tuned": [0.1, 0.2, 0.3], "scratch_e": [0.1, 0.2, 0.4]},
        }
    )
    (found,) = part.pooled(comparison(["network_slimming", "magnitude", "l1_norm"], ARMS, 3))
    assert (found.kind, found.rows, found.verdict.pairs.n) == ("automatic", 2, 2)
    assert found.verdict.pairs.mean == pytest.approx((0.1 + 0.3) / 2)


def test_at_least_as_good_can_be_told_where_nothing_else_can() -> None:
    """Leads of 0 to 4 points: no difference for sure, but never half a point behind."""
    leads = [0.0, 0.005, 0.04, 0.02, 0.0]
    rows = {
        name: {"fine_tuned": [0.9] * 5, "scratch_e": [0.9 + lead for lead in leads]}
        for name in ("network_slimming", "magnitude")
    }
    (found,) = compared(rows).pooled(comparison(list(rows), ARMS, 5))
    assert found.verdict.outcome == "no difference"
    assert found.sentence == "Scratch-E not worse by 0.005 at n = 5"
    expected = ttest_1samp(leads, -0.005, alternative="greater").pvalue
    assert found.p_not_worse == pytest.approx(expected)
    behind = {
        name: {"fine_tuned": arms["scratch_e"], "scratch_e": arms["fine_tuned"]}
        for name, arms in rows.items()
    }
    (found,) = compared(behind).pooled(comparison(list(rows), ARMS, 5))
    assert found.sentence == "no difference at n = 5"


def table(n: int, shift: float = 0.0) -> Compared:
    """Rows that share controls and luck of seeds; ``shift`` is what scratch is ahead by."""
    luck = rng.normal(0.9, 0.01, n)

    def arm(mean: float) -> Sequence[float]:
        return [float(value) for value in luck + rng.normal(mean, 0.004, n)]

    rows = {
        name: {"fine_tuned": arm(0.0), "scratch_e": arm(shift), "guided": arm(shift)}
        for name in AUTOMATIC
    }
    return compared(rows, beside={"uniform": arm(0.0), "random": arm(0.0)})


def test_whole_tables_with_nothing_in_them_are_rarely_wrong() -> None:
    """Rows share their controls, so that their answers depend on each other; Holm allows that."""
    asked = comparison(AUTOMATIC, ("fine_tuned", "scratch_e", "uniform", "random", "guided"), 5)
    tables, wrong, pooled = 300, 0, 0
    for _ in range(tables):
        part = table(5)
        (rows, together) = part.rows(asked), part.pooled(asked)
        assert len(rows[0].answers) == 5
        assert len(together) == 5
        wrong += any(
            answer.verdict.outcome in ("better", "worse") for row in rows for answer in row.answers
        )
        pooled += any(each.verdict.outcome in ("better", "worse") for each in together)
    error = math.sqrt(ALPHA * (1 - ALPHA) / tables)
    assert wrong / tables < ALPHA + 3 * error
    assert pooled / tables < ALPHA + 3 * error


def test_what_rows_can_not_tell_alone_they_tell_together() -> None:
    """A point ahead in each of three rows, with 0.6 points of noise in each difference."""
    asked = comparison(AUTOMATIC, ("fine_tuned", "scratch_e"), 5)
    alone = together = 0
    for _ in range(100):
        part = table(5, shift=0.01)
        row = part.rows(asked)[0]
        alone += row.answers[0].verdict.outcome == "better"
        together += part.pooled(asked)[0].verdict.outcome == "better"
    assert together > alone + 20
