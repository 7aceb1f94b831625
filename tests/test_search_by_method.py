"""Methods side by side: figures against calculations by hand."""

import json
from math import sqrt

import pytest
from cli_samples import infeasible, record, view

from prunenas.search.by_method import by_method
from prunenas.search.repeats import Repeat, Repeats

BUDGET = {
    "objective": {"maximize": "accuracy", "flops_ratio": 0.5},
    "directions": ("maximize",),
}
DECLARED = {"methods": [{"name": name} for name in ("fpgm", "taylor", "uniform", "netadapt")]}


def repeated(number: int, *accuracies: float | None, method: str, search: float) -> Repeats:
    trainings = tuple(
        Repeat(seed, accuracy, None if accuracy else "dead", 4, 6.0, "2026-01-01T00:00:08+00:00")
        for seed, accuracy in enumerate(accuracies)
    )
    return Repeats(record(number, method=method, accuracy=search), trainings)


def test_figures_are_those_of_a_calculation_by_hand() -> None:
    study = view(
        record(0, method="taylor", accuracy=0.80, flops_ratio=0.5),
        record(1, method="taylor", accuracy=0.86, flops_ratio=0.4),
        record(2, method="taylor", accuracy=0.83, flops_ratio=0.3),
        record(3, method="taylor", accuracy=0.99, state="stopped"),
        record(4, method="taylor", accuracy=None, state="failed"),
        **BUDGET,
    )
    (taylor,) = by_method(study)
    assert taylor.mean == pytest.approx(0.83)
    assert taylor.deviation == pytest.approx(0.03)  # sqrt((0.03² + 0.03² + 0) / (3 - 1))
    assert taylor.flops_ratio == pytest.approx(0.4)
    assert (taylor.n, taylor.states) == (3, {"complete": 3, "stopped": 1, "failed": 1})
    assert taylor.best is study.records[1]
    assert taylor.hypervolume is None  # one objective has no front


def test_an_architecture_counts_once_however_often_it_was_proposed() -> None:
    first = record(0, method="uniform", accuracy=0.7)
    again = record(1, method="uniform", accuracy=0.7, digest=first.digest)
    other = record(2, method="fpgm", accuracy=0.7, digest=first.digest)  # found by another one too
    uniform, fpgm = by_method(view(first, again, other, **BUDGET))
    assert (uniform.states, uniform.n) == ({"complete": 2}, 1)
    assert (uniform.mean, uniform.deviation) == (0.7, None)  # not 0: of one nothing is known
    assert fpgm.n == 1


def test_under_a_budget_the_best_mean_is_first_and_the_untried_are_last() -> None:
    study = view(
        record(0, method="taylor", accuracy=0.95),
        record(1, method="taylor", accuracy=0.75),
        record(2, method="fpgm", accuracy=0.90),
        infeasible(3),
        settings=DECLARED,
        **BUDGET,
    )
    assert [each.method for each in by_method(study)] == [
        "fpgm",
        "taylor",
        "uniform",
        "netadapt",
        "l1_norm",  # of the infeasible trial; the study's own order among those without a mean
    ]


def test_of_two_objectives_areas_decide_and_the_front_is_shared_out() -> None:
    records = [
        record(0, method="taylor", accuracy=0.9, flops_ratio=0.5),
        record(1, method="taylor", accuracy=0.8, flops_ratio=0.25),
        record(2, method="taylor", accuracy=0.7, flops_ratio=0.75),  # beaten by its own
        record(3, method="fpgm", accuracy=0.95, flops_ratio=0.8),
    ]
    front = (records[1], records[0], records[3])
    taylor, fpgm = by_method(view(*records, front=front))
    # Right of 0.5: 0.9 high; from 0.25 to 0.5: 0.8 high.
    assert taylor.hypervolume == pytest.approx(0.5 * 0.9 + 0.25 * 0.8)
    assert fpgm.hypervolume == pytest.approx(0.2 * 0.95)
    assert fpgm.mean is not None
    assert taylor.mean is not None
    assert fpgm.mean > taylor.mean  # dearer, so its mean alone says nothing
    assert (taylor.on_front, fpgm.on_front) == (2, 1)
    told = taylor.to_dict()
    assert told["front_share"] == pytest.approx(2 / 3)
    assert told["hypervolume"]["reference"] == {"flops_ratio": 1.0, "accuracy": 0.0}
    assert told["best"]["trial"] == 0
    assert told["accuracy"]["standard_deviation"] == pytest.approx(0.1)
    assert json.loads(json.dumps(told)) == told


def test_fresh_seeds_are_those_of_the_methods_own_candidates() -> None:
    all_ = (
        repeated(0, 0.90, 0.92, method="taylor", search=0.99),
        repeated(1, 0.93, 0.97, method="taylor", search=0.98),
        repeated(2, 0.80, None, method="fpgm", search=0.97),  # one seed has no standard error
    )
    study = view(
        *(each.record for each in all_),
        record(3, method="uniform", accuracy=0.5),
        repeats=all_,
        repeats_total=2,
        trials_total=4,
        **BUDGET,
    )
    taylor, fpgm, uniform = by_method(study)
    assert taylor.fresh_mean == pytest.approx((0.91 + 0.95) / 2)
    assert [each.record.number for each in taylor.fresh] == [1, 0]
    assert taylor.to_dict()["fresh_seeds"]["best"] == {
        "trial": 1,
        "mean": pytest.approx(0.95),
        "standard_error": pytest.approx(sqrt(2 * 0.02**2) / sqrt(2)),
        "n": 2,
    }
    assert taylor.on_front == 1  # the best by means
    assert (fpgm.fresh, uniform.fresh) == ((), ())
    assert fpgm.to_dict()["fresh_seeds"] == {"candidates": 0, "mean": None, "best": None}


def test_a_study_without_trials_has_its_methods() -> None:
    empty = by_method(view(settings=DECLARED))
    assert [each.method for each in empty] == ["fpgm", "taylor", "uniform", "netadapt"]
    assert empty[0].to_dict() == {
        "method": "fpgm",
        "trials": {},
        "architectures": 0,
        "accuracy": {"mean": None, "standard_deviation": None, "n": 0},
        "flops_ratio": None,
        "best": None,
        "on_front": 0,
        "front_share": None,
        "hypervolume": {"value": 0.0, "reference": {"flops_ratio": 1.0, "accuracy": 0.0}},
        "fresh_seeds": {"candidates": 0, "mean": None, "best": None},
    }
