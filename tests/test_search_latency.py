"""Studies in which latency is an objective, or has a limit."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from made_views import record
from mlflow import MlflowClient
from tiny_studies import NOWHERE, results, write_study
from torch import nn

from prunenas.latency import Latency, Protocol, gauge
from prunenas.search import StudyView, run_study
from prunenas.search.front import front_of
from prunenas.search.schedule import ranked
from prunenas.search.verdicts import constraints, verdict
from prunenas.spec import load_study
from prunenas.tracking.front import hypervolume
from prunenas.trial import Record

BOTH = ("flops", "latency_ms")
Run = Callable[..., StudyView]


def timed(number: int, accuracy: float, flops: int, latency: float, **changes: Any) -> Record:
    told = Latency(latency, latency, latency, Protocol(), (latency, latency), latency).to_dict()
    return record(number, accuracy=accuracy, flops=flops, latency=told, **changes)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock by a formula: the first layer's channels are slow, whatever the FLOPs. Its calls."""
    calls: list[int] = []

    def measure(
        network: nn.Module, input_shape: tuple[int, ...], protocol: Protocol | None = None
    ) -> Latency:
        assert protocol is not None
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
        calls.append(first.out_channels)
        ms = first.out_channels / 10 + sum(p.numel() for p in network.parameters()) / 1e6
        return Latency(ms, 0.9 * ms, 1.1 * ms, protocol, (ms, ms), 0.9 * ms)

    monkeypatch.setattr(gauge, "measure", measure)
    return calls


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def start(
        section: str = "",
        storage: str = "sqlite:///studies.db",
        tracking: str | None = NOWHERE,
        **settings: Any,
    ) -> StudyView:
        path = write_study(tmp_path, **settings)
        path.write_text(path.read_text() + section)
        return run_study(load_study(path), storage=storage, tracking=tracking, device="cpu")

    return start


def figures_of(view: StudyView) -> list[tuple[float, int, float]]:
    found = []
    for each in view.records:
        assert each.accuracy is not None
        assert each.flops is not None
        assert each.latency_ms is not None
        found.append((each.accuracy, each.flops, each.latency_ms))
    return found


