"""Importances: made studies in which one thing explains everything, and Optuna's own answer."""

import math
import random

import optuna
import pytest
from made_views import GROUPS, record, view
from optuna.distributions import FloatDistribution
from optuna.importance import FanovaImportanceEvaluator

from prunenas.search.importance import (
    ENOUGH,
    importance,
    parameter_importance,
    width_importance,
)
from prunenas.trial import Record


def made(trials: int, explained_by: str, seed: int = 0) -> list[Record]:
    """Trials whose accuracy is a function of one parameter and of the group ``conv2`` alone."""
    draw = random.Random(seed)
    found = []
    for number in range(trials):
        parameters = {"keep": draw.uniform(0.1, 0.9), "sparsity": draw.uniform(0.0, 1.0)}
        ratios = {name: draw.uniform(0.2, 1.0) for name in GROUPS}
        value = {**parameters, **ratios}[explained_by]
        found.append(record(number, parameters=parameters, ratios=ratios, accuracy=0.5 + value / 4))
    return found


def test_the_one_parameter_that_explains_everything_gets_nearly_all() -> None:
    study = view(made(40, "sparsity"))
    found = parameter_importance(study)["l1_norm"]
    assert list(found) == ["sparsity", "keep"]  # the largest first
    assert found["sparsity"] > 0.9
    assert math.isclose(sum(found.values()), 1.0)


def test_the_one_width_that_explains_everything_gets_nearly_all() -> None:
    found = width_importance(view(made(40, "conv2")))
    assert found.keys() == GROUPS.keys()
    assert max(found, key=lambda name: found[name]) == "conv2"
    assert found["conv2"] > 0.85


def test_it_is_optunas_own_answer() -> None:
    draw = random.Random(4)
    points = [{"a": draw.random(), "b": draw.random()} for _ in range(25)]
    values = [3 * point["a"] ** 2 - point["b"] for point in points]
    domains = {
        name: FloatDistribution(
            min(point[name] for point in points), max(point[name] for point in points)
        )
        for name in ("a", "b")
    }
    study = optuna.create_study(direction="maximize")
    for point, value in zip(points, values, strict=True):
        study.add_trial(
            optuna.trial.create_trial(params=point, distributions=dict(domains), value=value)
        )
    expected = optuna.importance.get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=0)
    )
    assert importance(points, values) == pytest.approx(expected)


def test_words_are_importances_too_and_what_never_varies_is_left_out() -> None:
    draw = random.Random(1)
    points = [
        {"scope": draw.choice(["global", "layer"]), "keep": draw.random(), "steps": 3}
        for _ in range(30)
    ]
    found = importance(points, [float(point["scope"] == "global") for point in points])
    assert list(found) == ["scope", "keep"]
    assert found["scope"] > 0.9


def test_where_nothing_can_be_said_nothing_is() -> None:
    points = [{"a": index / 10} for index in range(ENOUGH)]
    assert importance(points[1:], [0.1 * index for index in range(1, ENOUGH)]) == {}  # too few
    assert importance(points, [0.5] * ENOUGH) == {}  # all alike
    assert importance([{"a": 1.0}] * ENOUGH, [float(index) for index in range(ENOUGH)]) == {}
    failed = [record(n, state="failed", accuracy=None) for n in range(30)]
    assert parameter_importance(view(failed)) == {}
    assert width_importance(view(failed)) == {}
