"""What earlier trials teach: points, features, errors, and what is under way."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from prunenas.search.coordinates import Coordinates
from prunenas.search.surrogate import Floats, log_errors
from prunenas.trial import Record


@dataclass(frozen=True)
class Experience:
    """The trials of a study, as the model takes them.

    =========== ===================================================================================
    complete    its accuracy
    failed      the lowest accuracy that is known: what is near it is avoided, not forbidden
    stopped     no accuracy, but it is not proposed again; to extrapolate its curve did not help
                (docs/search_benchmark.md)
    infeasible  no FLOPs target as low as its own is asked for again
    running     no accuracy yet; the model's own expectation stands for it, and it is not proposed
                again
    =========== ===================================================================================

    Attributes:
        where: The study's coordinates.
        points: Of trials with an accuracy, shape (trials, axes).
        features: What they came to, shape (trials, features).
        errors: Logarithms of the shares they get wrong, shape (trials,).
        shares: Their FLOPs as shares of the dense network's, shape (trials,).
        complete: How many of them were trained to the end.
        running: Features of trials under way, shape (running, features).
        running_shares: Their FLOPs as shares of the dense network's, shape (running,).
        tried: Keys of all that needs no second trial.
        floor: FLOPs share at and below which nothing is feasible; 0 where all that is known is.
    """

    where: Coordinates
    points: Floats
    features: Floats
    errors: Floats
    shares: Floats
    complete: int
    running: Floats
    running_shares: Floats
    tried: frozenset[tuple[float, ...]]
    floor: float

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], where: Coordinates) -> Self:
        """What trials teach; those whose parameters are not all asked yet teach nothing."""
        told: list[tuple[Floats, Record]] = []
        running: list[Floats] = []
        for trial in trials:
            point = where.of(trial.params)
            if point is not None and "record" in trial.user_attrs:
                told.append((point, Record.from_dict(trial.user_attrs["record"])))
            elif point is not None and trial.state == TrialState.RUNNING:
                running.append(point)
        derived = [(point, record) for point, record in told if record.architecture is not None]
        known = [(point, r) for point, r in derived if r.state in ("complete", "failed")]
        accuracies = [r.accuracy for _, r in known if r.state == "complete"]
        lowest = min((a for a in accuracies if a is not None), default=0.0)
        under_way, shares = where.reached(_stacked(running, where))
        # As their parameters come to it, too: a projection's last channels are not foreseen.
        foreseen, _ = where.reached(_stacked([point for point, _ in derived], where))
        reached = [where.learnt(point, record.ratios) for point, record in derived]
        learnt = [where.learnt(point, record.ratios) for point, record in known]
        return cls(
            where=where,
            points=_stacked([point for point, _ in known], where),
            features=np.array(learnt).reshape(-1, foreseen.shape[1]),
            errors=log_errors(
                np.array([r.accuracy if r.state == "complete" else lowest for _, r in known], float)
            ),
            shares=np.array([record.flops_ratio for _, record in known], dtype=float),
            complete=len(accuracies),
            running=under_way,
            running_shares=shares,
            tried=frozenset(_rounded(row) for row in [*foreseen, *reached, *under_way]),
            floor=_floor([point for point, r in told if r.state == "infeasible"], where),
        )

    def keys(self, points: Floats) -> list[tuple[float, ...]]:
        """For each point what is the same for others of its architecture and hyperparameters."""
        return [_rounded(row) for row in self.where.reached(points)[0]]


def _stacked(points: list[Floats], where: Coordinates) -> Floats:
    return np.array(points).reshape(-1, len(where.axes))


def _floor(infeasible: list[Floats], where: Coordinates) -> float:
    if where.target is None or not infeasible:
        return 0.0
    return float(np.exp(max(point[where.target] for point in infeasible))) * (1 + 1e-6)


def _rounded(features: Floats) -> tuple[float, ...]:
    return tuple(np.round(features, 9).tolist())
