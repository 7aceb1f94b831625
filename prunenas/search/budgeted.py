"""The sampler ``budgeted``: FLOPs are known, accuracy is learnt, the front is made to grow.

Optuna's samplers see two unknown objectives. Here one of them is a closed form, so that a Gaussian
process of accuracy is all there is to learn, and the expected growth of the front's hypervolume is
exact (``surrogate``). Each trial draws candidates (random proportions at random FLOPs, and changes
of the front's members), refines the most promising, and proposes the best of them. Under one budget
all cost the same, and what is left is the expected improvement over the best.

docs/search_benchmark.md says what that is worth, and what of it was measured.
"""

from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from prunenas.architecture import Space
from prunenas.search.coordinates import Coordinates
from prunenas.search.experience import Experience
from prunenas.search.surrogate import Floats, Surrogate, expected_gain, front_rows
from prunenas.search.wishes import distributions
from prunenas.spec import Study

_FEW = 3
"""Complete trials below which proposals are random."""

_DRAWN = 256  # candidates of either kind
_ROUNDS, _BEST, _CHILDREN = 2, 8, 16  # of refinement: how often, of how many, how many of each
_STEP = 0.5  # standard deviation of a change, in logarithms of a ratio
_CHANGED = 4  # coordinates that a change concerns, of many
_LEAST = 1e-3  # FLOPs share down to which targets are drawn, however narrow networks can be


class BudgetedSampler(BaseSampler):
    """Proposes one trial of a study that ``Study.unbudgeted`` has nothing against.

    It reads what the Optuna study answers and nothing else, and remembers nothing.

    Args:
        study: What is searched.
        space: The channel groups of its dense network.
        seed: At least 0; the study's.
        trial: The trial's number, at least 0; with the seed it decides what is drawn.
    """

    def __init__(self, study: Study, space: Space, seed: int, trial: int) -> None:
        self._study, self._space = study, space
        mixed = np.random.SeedSequence([seed, trial])
        self._random = np.random.default_rng(mixed)
        self._independent = RandomSampler(seed=int(mixed.generate_state(1)[0]))

    @cached_property
    def _coordinates(self) -> Coordinates:
        return Coordinates(self._study, self._space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All that a trial is asked."""
        del study, trial
        return distributions(self._study, self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The most promising candidate's parameters."""
        past = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        axes = self._coordinates.axes
        chosen = self._chosen(Experience.of(past, self._coordinates))
        values = {axis.name: axis.value(c) for axis, c in zip(axes, chosen.tolist(), strict=True)}
        return {name: values[name] for name in search_space}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _chosen(self, known: Experience) -> Floats:
        """The proposal's point, shape (axes,)."""
        points = self._coordinates.nearest(self._anew(known.floor))
        if known.complete < _FEW:
            return self._fresh(points, np.zeros(len(points)), known)
        model = Surrogate.fit(known.features, known.errors)
        if len(known.running):  # taken to come out as expected: no second one is sent after it
            model = model.told(known.running, model.predict(known.running)[0])
        # The front as the model believes it: a lucky seed must not close the door behind it.
        believed = model.predict(model.points)[0]
        worth = self._worth(np.r_[known.shares, known.running_shares])
        front = front_rows(worth, -believed)

        def gains(points: Floats) -> Floats:
            features, shares = self._coordinates.reached(points)
            mean, deviation = model.predict(features)
            gain = expected_gain(
                self._worth(shares), mean, deviation, worth[front], believed[front]
            )
            return np.where(shares <= self._most, gain, -1.0)

        count = len(known.points)
        parents = known.points[front_rows(worth[:count], -believed[:count])]
        near = self._changed(parents[self._random.integers(len(parents), size=_DRAWN)], known.floor)
        points = np.concatenate([points, near])
        gain = gains(points)
        for _ in range(_ROUNDS):
            best = points[np.argsort(-gain, kind="stable")[:_BEST]]
            children = self._changed(np.repeat(best, _CHILDREN, axis=0), known.floor)
            points = np.concatenate([points, children])
            gain = np.r_[gain, gains(children)]
        return self._fresh(points, gain, known)

    def _fresh(self, points: Floats, gain: Floats, known: Experience) -> Floats:
        """The point of the highest gain whose architecture was not tried yet; else of the highest.

        Of equal gains the first.
        """
        best_first = points[np.argsort(-gain, kind="stable")]
        new = (row for row, key in enumerate(known.keys(best_first)) if key not in known.tried)
        found: Floats = best_first[next(new, 0)]
        return found

    @property
    def _most(self) -> float:
        """The largest FLOPs share that is asked for, and a little for rounding."""
        bounds = self._study.objective.range or (0.0, 1.0)
        return bounds[1] + 1e-9

    def _worth(self, shares: Floats) -> Floats:
        """Shares of the largest FLOPs that are of use; nothing to save where a budget is met."""
        if self._study.objective.budget is not None:
            return np.zeros_like(shares)
        return np.minimum(shares / self._most, 1.0)

    def _targets(self, count: int, floor: float) -> Floats:
        """FLOPs shares, even by their logarithm."""
        least, most = self._coordinates.extremes
        low, high = self._study.objective.range or (_LEAST, 1.0)
        high = min(high, most)
        low = min(high, max(low, floor, least))
        return np.exp(self._random.uniform(np.log(low), np.log(high), count))

    def _anew(self, floor: float) -> Floats:
        """Random points; where no budget is given, at random FLOPs."""
        where = self._coordinates
        points = self._random.uniform(where.lows, where.highs, (_DRAWN, len(where.axes)))
        targets = self._targets(_DRAWN, floor)
        if where.target is not None:
            points[:, where.target] = np.log(targets)
        elif where.ratios.any() and not where.projected:
            points = where.moved(points, targets)
        return points

    def _changed(self, points: Floats, floor: float) -> Floats:
        """Points with a few coordinates changed, in the search space."""
        where = self._coordinates
        step = self._random.normal(0, _STEP, points.shape)
        step[self._random.random(points.shape) > _CHANGED / max(1, len(where.axes))] = 0
        changed = points + step
        for index, axis in enumerate(where.axes):
            if axis.choices:
                drawn = self._random.integers(axis.choices, size=len(points))
                changed[:, index] = np.where(step[:, index] != 0, drawn, points[:, index])
        if where.target is not None:
            low = max(floor, where.extremes[0])
            changed[:, where.target] = np.maximum(changed[:, where.target], np.log(low))
        return where.nearest(changed)
