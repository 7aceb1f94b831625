"""What earlier trials teach: points, features, accuracies, and what is under way."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from prunenas.architecture import Space
from prunenas.search.coordinates import Coordinates
from prunenas.search.stoppers import Curve, curves_of
from prunenas.search.surrogate import Floats, log_errors
from prunenas.spec import Study
from prunenas.trial import Record

_ENOUGH = 5  # complete curves from which stopped ones are extrapolated


@dataclass(frozen=True)
class Experience:
    """The trials of a study, as the model takes them.

    =========== ===================================================================================
    complete    its accuracy
    stopped     the accuracy that complete trials came to from where it stood, with a doubt
    failed      the lowest accuracy that is known: what is near it is avoided, not forbidden
    infeasible  no FLOPs target as low as its own is asked for again
    running     not an accuracy yet; nor is its architecture proposed twice
    =========== ===================================================================================

    Attributes:
        where: The study's coordinates.
        points: Of trials with an accuracy, shape (trials, axes).
        features: What they came to, shape (trials, features).
        errors: Logarithms of the shares they get wrong, shape (trials,).
        shares: Their FLOPs as shares of the dense network's, shape (trials,).
        doubts: Variances of ``errors`` beyond the noise of a training, shape (trials,).
        complete: Rows of those that were trained to the end.
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
    doubts: Floats
    complete: tuple[int, ...]
    running: Floats
    running_shares: Floats
    tried: frozenset[tuple[float, ...]]
    floor: float

    @classmethod
    def of(
        cls, trials: Iterable[FrozenTrial], study: Study, space: Space, where: Coordinates
    ) -> Self:
        """What trials teach; those whose parameters are not all asked yet teach nothing."""
        rows: list[tuple[Floats, Record]] = []
        running: list[Floats] = []
        for trial in trials:
            point = where.of(trial.params)
            if point is None:
                continue
            if "record" in trial.user_attrs:
                rows.append((point, Record.from_dict(trial.user_attrs["record"])))
            elif trial.state == TrialState.RUNNING:
                running.append(point)
        floor = 0.0
        if where.target is not None:
            infeasible = [point[where.target] for point, r in rows if r.state == "infeasible"]
            floor = float(np.exp(max(infeasible))) * (1 + 1e-6) if infeasible else 0.0
        rows = [(point, record) for point, record in rows if record.architecture is not None]
        features = [where.learnt(point, record.ratios) for point, record in rows]
        guesses = _guesses([record for _, record in rows], study, space)
        known = [(row, *guess) for row, guess in enumerate(guesses) if guess is not None]
        under_way = np.array(running).reshape(-1, len(where.axes))
        reached = where.reached(under_way)
        # As their parameters come to it, too: a projection's last channels are not foreseen.
        again = where.reached(np.array([point for point, _ in rows]).reshape(-1, len(where.axes)))
        return cls(
            where=where,
            points=np.array([rows[row][0] for row, *_ in known]).reshape(-1, len(where.axes)),
            features=np.array([features[row] for row, *_ in known]).reshape(-1, again[0].shape[1]),
            errors=np.array([error for _, error, _ in known]),
            shares=np.array([rows[row][1].flops_ratio for row, *_ in known], dtype=float),
            doubts=np.array([doubt for *_, doubt in known]),
            complete=tuple(
                index for index, (row, *_) in enumerate(known) if rows[row][1].state == "complete"
            ),
            running=reached[0],
            running_shares=reached[1],
            tried=frozenset(_rounded(row) for row in [*features, *again[0], *reached[0]]),
            floor=floor,
        )

    def key(self, point: Floats) -> tuple[float, ...]:
        """What is the same for points of the same architecture and hyperparameters."""
        return _rounded(self.where.reached(point[None])[0][0])


def _guesses(
    records: Sequence[Record], study: Study, space: Space
) -> Iterator[tuple[float, float] | None]:
    """For each record the logarithm of its error, and the doubt in it; None where none is known."""
    complete = [record for record in records if record.state == "complete"]
    dense = space.dense.flops
    curves = curves_of(complete, study.train, dense)
    last = log_errors(np.array([record.accuracy for record in complete], dtype=float))
    for record in records:
        if record.state == "complete" and record.accuracy is not None:
            yield float(log_errors(np.array(record.accuracy))), 0.0
        elif record.state == "failed" and len(last):
            yield float(last.max()), float(last.var())
        elif record.state == "stopped":
            yield _extrapolated(curves_of([record], study.train, dense)[0], curves, last)
        else:
            yield None


def _extrapolated(
    curve: Curve, others: Sequence[Curve], last: Floats
) -> tuple[float, float] | None:
    """Where a stopped training would have come to, as a line through the complete ones says."""
    share = len(curve.accuracies) / curve.epochs
    then = log_errors(np.array([other.at(share) for other in others], dtype=float))
    if not curve.accuracies or len(then) < _ENOUGH or then.std() == 0:
        return None
    slope, base = np.polyfit(then, last, 1)
    left = float(((last - base - slope * then) ** 2).sum() / (len(last) - 2))
    own = float(log_errors(np.array(curve.accuracies[-1])))
    return min(0.0, float(base + slope * own)), left


def _rounded(features: Floats) -> tuple[float, ...]:
    return tuple(np.round(features, 9).tolist())
