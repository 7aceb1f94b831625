"""Optuna's samplers by name, seeded so that a study goes on where it stopped."""

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler

from prunenas.architecture import Space
from prunenas.search.budgeted import BudgetedSampler
from prunenas.spec import Study

_FEW = 10
"""Trials that tpe and gp draw at random before they learn; a study of no more learns nothing."""

_BUDGETED_TRIALS = 1000
"""Beyond, its covariance takes longer than what it is worth."""

_GP_TRIALS = 200
"""Where a Gaussian process is still quick: a proposal after 300 trials takes it seconds."""

_NSGA2_TRIALS = 500
"""From here on a population has generations enough; before, its trials are spent on few."""


def resolved(study: Study, space: Space) -> str:
    """The sampler that a study means: its own, or for ``auto`` the first of these that fits.

    ============  ==================================================================================
    ``budgeted``  one method, FLOPs that are known before training (it follows given ratios, or
                  there is a budget or a range), latency decides nothing, and at most 1,000 trials
    ``tpe``       several methods (parameters of one don't exist for another; the others ignore
                  that)
    ``qmc``       at most 10 trials: too few to learn from, so spread evenly
    ``nsga2``     two objectives or three, and more than 500 trials
    ``gp``        at most 200 trials, numbers alone, and no stopper (a Gaussian process learns
                  nothing from a stopped trial)
    ``tpe``       everything else
    ============  ==================================================================================

    docs/search_benchmark.md has the figures behind the first line.

    Args:
        study: Its methods, objective, trials and stopper decide.
        space: The channel groups of its dense network.
    """
    del space  # decides nothing any more; a rule by the number of groups would need it
    search = study.search
    if search.sampler != "auto":
        return search.sampler
    if study.unbudgeted is None and search.trials <= _BUDGETED_TRIALS:
        return "budgeted"
    if len(study.methods) > 1:
        return "tpe"
    if search.trials <= _FEW:
        return "qmc"
    if study.objective.costs and search.trials > _NSGA2_TRIALS:
        return "nsga2"
    numeric = all(domain.choices is None for domain in study.methods[0].searched.values())
    small = search.trials <= _GP_TRIALS and search.stopper == "none"
    return "gp" if small and numeric else "tpe"


def _mixed(seed: int, trial: int) -> int:
    return int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])


def _tpe(study: Study, space: Space, seed: int, trial: int) -> BaseSampler:
    del study, space
    # Multivariate, because good widths depend on each other; grouped, because the parameters of
    # one method don't exist for another.
    return optuna.samplers.TPESampler(seed=_mixed(seed, trial), multivariate=True, group=True)


def _nsga2(study: Study, space: Space, seed: int, trial: int) -> BaseSampler:
    del study, space
    return optuna.samplers.NSGAIISampler(seed=_mixed(seed, trial), population_size=20)


def _gp(study: Study, space: Space, seed: int, trial: int) -> BaseSampler:
    del study, space
    return optuna.samplers.GPSampler(seed=_mixed(seed, trial))


def _random(study: Study, space: Space, seed: int, trial: int) -> BaseSampler:
    del study, space
    return RandomSampler(seed=_mixed(seed, trial))


class _Point(QMCSampler):
    """One point of a scrambled Sobol sequence: a trial's is the one of its number.

    Optuna counts points in the storage as they are drawn, so that a trial that was interrupted
    and goes on would draw another one.
    """

    def __init__(self, seed: int, trial: int) -> None:
        super().__init__(
            seed=seed,
            scramble=True,
            independent_sampler=RandomSampler(seed=_mixed(seed, trial)),
            warn_asynchronous_seeding=False,
            warn_independent_sampling=False,
        )
        self._point = trial

    def _find_sample_id(
        self, study: optuna.Study, search_space: dict[str, BaseDistribution]
    ) -> int:
        del study, search_space
        return self._point


def _point(study: Study, space: Space, seed: int, trial: int) -> BaseSampler:
    del study, space
    return _Point(seed, trial)


SAMPLERS: Mapping[str, Callable[[Study, Space, int, int], BaseSampler]] = {
    "budgeted": BudgetedSampler,
    "tpe": _tpe,
    "nsga2": _nsga2,
    "gp": _gp,
    "random": _random,
    "qmc": _point,
}
"""From a sampler's name to what makes it for a study, from its seed and a trial's number."""


def sampler(name: str, seed: int, trial: int, study: Study, space: Space) -> BaseSampler:
    """The sampler that proposes one trial.

    Each trial has a sampler of its own, seeded by the study's seed and the trial's number: Optuna
    does not keep a sampler's random state, so that a resumed study would repeat the proposals of
    its beginning. What a sampler learns, it learns from the stored trials.

    Args:
        name: One of ``SAMPLERS``.
        seed: The study's seed, at least 0.
        trial: The trial's number, at least 0.
        study: What is searched.
        space: The channel groups of its dense network.
    """
    with warnings.catch_warnings():  # of options that Optuna calls experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](study, space, seed, trial)
