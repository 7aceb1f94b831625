"""Retraining by a federation, and the time of its rounds as a cost."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from methods_networks import dense
from tiny_studies import NOWHERE

from prunenas.architecture import Architecture, masked_weights
from prunenas.cache import Cache
from prunenas.cli import main
from prunenas.errors import TrainingError
from prunenas.federated import STRATEGIES, Federation, Setting, federate, run, time_model
from prunenas.methods import METHODS, Dense
from prunenas.report.figures import compute
from prunenas.retraining.plan import Plan
from prunenas.search import run_study
from prunenas.search.by_method import by_method
from prunenas.spec import load_study
from prunenas.tracking.front import hypervolume, reach
from prunenas.training import EpochMetrics, Recipe
from prunenas.training.shared import Trainings
from prunenas.trial import Candidate, Outcome, Record, job_of, run_trial

FEDERATION = Federation(clients=4, rounds=7, lr=0.2, partition="shards", evaluate_every=3)
RECIPE = Recipe(epochs=2, batch_size=32, lr=0.05, augment=False, protocol="federated")
SPARSE = METHODS["random_sparse"](density=0.3, layers="all")


def source(folder: Path, network: str = "flattened") -> Dense:
    return replace(dense(network, folder, recipe=RECIPE), federation=FEDERATION)


def candidate(**changes: Any) -> Candidate:
    return Candidate(
        **{
            "number": 0,
            "study": "tiny",
            "method_name": "random_sparse",
            "method": SPARSE,
            "parameters": {},
            "ratios": None,
            "flops": None,
            "seeds": {"training": 11, "method": 3},
            **changes,
        }
    )


def conventional(own: Dense, architecture: Architecture) -> Setting:
    time = time_model(FEDERATION, own.space)
    strategy = STRATEGIES["conventional"]()
    return Setting(architecture, own.data, FEDERATION, strategy, time, seed=11)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_trial(candidate(), source(tmp_path_factory.mktemp("cache")))


def test_a_trial_is_what_federated_averaging_comes_to(outcome: Outcome, tmp_path: Path) -> None:
    record, own = outcome.record, source(tmp_path)
    assert record.state == "complete"
    architecture = SPARSE.derive(own, seed=3).architecture
    ran = federate(conventional(own, architecture))
    assert outcome.weights is not None
    for name, value in ran.weights.items():
        assert torch.equal(outcome.weights[name], value), name
    assert record.accuracy == ran.history.points[-1].accuracy
    told = [(p["epoch"], p["validation_accuracy"], p["validation_loss"]) for p in record.curve]
    assert told == [(n, p.accuracy, p.loss) for n, p in enumerate(ran.history.points, 1)]
    assert [p.round for p in ran.history.points] == [3, 6, 7]
    losses = [report.loss for report in ran.history.reports]
    assert [point["train_loss"] for point in record.curve] == pytest.approx(
        [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, losses[6]]
    )
    assert record.epochs == 3
    assert Record.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False))) == record


def test_masks_are_obeyed_though_a_time_model_has_no_such_layer(tmp_path: Path) -> None:
    own = source(tmp_path)
    first = next(iter(masked_weights(own.network())))
    time = {"constant": 1.0, "layers": {first: 0.5}, "seconds_per_byte": 1e-6}
    own = replace(own, federation=Federation(**{**FEDERATION.settings(), "time": time}))
    ended = run_trial(candidate(), own)
    masks = SPARSE.derive(own, seed=3).architecture.masks
    assert ended.weights is not None
    assert len(masks) == 3
    for name, mask in masks.items():
        weight = ended.weights[name]
        assert not weight[~mask.tensor()].any()
        assert weight[mask.tensor()].ne(0).float().mean() > 0.9
    assert ended.record.round_seconds == 1.0 + 0.5 * masks[first].weights


def test_a_rounds_time_by_hand(outcome: Outcome, tmp_path: Path) -> None:
    own = source(tmp_path)
    time = time_model(FEDERATION, own.space)
    masks = SPARSE.derive(own, seed=3).architecture.masks
    by_hand = time.constant + sum(time.layers[n] * int(m.tensor().sum()) for n, m in masks.items())
    assert masks.keys() == time.layers.keys()
    assert outcome.record.round_seconds == pytest.approx(by_hand)
    narrow = run_trial(
        candidate(method=METHODS["l1_norm"](), ratios={"0.0": 0.5, "2": 0.25}), own
    ).record
    assert narrow.state == "complete", narrow.reason
    # 8 filters of 3 x 3 become 4, of 512 inputs 256 and 16 outputs 4, of 16 inputs 4.
    left = {"0.0.weight": 4 * 9, "2.weight": 256 * 4, "4.weight": 4 * 10}
    assert narrow.round_seconds == pytest.approx(
        time.constant + sum(time.layers[name] * kept for name, kept in left.items())
    )
    assert (
        run_trial(
            candidate(), replace(own, federation=None, recipe=Recipe(epochs=1))
        ).record.round_seconds
        is None
    )


def test_a_training_that_was_done_is_read(tmp_path: Path, outcome: Outcome) -> None:
    own = source(tmp_path)
    trainings = Trainings(Cache(tmp_path / "shared"), "tiny", "one")
    first = run_trial(candidate(), own, trainings=trainings).record
    told: list[float] = []

    def stop(metrics: EpochMetrics) -> bool:
        told.append(metrics.validation.accuracy)
        return len(told) == 2

    again = run_trial(candidate(number=1), own, trainings=trainings).record
    stopped = run_trial(candidate(number=2), own, trainings=trainings, report=stop).record
    assert (again.curve, again.reused) == (first.curve, "trial 0")
    assert first.curve == outcome.record.curve
    assert (stopped.state, stopped.curve) == ("stopped", first.curve[:2])
    other = replace(own, federation=FEDERATION.model_copy(update={"lr": 0.1}))
    architecture = SPARSE.derive(own, seed=3).architecture
    jobs = [job_of(architecture, each, epochs=3, seed=11) for each in (own, other)]
    central = replace(own, recipe=Recipe(**{**RECIPE.model_dump(), "protocol": "scratch_e"}))
    jobs.append(job_of(architecture, central, epochs=3, seed=11))
    assert len({job.key() for job in jobs}) == 3


def test_a_stopped_training_goes_on(
    tmp_path: Path, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_PATIENCE", 0.0)
    own, checkpoint = source(tmp_path), tmp_path / "trial.pt"
    first = run_trial(candidate(), own, report=lambda m: m.epoch == 2, checkpoint=checkpoint)
    assert (first.record.state, first.record.epochs) == ("stopped", 2)
    assert checkpoint.exists()
    rounds: list[int] = []
    monkeypatch.setattr(
        "prunenas.federated.server.Server.chosen",
        lambda server: rounds.append(server.round + 1) or (0, 1, 2, 3),
    )
    second = run_trial(candidate(), own, checkpoint=checkpoint)
    assert rounds == [7]
    assert second.record.curve == outcome.record.curve
    assert second.weights is not None
    assert outcome.weights is not None
    assert all(torch.equal(second.weights[n], value) for n, value in outcome.weights.items())


def test_a_loss_that_is_no_number_ends_the_trial(tmp_path: Path) -> None:
    own = replace(source(tmp_path), federation=FEDERATION.model_copy(update={"lr": 1e30}))
    record = run_trial(candidate(), own).record
    assert (record.state, record.reason) == ("failed", "non-finite loss")
    assert record.round_seconds is not None


def test_exports_are_not_trained_by_a_federation(tmp_path: Path) -> None:
    own = source(tmp_path)
    with pytest.raises(TrainingError, match="which an export has none of"):
        Plan(own.space.dense, 1, own.data, RECIPE, 0, torch.device("cpu"))


STUDY = """\
name: tiny
model: {name: lenet_300_100, arguments: {input_size: 8}}
data: {name: digits, train_limit: 200}
federation: {clients: 3, rounds: 4, lr: 0.2, evaluate_every: 2}
methods:
  - name: prunefl
    space: {method: {removable: {low: 0.3, high: 0.9}}}
    with: {initial: null}
  - {name: random_sparse, space: {method: {density: {low: 0.02, high: 0.5}}}, with: {layers: all}}
