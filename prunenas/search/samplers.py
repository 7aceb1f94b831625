"""Optuna's samplers by name, seeded so that a study goes on where it stopped."""

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import optuna
from optuna.samplers import BaseSampler


def _tpe(seed: int) -> BaseSampler:
    # Multivariate, because good widths depend on each other; grouped, because the parameters of
    # one method don't exist for another.
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)


def _nsga2(seed: int) -> BaseSampler:
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)


def _gp(seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed)


def _random(seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "nsga2": _nsga2,
    "gp": _gp,
    "random": _random,
}
"""From a sampler's name in a study file to what makes it from a seed."""


def sampler(name: str, seed: int, trial: int) -> BaseSampler:
    """The sampler that proposes one trial.

    Each trial has a sampler of its own, seeded by the study's seed and the trial's number: Optuna
    does not keep a sampler's random state, so that a resumed study would repeat the proposals of
    its beginning. What a sampler learns, it learns from the stored trials.

    Args:
        name: One of ``SAMPLERS``.
        seed: The study's seed, at least 0.
        trial: The trial's number, at least 0.
    """
    mixed = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
    with warnings.catch_warnings():  # of options that Optuna calls experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](mixed)
