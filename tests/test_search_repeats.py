"""Repeats as arithmetic: means, standard errors, ranks and the winner's curse, by other means."""

import random

import pytest
import scipy.stats
from cli_samples import infeasible, record

from prunenas.search.curse import Curse, curse
from prunenas.search.repeats import (
    Repeat,
    Repeats,
    are_judged,
    candidates,
    final_front,
    progress,
    ranked,
    seeds,
    standard_error,
)
from prunenas.trial import Record

BOTH, ONE = ("flops",), ()


def repeat(seed: int, accuracy: float | None, reason: str | None = None) -> Repeat:
    return Repeat(seed, accuracy, reason, 4, 8.0, "2026-01-01T00:00:08+00:00")


def judged(
    number: int, *accuracies: float | None, search: float = 0.9, ratio: float = 0.5
) -> Repeats:
    """A candidate with these accuracies of fresh seeds; None is a training that failed."""
    trainings = tuple(
        repeat(seed, accuracy, None if accuracy is not None else "non-finite loss")
        for seed, accuracy in enumerate(accuracies, 100)
    )
    return Repeats(record(number, accuracy=search, flops_ratio=ratio), trainings)


def numbers(all_: tuple[Repeats, ...]) -> list[int]:
    return [each.record.number for each in all_]


def test_mean_and_standard_error_are_those_of_a_calculation_by_hand() -> None:
    """0.90, 0.92, 0.97: deviations -0.03, -0.01, 0.04, squares 0.0026, over 2 and then 3."""
    one = judged(0, 0.90, 0.92, 0.97)
    assert one.mean == pytest.approx(0.93)
    assert one.standard_error == pytest.approx((0.0026 / 2 / 3) ** 0.5)
    assert one.n == 3
    failed = judged(0, 0.90, None, 0.97)
    assert (failed.mean, failed.n) == (pytest.approx(0.935), 2)
    assert judged(0, 0.9).standard_error is None
    assert judged(0, None).mean is None


def test_standard_errors_are_scipys() -> None:
    dice = random.Random(0)
    for size in (2, 3, 10):
        values = [dice.random() for _ in range(size)]
        assert standard_error(values) == pytest.approx(scipy.stats.sem(values))


def test_seeds_are_what_sha256sum_gives() -> None:
    """``printf 'repeat 1 of seed 3' | sha256sum | cut -c1-8``, as a number, halved."""
    assert seeds(3, 3) == (1713921483, 506193833, 1732457025)
    assert seeds(3, 2) == seeds(3, 3)[:2]
    for study in (0, 1, 1713921483):
        found = seeds(study, 50)
        assert len({*found, study}) == 51
        assert all(0 <= seed < 2**31 for seed in found)


def test_with_two_objectives_candidates_are_the_front_by_brute_force() -> None:
    dice = random.Random(1)
    records: list[Record] = [infeasible(0)]
    for number in range(1, 60):
        values = {"accuracy": dice.randint(1, 9) / 10, "flops_ratio": dice.randint(1, 9) / 10}
        records.append(record(number, **values))
    records.append(record(60, accuracy=1.0, flops_ratio=0.05, state="stopped"))
    done = [each for each in records if each.state == "complete"]
    front = [
        one.number
        for one in done
        if not any(
            other.accuracy >= one.accuracy
            and other.flops <= one.flops
            and (
                (other.accuracy, other.flops) != (one.accuracy, one.flops)
                or other.number < one.number
            )
            for other in done
            if other is not one
        )
    ]
    assert [each.number for each in candidates(records, BOTH)] == front
    earlier = next(each.number for each in done if each.number not in front)
    kept = [each.number for each in candidates(records, BOTH, {earlier})]
    assert kept == sorted([*front, earlier])


