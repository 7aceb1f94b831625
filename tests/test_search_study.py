"""Whole studies on real digits: counts, fronts, budgets, interruptions, failures."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from tiny_studies import L1, NOWHERE, SLIMMING, Stop, figures, write_study

from prunenas.architecture import Architecture, build, count_flops
from prunenas.errors import SpecError, StudyError
from prunenas.search import StudyView, list_studies, open_study, run_study, trained_weights
from prunenas.search.events import DenseEpoch, Event, TrialEpoch, TrialFinished, TrialStarted
from prunenas.search.front import front_of
from prunenas.spec import load_study
from prunenas.training import evaluate
from prunenas.trial import Record

Run = Callable[..., StudyView]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the study file of a folder of its own; keyword arguments go to ``run_study``."""
    monkeypatch.chdir(tmp_path)

    def start(path: Path, **options: Any) -> StudyView:
        usual = {"storage": "sqlite:///studies.db", "device": "cpu", "tracking": NOWHERE}
        return run_study(load_study(path), **{**usual, **options})

    return start


EACH_EPOCH = """
import sys
from prunenas.cli import main
from prunenas.training import keeping
keeping.SOONEST, keeping.SHARE = 0.0, float("inf")
sys.exit(main(sys.argv[1:]))
"""
"""The command line, with a checkpoint after every epoch whatever it costs."""


