"""Which training comes next: hand-computed cases, brute force, and a simulated crew."""

import itertools
import random

import pytest

from prunenas.search.schedule import WINDOW, Next, Schedule, Standing, ranked
from prunenas.search.stoppers import epoch_at

RUNGS = (1 / 9, 3 / 9, 1.0)


def paused(number: int, accuracy: float, rung: int = 0) -> Standing:
    """A trial that waits at a rung; its accuracies grow by a tenth from rung to rung."""
    jobs = tuple((number + 100 * r, r) for r in range(rung + 1))
    reached = tuple(accuracy + r / 10 for r in range(rung + 1))
    return Standing(number, False, jobs, False, (), reached)


def test_without_fidelity_trials_are_begun_until_there_are_enough() -> None:
    schedule = Schedule(3, (1.0,))
    done = [Standing(n, False, ((n, 0),), False, (), (0.5,)) for n in range(3)]
    assert [schedule.next(done[:n]) for n in range(3)] == [Next(None, 0, n) for n in range(3)]
    assert schedule.next(done) is None


def test_a_third_goes_on_the_best_first() -> None:
    schedule = Schedule(6, RUNGS)
    standings = [paused(0, 0.5), paused(1, 0.9)]
    assert schedule.next(standings) == Next(None, 0, 2)  # a third of two is none
    standings.append(paused(2, 0.7))
    assert schedule.next(standings) == Next(1, 1, 3)
    standings[1] = Standing(1, False, ((1, 0), (3, 1)), True, (), (0.9,))
    assert schedule.next(standings) == Next(None, 0, 4)
    standings += [paused(n, 0.1) for n in (4, 5, 6)]
    assert schedule.next(standings) == Next(2, 1, 7)


def test_the_highest_rung_comes_first() -> None:
    schedule = Schedule(9, RUNGS)
    standings = [paused(n, 0.5 + n / 100, rung=1) for n in range(3)]
    standings += [paused(3, 0.99)]
    assert schedule.next(standings) == Next(2, 2, 103)


def test_of_a_small_study_one_trial_arrives() -> None:
    schedule = Schedule(2, RUNGS)
    standings = [paused(0, 0.5), paused(1, 0.9)]
    assert schedule.next(standings) == Next(1, 1, 2)
    standings[1] = Standing(1, False, ((1, 0), (2, 1)), True, (), (0.9,))
    assert schedule.next(standings) is None  # wait for it
    standings[1] = Standing(1, False, ((1, 0), (2, 1)), False, (), (0.9, 0.95))
    assert schedule.next(standings) == Next(1, 2, 3)
    standings[1] = Standing(1, False, ((1, 0), (2, 1), (3, 2)), False, (), (0.9, 0.95, 0.97))
    assert schedule.next(standings) is None


def test_what_failed_is_in_nobodys_way() -> None:
    schedule = Schedule(3, RUNGS)
    failed = Standing(2, False, ((2, 0),), False)
    assert schedule.next([paused(0, 0.5), paused(1, 0.9), failed]) == Next(1, 1, 3)


def _brute_front(points: list[tuple[float, int]]) -> set[int]:
    return {
        i
        for i, (a, f) in enumerate(points)
        if not any(b >= a and g <= f and (b, g) != (a, f) for b, g in points)
    }


def test_the_front_is_ranked_first_and_its_ends_before_its_middle() -> None:
    rng = random.Random(0)
    for _ in range(200):
        points = [(rng.randrange(6) / 6, rng.randrange(6)) for _ in range(rng.randrange(1, 9))]
        order = ranked(points)
        assert sorted(order) == list(range(len(points)))
        front = _brute_front(points)
        assert set(order[: len(front)]) == front
        best = max(points, key=lambda p: (p[0], -p[1]))
        assert best in [points[i] for i in order[: max(2, len(front))]]
    # A front of four: its ends, then the one with more room. 0.2 + 20/30 against 0.5 + 10/30 …
    assert ranked([(0.1, 0), (0.2, 10), (0.3, 20), (0.9, 30)]) == [0, 3, 2, 1]


class Crew:
    """Workers that end their trainings in random order, and write down what a study would."""

    def __init__(self, schedule: Schedule, workers: int, seed: int) -> None:
        self.schedule, self.workers = schedule, workers
        self.random = random.Random(seed)
        self.trials: list[Standing] = []
        self.decided: list[tuple[Next, frozenset[int]]] = []

    def run(self) -> list[tuple[Next, frozenset[int]]]:
        while True:
            while sum(s.running for s in self.trials) < self.workers:
                decided = self.schedule.next(self.trials)
                if decided is None:
                    break
                self.begin(decided)
            running = [s for s in self.trials if s.running]
            if not running:
                return self.decided
            self.end(self.random.choice(running))

    def begin(self, decided: Next) -> None:
        seen = self.schedule.visible(self.trials, decided.job)
        self.decided.append((decided, seen))
        if decided.trial is None:
            number = len(self.trials)
            self.trials.append(Standing(number, False, ((decided.job, 0),), True))
        else:
            old = self.trials[decided.trial]
            jobs = (*old.jobs, (decided.job, decided.rung))
            self.trials[old.number] = Standing(
                old.number, False, jobs, True, old.costs, old.accuracies
            )

    def end(self, trial: Standing) -> None:
        fate = random.Random(trial.number)
        flops, base, gain = fate.randrange(5, 50), fate.random() / 2, fate.random() / 4
        rung = trial.jobs[-1][1]
        fails_at = fate.choice([0, 1, 2, 9, 9, 9, 9, 9])  # keeps what it reached before
        reached = tuple(base + gain * r for r in range(min(fails_at, rung + 1)))
        self.trials[trial.number] = Standing(
            trial.number, False, trial.jobs, False, (flops,), reached
        )


@pytest.mark.parametrize("rungs", [(1.0,), RUNGS])
def test_any_number_of_workers_decides_the_same(rungs: tuple[float, ...]) -> None:
    schedule = Schedule(40, rungs, window=WINDOW)
    first = Crew(schedule, 1, 0).run()
    assert sum(decided.trial is None for decided, _ in first) == 40
    for workers, seed in itertools.product((2, 5, WINDOW, 20), range(4)):
        assert Crew(schedule, workers, seed).run() == first


def test_every_share_of_a_rung_arrives_in_the_end() -> None:
    crew = Crew(Schedule(81, RUNGS), 4, 1)
    crew.run()
    # Late comers displace earlier choices: asynchronous halving promotes some more than a third.
    for rung in (0, 1):
        reached = [trial for trial in crew.trials if len(trial.accuracies) > rung]
        promoted = [trial for trial in reached if trial.jobs[-1][1] > rung]
        assert len(reached) // 3 <= len(promoted) <= len(reached) // 3 * 2


def test_rungs_are_shares_of_a_training_of_any_length() -> None:
    assert [epoch_at(share, 9) for share in RUNGS] == [1, 3, 9]
    assert [epoch_at(share, 18) for share in RUNGS] == [2, 6, 18]  # as under scratch_b
