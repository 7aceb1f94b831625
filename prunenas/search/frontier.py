"""The sampler ``frontier``: FLOPs are known, accuracy is learnt, the front is made to grow.

Optuna's samplers see two unknown objectives. Here one of them is a closed form, so that a Gaussian
process of accuracy over the logarithms of the ratios is all there is to learn, and the expected
growth of the front's hypervolume is exact (``surrogate``). Each trial draws candidates (random
proportions at random FLOPs, and changes of the front's members) and proposes the best of them.
docs/search_benchmark.md says what that is worth.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from prunenas.architecture import Space
from prunenas.search.surrogate import Floats, front_rows, most_promising
from prunenas.search.wishes import nearest
from prunenas.spec import Study
from prunenas.trial import Candidate

_FEW = 3
"""Complete trials below which proposals are random."""

_DRAWN = 192  # candidates of either kind
_STEP = 0.5  # standard deviation of a change, in logarithms of a ratio
_CHANGED = 4  # ratios that a change concerns, of many
_BISECTIONS = 12


def fits(study: Study) -> bool:
    """Whether a study is one that the sampler knows: one method, ratios and nothing else."""
    entry = study.methods[0]
    only = len(study.methods) == 1 and not entry.searched
    return only and entry.kind.takes_ratios and entry.space.widths is not None


class FrontierSampler(BaseSampler):
    """Proposes one trial of a study that ``fits``.

    Args:
        study: What is searched.
        space: The channel groups of its dense network.
        trial: The trial's number; with the study's seed it decides what is drawn.
    """

    def __init__(self, study: Study, space: Space, trial: int) -> None:
        self._study, self._space = study, space
        self._entry = study.methods[0]
        widths = self._entry.space.widths
        assert widths is not None
        self._widths = widths
        self._knobs = widths.knobs(space.groups)
        self._low, self._high = math.log(widths.ratio.low), math.log(widths.ratio.high)
        mixed = np.random.SeedSequence([study.search.seed, trial])
        self._random = np.random.default_rng(mixed)
        self._independent = RandomSampler(seed=int(mixed.generate_state(1)[0]))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Everything that was searched so far."""
        del trial
        return optuna.search_space.IntersectionSearchSpace().calculate(study)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The most promising candidate's parameters; none before there is something to learn."""
        del trial
        records = [
            record
            for past in study.get_trials(deepcopy=False)
            if (record := past.user_attrs.get("record")) and record["state"] == "complete"
        ]
        if len(records) < _FEW or not self._knobs:
            return {}
        points = np.array([self._point(record["ratios"]) for record in records])
        accuracies = np.array([record["accuracy"] for record in records])
        shares = np.array([record["flops_ratio"] for record in records])
        tried = {tuple(point) for point in points.tolist()}
        parents = points[front_rows(self._worth(shares), accuracies)]
        found = [
            (candidate, point, share)
            for candidate, point, share in self._candidates(parents)
            if tuple(point.tolist()) not in tried
        ]
        if not found:
            return {}
        best = most_promising(
            points,
            accuracies,
            self._worth(shares),
            np.array([point for _, point, _ in found]),
            self._worth(np.array([share for _, _, share in found])),
        )
        chosen = found[best][0].parameters
        return {name: chosen[name] for name in search_space if name in chosen}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _worth(self, shares: Floats) -> Floats:
        """Shares of the largest FLOPs that are of use; nothing to save where a budget is met."""
        objective = self._study.objective
        if objective.budget is not None:
            return np.zeros_like(shares)
        return np.minimum(shares / (objective.range[1] if objective.range else 1.0), 1.0)

    def _point(self, ratios: Any) -> Floats:
        """Logarithms of the ratios that an architecture has, one for each knob."""
        return np.array(
            [np.mean([math.log(ratios[g]) for g in groups]) for groups in self._knobs.values()]
        )

    def _candidates(self, parents: Floats) -> Iterator[tuple[Candidate, Floats, float]]:
        """Points of the search space, with the architectures they come to."""
        for logs, share in self._drawn(parents):
            ratios = dict(zip(self._knobs, np.exp(logs).tolist(), strict=True))
            share = self._share(logs) if share is None else share

            def wish(name: str, ratios: dict[str, float] = ratios) -> float | None:
                return ratios.get(name.removeprefix("ratio/"))

            candidate = nearest(self._study, self._space, self._entry, wish, share)
            if candidate is None or candidate.ratios is None:
                continue
            widths = self._space.widths(candidate.ratios)
            dense = self._space.dense
            reached = {group: width / dense.widths[group] for group, width in widths.items()}
            yield candidate, self._point(reached), self._space.flops(widths) / dense.flops

    def _drawn(self, parents: Floats) -> Iterator[tuple[Floats, float | None]]:
        """Logarithms of ratios, and the FLOPs share they were moved to, where they were."""
        count = len(self._knobs)
        objective = self._study.objective
        low, high = objective.range or (self._share_of_all(self._low), 1.0)
        for _ in range(_DRAWN):
            target = objective.budget or math.exp(
                self._random.uniform(math.log(low), math.log(high))
            )
            yield self._moved(self._random.uniform(self._low, self._high, count), target), target
        for parent in parents[self._random.integers(len(parents), size=_DRAWN)]:
            step = self._random.normal(0, _STEP, count)
            step[self._random.random(count) > _CHANGED / count] = 0
            logs = np.clip(parent + step, self._low, self._high)
            if objective.budget is not None:
                yield self._moved(logs, objective.budget), objective.budget
            else:
                yield logs, None

    def _moved(self, logs: Floats, target: float) -> Floats:
        """The same proportions at a FLOPs share, as far as the bounds of ratios allow."""
        span = self._high - self._low
        under, over = -span, span
        for _ in range(_BISECTIONS):
            middle = (under + over) / 2
            moved = np.clip(logs + middle, self._low, self._high)
            under, over = (middle, over) if self._share(moved) <= target else (under, middle)
        return np.clip(logs + under, self._low, self._high)

    def _share(self, logs: Floats) -> float:
        settings = dict(zip(self._knobs, np.exp(logs).tolist(), strict=True))
        ratios = self._widths.ratios(self._space.groups, settings)
        return self._space.flops(self._space.widths(ratios)) / self._space.dense.flops

    def _share_of_all(self, log: float) -> float:
        return self._share(np.full(len(self._knobs), log))