objective: {maximize: accuracy, minimize: [flops, round_seconds]}
train: {protocol: federated, epochs: 1, batch_size: 50, lr: 0.05, augment: false}
search: {sampler: tpe, trials: 6, seed: 3, stopper: pareto}
"""


def test_a_study_from_the_file_to_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    storage = "sqlite:///studies.db"
    view = run_study(load_study("tiny.yaml"), storage=storage, tracking=NOWHERE, device="cpu")
    assert view.costs == ("flops", "round_seconds")
    assert {record.method for record in view.records} == {"prunefl", "random_sparse"}
    assert view.counts.keys() <= {"complete", "stopped"}
    done = [(r.accuracy, r.flops, r.round_seconds) for r in view.records if r.state == "complete"]
    assert {(r.accuracy, r.flops, r.round_seconds) for r in view.front} == {
        one
        for one in done
        if not any(
            other != one and other[0] >= one[0] and other[1] <= one[1] and other[2] <= one[2]
            for other in done
        )
    }
    assert optuna.load_study(study_name="tiny", storage=storage).metric_names == [
        "accuracy",
        "flops",
        "round_seconds",
    ]
    assert view.dense_round_seconds is not None
    for record in view.records:
        assert record.round_seconds is not None
        assert record.round_seconds < view.dense_round_seconds
        assert record.epochs <= 2
        if record.method == "prunefl":
            assert record.notes["round_seconds"] == pytest.approx(record.round_seconds)
    figures = by_method(view)
    own = [r.to_dict() for r in figures[0].architectures]
    shares = [reach(each, view.costs, view.dense_costs) for each in own]
    assert shares[0][:2] == (
        own[0]["flops"] / view.dense_flops,
        own[0]["round_seconds"] / view.dense_round_seconds,
    )
    assert figures[0].hypervolume == pytest.approx(hypervolume(shares))
    assert compute(view).spent == pytest.approx(
        sum((r.flops_ratio or 0) * r.epochs / 2 for r in view.records if not r.reused)
    )
    assert main(["best", "tiny", "--storage", storage]) == 0
    shown = capsys.readouterr().out
    assert "round" in shown
    assert main(["report", "tiny", "--storage", storage, "--out", "page.html"]) == 0
    assert "round, s" in Path("page.html").read_text()
