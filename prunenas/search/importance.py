"""What a study's figures depend on: parameters and widths, by how much of the spread is theirs.

Source: Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
Importance", ICML 2014 (functional ANOVA over a random forest), as Optuna has it.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from prunenas.search.view import StudyView
from prunenas.trial import Record

ENOUGH = 10
"""Complete trials below which a forest has nothing to say."""


def parameter_importance(view: StudyView) -> dict[str, dict[str, float]]:
    """Return for each method how much of its accuracies' spread each parameter explains.

    Args:
        view: The study.

    Returns:
        By method, for those with `ENOUGH` complete trials, the share in [0, 1] of each parameter
        that took several values, the largest first; shares add up to 1.
    """
    found = {}
    for method in dict.fromkeys(record.method for record in view.records):
        trained = [
            record
            for record in view.records
            if record.method == method and record.state == "complete"
        ]
        points = [dict(record.parameters) for record in trained]
        if shares := importance(points, _accuracies(trained)):
            found[method] = shares
    return found


def width_importance(view: StudyView) -> dict[str, float]:
    """Return how much of the accuracies' spread each channel group's width explains.

    Over the trials of all methods: what counts is the width, whoever chose it.

    Returns:
        By group; empty with fewer than `ENOUGH` complete trials that have all groups.
    """
    groups = view.dense_widths.keys()
    trained = [
        record
        for record in view.records
        if record.state == "complete" and record.ratios.keys() >= groups
    ]
    points = [{group: record.ratios[group] for group in groups} for record in trained]
    return importance(points, _accuracies(trained))


def importance(points: Sequence[Mapping[str, Any]], values: Sequence[float]) -> dict[str, float]:
    """Return how much of the values' spread each coordinate explains.

    Args:
        points: Coordinates by name; those that not all points have are left out.
        values: One for each point.

    Returns:
        The share in [0, 1] of each coordinate that takes several values, the largest first; empty
        with fewer than `ENOUGH` points, or where the values are all equal.
    """
    if len(points) < ENOUGH or len(set(values)) < 2:
        return {}
    shared = [name for name in points[0] if all(name in point for point in points)]
    domains = {name: _domain([point[name] for point in points]) for name in shared}
    known = {name: domain for name, domain in domains.items() if domain is not None}
    if not known:
        return {}
    # Not above: it brings scikit-learn, which every run would wait for that writes a report.
    from optuna.importance import FanovaImportanceEvaluator

    study = _quietly(points, values, known)
    shares = FanovaImportanceEvaluator(seed=0).evaluate(study)
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()} if total else {}


def _quietly(
    points: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    domains: Mapping[str, BaseDistribution],
) -> optuna.Study:
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)  # it tells of every study that is made
    try:
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params={name: point[name] for name in domains},
                    distributions=dict(domains),
                    value=value,
                )
                for point, value in zip(points, values, strict=True)
            ]
        )
    finally:
        logger.setLevel(level)
    return study


def _domain(values: Sequence[Any]) -> BaseDistribution | None:
    different = list(dict.fromkeys(values))
    if len(different) < 2:
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in different):
        return FloatDistribution(float(min(different)), float(max(different)))
    return CategoricalDistribution(different)


def _accuracies(records: Sequence[Record]) -> list[float]:
    return [record.accuracy or 0.0 for record in records]
