"""What a federated comparison says, on trainings made by hand."""

import pytest
import torch

from prunenas.data import Statistics
from prunenas.evidence.federated import Federated, SeedResult, Spread
from prunenas.federated import FederatedRun, History, Point, RoundReport, TimeModel
from prunenas.pictures import FederatedCurve, federated_picture
from prunenas.spec import FederatedComparison

TIME = TimeModel(constant=2.0, layers={"weight": 0.5}, seconds_per_byte=0.01)


def training(accuracies: list[float], seconds: float, kept: int) -> FederatedRun:
    """A round for each accuracy; each takes so many seconds and keeps so many of ten weights."""
    history = History()
    for number, accuracy in enumerate(accuracies, 1):
        history.reports.append(
            RoundReport(
                round=number,
                seconds=seconds,
                kept={"weight": kept},
                density=kept / 10,
                sent=200 * kept,
                received=100 * kept,
                loss=1.0,
                replied=(0, 1),
                failed={},
                refused={},
                reconfigured=number == len(accuracies),
            )
        )
        history.points.append(
            Point(number, number * seconds, accuracy, 1.0, kept / 10, history.sent, 0)
        )
    mask = torch.arange(10) < kept
    return FederatedRun(history, "digest", {"weight": mask}, {"weight": mask.float()})


@pytest.fixture
def done() -> Federated:
    comparison = FederatedComparison.model_validate(
        {
            "name": "made",
            "model": {"name": "lenet_300_100"},
            "data": {"name": "digits"},
            "federation": {"rounds": 4, "clients": 2},
            "strategies": ["prunefl", "conventional"],
            "seeds": 2,
        }
    )
    results = {
        # Conventional's targets: means of the last three, 0.625 and 0.5.
        ("conventional", 0): SeedResult(training([0.25, 0.5, 0.625, 0.75], 7.0, 10), 0.75),
        ("conventional", 1): SeedResult(training([0.125, 0.375, 0.5, 0.625], 7.0, 10), 0.65),
        ("prunefl", 0): SeedResult(training([0.25, 0.625, 0.5, 0.875], 3.0, 2), 0.85),
        ("prunefl", 1): SeedResult(training([0.25, 0.25, 0.375, 0.4375], 3.0, 4), 0.55),
    }
    counts = torch.tensor([[5, 0], [0, 5]])
    return Federated(comparison, results, 10, TIME, Statistics(counts))


def test_who_reaches_conventional_accuracy_and_when(done: Federated) -> None:
    assert done.target(0) == 0.625
    assert done.target(1) == 0.5
    reached = done.reached("prunefl", 0)
    assert reached is not None
    assert reached.round == 2  # a later dip doesn't matter
    assert done.reached("prunefl", 1) is None
    prunefl, conventional = done.rows()
    assert prunefl.reached == Spread(6.0, None, 1)
    assert prunefl.ratio == Spread(pytest.approx(6 / 21), None, 1)
    assert conventional.reached == Spread(21.0, 0.0, 2)
    assert conventional.ratio == Spread(1.0, 0.0, 2)


def test_the_other_columns(done: Federated) -> None:
    prunefl, _ = done.rows()
    assert prunefl.density == Spread(pytest.approx(0.3), pytest.approx(0.02**0.5), 2)
    assert prunefl.test == Spread(pytest.approx(0.7), pytest.approx(0.045**0.5), 2)
    # 2 s and 0.5 s for each weight kept: 3 s and 4 s.
    assert prunefl.round_seconds == Spread(3.5, pytest.approx(0.5**0.5), 2)
    assert prunefl.seconds == Spread(12.0, 0.0, 2)
    # 400 and 800 bytes for two clients, in the last round without a reconfiguration.
    assert prunefl.sent == Spread(300.0, pytest.approx(20000**0.5), 2)
    assert prunefl.to_dict()["received"]["mean"] == 150.0


def test_a_training_that_failed_is_left_out_and_told(done: Federated) -> None:
    results = {**done.results, ("prunefl", 1): SeedResult(reason="the loss must stay finite")}
    failed = Federated(done.comparison, results, 10, TIME, done.statistics)
    row = failed.rows()[0]
    assert row.reasons == ("seed 1: the loss must stay finite",)
    assert row.test == Spread(0.85, None, 1)


def test_the_picture_has_each_training_and_the_mean() -> None:
    curves = {
        "prunefl": [
            FederatedCurve([1, 2], [3.0, 6.0], [0.5, 0.7], [1.0, 0.2]),
            FederatedCurve([1, 2], [5.0, 10.0], [0.3, 0.9], [1.0, 0.4]),
        ]
    }
    text = federated_picture(curves, target=0.8, title="made", kind="svg").decode()
    assert 'id="accuracy-prunefl"' in text
    assert 'id="density-prunefl"' in text
    assert "Modelled time of the rounds (seconds)" in text
    hours = {"a": [FederatedCurve([1], [4 * 3600.0], [0.5], [1.0])]}
    assert "(hours)" in federated_picture(hours, kind="svg").decode()