def beaten(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    better = other[0] >= one[0] and all(b <= a for a, b in zip(one[1:], other[1:], strict=True))
    return better and one != other


@pytest.mark.slow
def test_three_objectives_from_the_file_to_mlflow(
    tmp_path: Path, run: Run, measured: list[int]
) -> None:
    settings = {
        "objective": "{maximize: accuracy, minimize: [flops, latency_ms]}",
        "trials": 5,
        "repeats": 2,
    }
    view = run("latency: {batch: 4}\n", tracking=None, **settings)
    assert view.directions == ("maximize", "minimize", "minimize")
    assert view.costs == BOTH
    assert view.counts == {"complete": 5}
    for each in view.records:
        assert each.latency is not None
        assert each.latency["protocol"]["batch"] == 4
        assert each.peak_activations is not None
    every = figures_of(view)
    by_hand = {one for one in every if not any(beaten(one, other) for other in every)}
    assert {each for each in every if each in by_hand} == {
        (r.accuracy, r.flops, r.latency_ms) for r in view.front
    }
    assert {each.record.number for each in view.repeats} == {r.number for r in view.front}
    assert all(each.n == 2 for each in view.repeats)
    stored = optuna.load_study(study_name="tiny", storage="sqlite:///studies.db")
    assert stored.metric_names == ["accuracy", "flops", "latency_ms"]
    assert [tuple(trial.values) for trial in stored.trials] == every
    # Each network once, the dense one too; a study that is done again finds the same figures.
    assert len(measured) == len({each.digest for each in view.records} | {view_dense(view)})
    again = run("latency: {batch: 4}\n", storage="sqlite:///again.db", **settings)
    assert results(again) == results(view)
    assert again.dense_latency == view.dense_latency
    assert len(measured) == len({each.digest for each in view.records} | {view_dense(view)})

    client = MlflowClient("sqlite:///mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'vgg_mini on digits'")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    children = {
        int(each.data.tags["prunenas.trial"]): each.data.metrics
        for each in runs
        if each.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id
    }
    for each in view.records:
        assert children[each.number]["latency_ms"] == each.latency_ms
        assert children[each.number]["peak_activations"] == each.peak_activations
    dense = view.dense_latency_ms
    assert dense is not None
    reached = [(f / view.dense_flops, ms / dense, a) for a, f, ms in every]
    volume = parents[0].data.metrics["hypervolume"]
    assert volume == pytest.approx(counted(reached, 24), abs=0.05)
    names = {each.path for each in client.list_artifacts(parents[0].info.run_id)}
    assert "latency.png" in names
    table = client.download_artifacts(parents[0].info.run_id, "front_table.json", str(tmp_path))
    assert json.loads(Path(table).read_text())["columns"][-1] == "latency_ms"


def view_dense(view: StudyView) -> str:
    """The dense network's digest, where a trial has it; else a word of its own."""
    whole = [r.digest for r in view.records if r.flops == view.dense_flops]
    return whole[0] if whole and whole[0] is not None else "dense"


@pytest.mark.parametrize(
    ("sampler", "trials"), [("random", 3), pytest.param("gp", 12, marks=pytest.mark.slow)]
)
def test_what_is_too_slow_is_never_trained_and_samplers_learn_it(
    run: Run, measured: list[int], steps: list[int], sampler: str, trials: int
) -> None:
    # Of 16 channels in the first layer 8 and fewer are within 0.9 ms.
    view = run(
        objective="{maximize: accuracy, minimize: flops, latency_ms: 0.9}",
        sampler=sampler,
        trials=trials,
        epochs=1,
        more=", starts: false",
    )
    assert set(view.counts) == {"complete", "infeasible"}
    stored = optuna.load_study(study_name="tiny", storage="sqlite:///studies.db")
    for each, trial in zip(view.records, stored.trials, strict=True):
        assert each.latency_ms is not None
        assert (each.state == "infeasible") == (each.latency_ms > 0.9)
        (violated,) = trial.constraints.values()
        assert violated == pytest.approx(each.latency_ms / 0.9 - 1)
        if each.state == "infeasible":
            assert each.epochs == 0
            assert each.reason is not None
            assert "more than latency_ms: 0.9 (torch on cpu" in each.reason
    assert not view.front or all((r.latency_ms or 9) <= 0.9 for r in view.front)
    trained = {r.digest for r in view.records if r.state == "complete"}
    assert steps[0] == 4 * len(trained)  # 160 images in batches of 50, one epoch


def test_the_front_of_three_objectives_by_brute_force() -> None:
    draw = random.Random(0)
    for _ in range(40):
        drawn = [(draw.randrange(4) / 4, draw.randrange(4), draw.randrange(1, 4)) for _ in range(8)]
        records = [timed(n, a, f, float(ms)) for n, (a, f, ms) in enumerate(drawn)]
        front = front_of(records, BOTH)
        wanted = {one for one in drawn if not any(beaten(one, other) for other in drawn)}
        assert {drawn[r.number] for r in front} == wanted
        assert len(front) == len(wanted)  # of equals one
        assert all(drawn.index(drawn[r.number]) == r.number for r in front)  # the earliest
        order = ranked(drawn)
        indices = {i for i, one in enumerate(drawn) if one in wanted}
        assert set(order[: len(indices)]) == indices


def test_a_trial_without_a_latency_is_on_no_front_of_latencies() -> None:
    known = timed(0, 0.5, 10, 1.0)
    assert front_of([known, record(1, accuracy=0.9, flops=1)], BOTH) == (known,)


def counted(reached: list[tuple[float, ...]], points: int) -> float:
    """Share of a grid's points that something reached is at least as good as."""
    axis = [(k + 0.5) / points for k in range(points)]
    costs = len(reached[0]) - 1
    inside = 0
    for point in itertools.product(axis, repeat=costs + 1):
        inside += any(
            each[-1] >= point[-1] and all(each[k] <= point[k] for k in range(costs))
            for each in reached
        )
    return inside / points ** (costs + 1)


def test_the_hypervolume_of_three_objectives_by_hand_and_by_counting() -> None:
    assert hypervolume([(0.5, 0.25, 0.8)]) == pytest.approx(0.5 * 0.75 * 0.8)
    assert hypervolume([(1.2, 0.25, 0.8)]) == 0
    assert hypervolume([(0.5, 0.5, 0.5), (0.5, 0.5, 0.5)]) == pytest.approx(0.125)
    # One above the other, apart from what both have.
    two = [(0.5, 0.5, 0.5), (0.25, 0.75, 0.5)]
    assert hypervolume(two) == pytest.approx(0.5 * (0.25 + 0.75 * 0.25 - 0.125))
    draw = random.Random(1)
    for _ in range(5):
        some = [(draw.random(), draw.random(), draw.random()) for _ in range(5)]
        assert hypervolume(some) == pytest.approx(counted(some, 24), abs=0.04)


def test_what_is_told_of_a_slow_one() -> None:
    known = [timed(0, 0.9, 50, 2.0), timed(1, 0.4, 10, 1.0)]
    told = record(2, state="infeasible", accuracy=None, latency=known[0].latency)
    assert verdict(told, known, BOTH, 5).values == (0.4, 11.0, pytest.approx(1.001))
    assert verdict(told, [], BOTH, 5).values == (0.0, 5.0, 2.0)
    assert verdict(told, known, ("latency_ms",), 5).values == (0.4, pytest.approx(1.001))
    assert verdict(told, known, (), 5).values == (0.4,)
    limits: dict[str, Any] = {"least": 10, "dense": 100}
    assert constraints(told, asked=None, latency_ms=1.6, **limits) == [pytest.approx(0.25)]
    assert constraints(told, asked=None, latency_ms=None, **limits) == []
    # Its target in FLOPs was met: only the latency is at fault.
    both = constraints(told, asked=40, latency_ms=1.6, **limits)
    assert both == [pytest.approx(-0.3), pytest.approx(0.25)]
    none = record(3, state="infeasible", accuracy=None, architecture=None)
    assert constraints(none, asked=4, latency_ms=1.6, **limits) == [pytest.approx(0.06), 0.0]


def test_old_records_have_no_latency() -> None:
    old = timed(0, 0.5, 10, 1.0).to_dict()
    del old["latency"], old["peak_activations"]
    read = Record.from_dict(old)
    assert read.latency is None
    assert read.latency_ms is None
    assert read.peak_activations is None