def test_with_one_objective_they_are_the_five_best_different_architectures() -> None:
    accuracies = [0.91, 0.95, 0.95, 0.90, 0.95, 0.94, 0.93, 0.92]
    records = [record(n, accuracy=accuracy) for n, accuracy in enumerate(accuracies)]
    records[2] = record(2, accuracy=0.95, digest=records[1].digest)  # the same network again
    records[4] = record(4, accuracy=0.95, flops_ratio=0.4)
    assert [each.number for each in candidates(records, ONE)] == [1, 4, 5, 6, 7]
    assert [each.number for each in candidates(records[:2], ONE)] == [0, 1]


def test_candidates_stand_by_their_means() -> None:
    lucky = judged(0, 0.90, 0.92, search=0.99)
    steady = judged(1, 0.93, 0.95, search=0.95)
    cheaper = judged(2, 0.93, 0.95, search=0.94, ratio=0.25)
    single = judged(3, 0.99, None, search=0.98)  # one seed: may be luck
    broken = judged(4, None, None, search=0.97)
    everyone = (lucky, steady, cheaper, single, broken)
    assert numbers(ranked(everyone)) == [2, 1, 0, 3, 4]
    assert numbers(final_front(everyone, ONE)) == [2]
    assert are_judged(everyone, 2)
    assert not are_judged(everyone, 3)  # the single one has a seed left that might be its second
    assert progress(everyone, 3) == (10, 15)
    assert progress(everyone, 0) == (10, 10)


def test_the_final_front_is_that_of_means_by_brute_force() -> None:
    dice = random.Random(2)
    everyone = tuple(
        judged(n, dice.random(), dice.random(), search=0.9, ratio=dice.uniform(0.1, 1))
        for n in range(40)
    )
    front = {
        one.record.number
        for one in everyone
        if not any(
            sum(other.accuracies) >= sum(one.accuracies)
            and (other.record.flops or 0) <= (one.record.flops or 0)
            for other in everyone
            if other is not one
        )
    }
    found = numbers(final_front(everyone, BOTH))
    assert set(found) == front
    assert len(found) == len(front) < 40


def test_the_winners_curse_is_a_mean_of_differences() -> None:
    """Differences 0.02, 0.04 and 0.00: mean 0.02, s = 0.02."""
    everyone = (
        judged(0, 0.87, 0.89, search=0.90),
        judged(1, 0.90, 0.92, search=0.95),
        judged(2, 0.93, 0.93, search=0.93),
        judged(3, 0.1, None, search=0.99),  # one seed does not count
    )
    found = curse(everyone)
    assert found is not None
    assert (found.mean, found.standard_error) == pytest.approx((0.02, 0.02 / 3**0.5))
    assert found.n == 3
    assert not found.is_clear
    assert "No winner's curse is seen" in found.sentence()
    assert curse((judged(0, None, 0.9),)) is None
    alone = curse((judged(0, 0.87, 0.89, search=0.90),))
    assert alone == Curse(pytest.approx(0.02), None, 1)
    assert "0.0200 above" in alone.sentence()
    assert "0.0300 ± 0.0100 above" in Curse(0.03, 0.01, 4).sentence()
    assert "undersold" in Curse(-0.03, 0.01, 4).sentence()


def test_it_shows_where_the_best_were_chosen_and_not_where_none_were() -> None:
    """200 networks that are all as good: the five best scores are luck, five others are not."""
    dice = random.Random(3)
    clear_best = clear_others = 0
    for _ in range(200):
        scores = [dice.gauss(0.9, 0.01) for _ in range(200)]
        fresh = [[dice.gauss(0.9, 0.01) for _ in range(3)] for _ in scores]
        order = sorted(range(200), key=scores.__getitem__, reverse=True)
        best = curse(judged(n, *fresh[n], search=scores[n]) for n in order[:5])
        others = curse(judged(n, *fresh[n], search=scores[n]) for n in range(5))
        assert best is not None
        assert others is not None
        # The five highest of 200 normal values lie 2.2 standard deviations up on average.
        assert best.mean == pytest.approx(0.022, abs=0.015)
        clear_best += best.is_clear
        clear_others += others.is_clear
    assert clear_best == 200
    assert clear_others < 40  # Student's t with 4 degrees of freedom: 12 % beyond 2, of 200