def slowly(*values: str) -> list[Any]:
    """Parameters that are tried where there is time."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def dominated(a: Record, b: Record) -> bool:
    """Whether b is at least as good as a in both objectives and better in one."""
    assert a.accuracy is not None
    assert b.accuracy is not None
    assert a.flops is not None
    assert b.flops is not None
    return (b.accuracy >= a.accuracy and b.flops <= a.flops) and (
        b.accuracy > a.accuracy or b.flops < a.flops
    )


def test_a_study_ends_with_its_trials_its_front_and_nothing_more(tmp_path: Path, run: Run) -> None:
    events: list[Event] = []
    path = write_study(tmp_path)
    view = run(path, watch=events.append)
    assert view.finished
    assert view.counts == {"complete": 4}
    assert [record.number for record in view.records] == [0, 1, 2, 3]
    for record in view.records:
        assert record.architecture is not None
        architecture = Architecture.from_dict(record.architecture)
        assert record.flops == architecture.flops
        assert record.flops == count_flops(build(architecture), architecture.input_shape)
        assert [point["epoch"] for point in record.curve] == [1, 2]
        assert record.accuracy == record.curve[-1]["validation_accuracy"]
        assert set(record.parameters) == {f"ratio/{group}" for group in view.dense_widths}
        for group, width in architecture.widths.items():
            proposed = record.parameters[f"ratio/{group}"]
            assert abs(width - proposed * view.dense_widths[group]) <= 0.5
    # Predefined: no dense network was trained for it, and none is known.
    assert not any(isinstance(event, DenseEpoch) for event in events)
    assert view.dense_accuracy is None
    by_hand = {
        r.number for r in view.records if not any(dominated(r, other) for other in view.records)
    }
    pairs = {(r.accuracy, r.flops) for r in view.records if r.number in by_hand}
    assert {(r.accuracy, r.flops) for r in view.front} == pairs
    assert [r.flops for r in view.front] == sorted(r.flops for r in view.front if r.flops)

    again: list[Event] = []
    assert figures(run(path, watch=again.append)) == figures(view)
    assert not any(isinstance(event, (TrialStarted, TrialFinished)) for event in again)
    assert run(path, storage="sqlite:///elsewhere.db").counts == {"complete": 4}
    assert list_studies("sqlite:///elsewhere.db") == ["tiny"]


def test_optunas_own_storage_has_the_trials_and_their_values(tmp_path: Path, run: Run) -> None:
    view = run(write_study(tmp_path, trials=3))
    study = optuna.load_study(study_name="tiny", storage="sqlite:///studies.db")
    assert study.metric_names == ["accuracy", "flops"]
    assert [trial.values for trial in study.trials] == [
        [record.accuracy, record.flops] for record in view.records
    ]
    assert {trial.number for trial in study.best_trials} >= {r.number for r in view.front}


@pytest.mark.parametrize("sampler", ["tpe", *slowly("nsga2", "gp", "qmc")])
def test_interrupted_and_resumed_equals_undisturbed(tmp_path: Path, run: Run, sampler: str) -> None:
    path = write_study(tmp_path, methods=f"{L1}\n{SLIMMING}", sampler=sampler, trials=5)
    undisturbed = run(path, storage="sqlite:///whole.db", home=tmp_path / "whole")
    for trial, epoch in [(0, 1), (0, 2), (3, 1)]:
        with pytest.raises(KeyboardInterrupt):
            run(path, watch=Stop(trial, epoch))
        assert open_study("sqlite:///studies.db", "tiny").counts.get("running") == 1
    resumed = run(path)
    assert resumed.counts == undisturbed.counts
    assert figures(resumed) == figures(undisturbed)
    assert {record.method for record in resumed.records} <= {"l1_norm", "network_slimming"}
    assert not list((tmp_path / ".prunenas").rglob("*.pt"))


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_ends_in_the_middle(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, signal_number: signal.Signals
) -> None:
    path = write_study(tmp_path, trials=3, epochs=12)
    module = ["-m", "prunenas"]
    if signal_number == signal.SIGKILL:  # of which nobody hears: what is on disk is all there is
        module = ["-c", EACH_EPOCH]
    command = [sys.executable, *module, "run", str(path), "--device", "cpu"]
    environment = {**os.environ, "CI": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = itertools.takewhile(lambda line: "trial 1: epoch 3/" not in line, process.stdout)
        head = list(seen)
        process.send_signal(signal_number)
        tail = process.stdout.read()
    if signal_number == signal.SIGINT:
        assert process.returncode == 130, head
        assert "interrupted: finished trials are kept" in tail
        assert "Traceback" not in tail
    view = open_study("sqlite:///.prunenas/studies.db", "tiny")
    assert view.counts == {"complete": 1, "running": 1}
    checkpoints = list((tmp_path / ".prunenas" / "cache" / "unfinished").glob("scratch-*.pt"))
    assert len(checkpoints) == 1
    steps = [0]
    step = torch.optim.SGD.step

    def counted(self: torch.optim.SGD, *arguments: Any, **named: Any) -> Any:
        steps[0] += 1
        return step(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.SGD, "step", counted)
    done = run(path, storage="sqlite:///.prunenas/studies.db")
    assert done.counts == {"complete": 3}
    assert [record.number for record in done.records] == [0, 1, 2]
    # Trial 2 whole (12 epochs of 4 steps), trial 1 from its checkpoint on: at least 3 epochs less.
    assert steps[0] <= (12 + 9) * 4


def test_a_longer_study_goes_on_and_other_settings_are_refused(tmp_path: Path, run: Run) -> None:
    run(write_study(tmp_path, trials=2))
    longer = run(write_study(tmp_path, trials=3))
    assert longer.counts == {"complete": 3}
    assert longer.trials_total == 3
    with pytest.raises(StudyError, match=r"train\.epochs was 2 and is 5"):
        run(write_study(tmp_path, trials=3, epochs=5))


def test_a_study_runs_in_one_process_at_a_time(tmp_path: Path, run: Run) -> None:
    path = write_study(tmp_path, trials=2)

    def second(event: Event) -> None:
        if isinstance(event, TrialEpoch) and (event.number, event.epoch) == (1, 1):
            code = (
                "from prunenas.search import run_study; from prunenas.spec import load_study;"
                f"run_study(load_study({str(path)!r}), storage='sqlite:///studies.db')"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
            )
            refusals.append(done.stderr)

    refusals: list[str] = []
    run(path, watch=second)
    assert refusals
    assert all("is being run by another process" in text for text in refusals)


def test_trouble_ends_a_trial_with_its_reason_and_the_study_goes_on(
    tmp_path: Path, run: Run
) -> None:
    view = run(write_study(tmp_path, lr=1e30, trials=3))
    assert view.counts == {"failed": 3}
    assert {record.reason for record in view.records} == {"non-finite loss"}
    assert view.finished
    assert view.front == ()
    assert all(record.flops and record.architecture for record in view.records)


def test_a_budget_is_met_by_every_architecture(tmp_path: Path, run: Run) -> None:
    path = write_study(
        tmp_path,
        methods=f"{L1}\n  - {{name: network_slimming}}",
        objective="{maximize: accuracy, flops_ratio: 0.5}",
        sampler="random",
        trials=6,
    )
    view = run(path)
    assert view.directions == ("maximize",)
    assert {record.method for record in view.records} == {"l1_norm", "network_slimming"}
    for record in view.records:
        assert record.flops_ratio is not None
        assert 0.995 <= record.flops_ratio / 0.5 <= 1.0
    best = max(view.records, key=lambda r: (r.accuracy, -(r.flops or 0)))
    assert view.front == (best,)


def test_fixed_groups_keep_their_ratio_under_a_budget(tmp_path: Path, run: Run) -> None:
    fixed = L1.replace("step: 0.25}}", "step: 0.25}, fixed: {features.0: 0.75}}")
    assert fixed != L1
    path = write_study(
        tmp_path,
        methods=fixed,
        objective="{maximize: accuracy, flops_ratio: 0.5}",
        sampler="budgeted",
        trials=5,
        epochs=1,
    )
    view = run(path)
    for record in view.records:
        assert record.ratios["features.0"] == 0.75
        assert "ratio/features.0" not in record.parameters
        assert record.flops_ratio is not None
        assert 0.99 <= record.flops_ratio / 0.5 <= 1.0


def test_a_budget_below_the_narrowest_network_is_infeasible_not_trained(
    tmp_path: Path, run: Run
) -> None:
    path = write_study(tmp_path, objective="{maximize: accuracy, flops_ratio: 0.001}", trials=2)
    events: list[Event] = []
    view = run(path, watch=events.append)
    assert view.counts == {"infeasible": 2}
    assert "the narrowest network has" in str(view.records[0].reason)
    assert not any(isinstance(event, TrialEpoch) for event in events)


def test_automatic_methods_report_their_dense_training_and_keep_it(
    tmp_path: Path, run: Run
) -> None:
    events: list[Event] = []
    view = run(write_study(tmp_path, methods=SLIMMING, trials=3), watch=events.append)
    dense = [event for event in events if isinstance(event, DenseEpoch)]
    assert [event.epoch for event in dense] == [1, 2]  # one training serves all three trials
    assert view.counts == {"complete": 3}
    assert all("threshold" in record.notes for record in view.records)


@pytest.mark.parametrize("sampler", ["auto", "tpe", *slowly("gp", "nsga2", "random", "qmc")])
def test_every_sampler_proposes_what_its_seed_says(tmp_path: Path, run: Run, sampler: str) -> None:
    path = write_study(tmp_path, sampler=sampler, trials=12, epochs=1)
    view = run(path)
    again = run(path, storage="sqlite:///again.db")
    assert [r.parameters for r in view.records] == [r.parameters for r in again.records]
    proposals = [tuple(record.parameters.values()) for record in view.records]
    assert len(set(proposals)) > 6  # a sampler that repeats itself would stay on one


def test_widths_the_model_does_not_have_are_told_before_any_trial(tmp_path: Path, run: Run) -> None:
    space = "{widths: {per: group, ratio: {low: 0.5, high: 1.0}, fixed: {layer9: 1.0}}}"
    path = write_study(tmp_path, methods=f"  - {{name: l1_norm, space: {space}}}")
    with pytest.raises(SpecError, match="unknown channel group of vgg_mini 'layer9'"):
        run(path)
    assert not (tmp_path / "studies.db").exists()


def test_weights_of_the_front_are_kept_and_others_trained_again(tmp_path: Path, run: Run) -> None:
    view = run(write_study(tmp_path, trials=4))
    from prunenas.data import load

    data = load("digits", train_limit=200)
    kept = {path.stem for path in (tmp_path / ".prunenas" / "weights").rglob("*.safetensors")}
    assert kept == {f"{record.number:06d}" for record in view.front}
    for record in view.records:
        network = build(Architecture.from_dict(record.architecture or {}))
        network.load_state_dict(trained_weights(view, record, device="cpu"))
        assert evaluate(network, data.validation).accuracy == record.accuracy


def test_names_that_are_none_are_told_with_those_that_are(tmp_path: Path, run: Run) -> None:
    run(write_study(tmp_path, trials=1, epochs=1))
    with pytest.raises(StudyError, match=r"unknown study 'tinny' \(did you mean 'tiny'\?\)"):
        open_study("sqlite:///studies.db", "tinny")
    with pytest.raises(StudyError, match=r"nowhere\.db does not exist"):
        open_study("sqlite:///nowhere.db", "tiny")
    with pytest.raises(StudyError, match="can't be made"):
        run(write_study(tmp_path), storage="sqlite:////proc/nowhere/studies.db")
    with pytest.raises(StudyError, match=r"device 'foo' can't be used here\. Known: auto, cpu"):
        run(write_study(tmp_path), device="foo")
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(StudyError, match="can't be opened"):
        open_study("sqlite:///text.db", "tiny")


def test_a_study_of_somebody_elses_is_left_alone(tmp_path: Path, run: Run) -> None:
    theirs = optuna.create_study(study_name="tiny", storage="sqlite:///studies.db")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with pytest.raises(StudyError, match="was not made by prunenas"):
        run(write_study(tmp_path, objective="{maximize: accuracy, flops_ratio: 0.5}"))
    with pytest.raises(StudyError, match="was not made by prunenas"):
        open_study("sqlite:///studies.db", "tiny")


def test_an_unreachable_tracking_server_is_told_once_and_the_study_runs(
    tmp_path: Path, run: Run
) -> None:
    told: list[str] = []
    began = time.monotonic()
    view = run(write_study(tmp_path, trials=2, epochs=1), tracking=NOWHERE, warn=told.append)
    assert view.counts == {"complete": 2}
    assert len(told) == 1
    assert "127.0.0.1:9" in told[0]
    assert time.monotonic() - began < 60  # MLflow itself would try for minutes


# --- the front against brute force ---------------------------------------------------------------


def _record(number: int, accuracy: float, flops: int, state: str = "complete") -> Record:
    fields: dict[str, Any] = {field.name: None for field in dataclasses.fields(Record)}
    return Record(
        **{**fields, "number": number, "accuracy": accuracy, "flops": flops, "state": state}
    )


def test_the_front_equals_brute_force_on_random_records() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        values = torch.randint(0, 6, (8, 2), generator=generator).tolist()
        states = [
            "complete" if draw > 0.3 else "failed" for draw in torch.rand(8, generator=generator)
        ]
        records = [
            _record(i, a / 6, f, s)
            for i, ((a, f), s) in enumerate(zip(values, states, strict=True))
        ]
        done = [r for r in records if r.state == "complete"]
        expected = {
            (r.accuracy, r.flops) for r in done if not any(dominated(r, other) for other in done)
        }
        front = front_of(records, ("flops",))
        assert {(r.accuracy, r.flops) for r in front} == expected
        assert len(front) == len(expected)
