"""Which training comes next: a new trial, or a promising one a rung further.

Without fidelity there is one rung, the whole training. With ``fidelity: [2, 5, 15]`` there are
three: a trial pauses at the end of epoch 2 and of epoch 5, and goes on from its checkpoint once it
is promoted. The rule is that of asynchronous successive halving (Li et al., "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2), with two changes:

- "Best" are those in the first non-dominated sets of accuracy at the rung and the study's costs
  (FLOPs, latency), within a set those that stand more alone (Deb et al., NSGA-II, 2002: rank, then
  crowding distance); by accuracy alone where nothing is minimized beside it.
- The share promoted is the ratio of two rungs' epochs, 2/5 and 5/15 here, so that every rung gets
  the same compute.

Starts of a study (see ``starts``) are never paused: a study must not end worse than they are.

**Deterministic studies.** Trainings have numbers in the order in which they were decided. With a
window W, training k is decided from the results of trainings 0 … k - W, all of which have ended,
and of nothing else. So any number of workers decides the same; at most W can be busy.

Everything here is a function of values: no clock, no storage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 8
"""Trainings of a deterministic study that may run at a time."""


@dataclass(frozen=True)
class Standing:
    """How far a trial has come.

    Attributes:
        number: The trial's.
        start: Whether it is one of the study's starts.
        jobs: Number and rung of each training it was given, in order.
        running: Whether the last of them has not ended.
        costs: Of its architecture, what the study minimizes; None where there is none.
        accuracies: At the end of each rung it has reached; empty where it came to nothing.
    """

    number: int
    start: bool
    jobs: tuple[tuple[int, int], ...]
    running: bool
    costs: tuple[float, ...] | None = None
    accuracies: tuple[float, ...] = ()


@dataclass(frozen=True)
class Next:
    """What to do: begin a new trial (``trial`` is None) or promote one; as training ``job``."""

    trial: int | None
    rung: int
    job: int


@dataclass(frozen=True)
class Schedule:
    """The rule for one study.

    Attributes:
        trials: How many it asks for.
        rungs: Ends of the rungs as ascending shares of a training; the last is 1.
        window: How many trainings may run at a time, of a deterministic study; None: decide from
            whatever is known.
    """

    trials: int
    rungs: tuple[float, ...]
    window: int | None = None

    def next(self, standings: Sequence[Standing]) -> Next | None:
        """What comes next; None while nothing can be decided, and at the end.

        Args:
            standings: One entry for each trial that has begun.
        """
        job = 1 + max((number for s in standings for number, _ in s.jobs), default=-1)
        unfinished = [s.jobs[-1][0] for s in standings if s.running]
        new = len(standings) < self.trials
        if self.window is None:
            return self._decided(standings, job, job, new, final=not new and not unfinished)
        # While there are new trials the last result to be looked at is training job - W's. Then
        # one more at a time: the first that gives something to do.
        for last in range(job - self.window, job):
            if any(number <= last for number in unfinished):
                return None
            final = not new and last == job - 1
            decided = self._decided(standings, job, last, new, final=final)
            if decided is not None:
                return decided
        return None

    def visible(self, standings: Sequence[Standing], job: int) -> frozenset[int]:
        """Trials whose end may be known when a training is decided or judged."""
        return frozenset(
            s.number
            for s in standings
            if s.jobs
            and not s.running
            and (self.window is None or s.jobs[-1][0] <= job - self.window)
        )

    def _decided(
        self, standings: Sequence[Standing], job: int, last: int, new: bool, *, final: bool
    ) -> Next | None:
        for rung in range(len(self.rungs) - 2, -1, -1):
            pool = [
                s
                for s in standings
                if len(s.accuracies) > rung
                and s.costs is not None
                and any(number <= last and to >= rung for number, to in _ended(s))
            ]
            kept = math.floor(len(pool) * self.rungs[rung] / self.rungs[rung + 1] + 1e-9)
            if final:
                kept = max(1, kept)  # of a small study too, someone must arrive
            points = [(s.accuracies[rung], *(s.costs or ())) for s in pool]
            for index in ranked(points)[:kept]:
                if pool[index].jobs[-1][1] <= rung:
                    return Next(pool[index].number, rung + 1, job)
        return Next(None, 0, job) if new else None


def _ended(standing: Standing) -> tuple[tuple[int, int], ...]:
    return standing.jobs[:-1] if standing.running else standing.jobs


def ranked(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Indices of (accuracy, costs ...) from best to worst: non-dominated sets, the crowded last.

    >>> ranked([(0.5, 10), (0.9, 20), (0.4, 30), (0.7, 15)])
    [0, 1, 3, 2]
    """
    left = list(range(len(points)))
    order: list[int] = []
    while left:
        front = [i for i in left if not any(_dominates(points[j], points[i]) for j in left)]
        alone = _crowding([points[i] for i in front])
        order += [i for _, i in sorted(zip([-a for a in alone], front, strict=True))]
        left = [i for i in left if i not in front]
    return order


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    cheaper = all(a <= b for a, b in zip(one[1:], other[1:], strict=True))
    return one != other and one[0] >= other[0] and cheaper


def _crowding(points: Sequence[tuple[float, ...]]) -> list[float]:
    """How much room each point of one non-dominated set has; the ends have all."""
    room = [0.0] * len(points)
    for axis in range(len(points[0])):
        values = [point[axis] for point in points]
        order = sorted(range(len(points)), key=lambda i: (values[i], i))
        span = values[order[-1]] - values[order[0]]
        room[order[0]] = room[order[-1]] = math.inf
        if span > 0:
            for before, here, after in zip(order, order[1:], order[2:], strict=False):
                room[here] += (values[after] - values[before]) / span
    return room
