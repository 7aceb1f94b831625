"""Trainings that trials, studies and processes share: once each, and the same figures."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_studies import NOWHERE, SLIMMING, figures, write_study

import prunenas
from prunenas.cache import Cache
from prunenas.cli import main
from prunenas.cli.studies import summary
from prunenas.errors import StudyError
from prunenas.search import StudyView, open_study, run_study, trained_weights
from prunenas.search.events import DenseEpoch, Event, TrialEpoch
from prunenas.spec import load_study
from prunenas.tracking.rows import trial_note, trial_tags
from prunenas.trial import Record

COARSE = (
    "  - {name: l1_norm, space: {widths: {per: stage, ratio: {low: 0.5, high: 1.0, step: 0.5}}}}"
)
STEPS = 4  # of SGD in an epoch: 200 images in batches of 50

Run = Callable[..., StudyView]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def start(path: Path, **options: Any) -> StudyView:
        usual = {"storage": "sqlite:///studies.db", "device": "cpu", "tracking": NOWHERE}
        return run_study(load_study(path), **{**usual, **options})

    return start


def without_source(view: StudyView) -> list[dict[str, Any]]:
    return [{key: v for key, v in row.items() if key != "reused"} for row in figures(view)]


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_equal_architectures_are_trained_once_and_say_so(
    tmp_path: Path, run: Run, steps: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, methods=COARSE, sampler="random", trials=8)
    alone = run(path, storage="sqlite:///alone.db", cache="off", home=tmp_path / "alone")
    assert steps[0] == 8 * 2 * STEPS
    assert not any(record.reused for record in alone.records)
    assert not list((tmp_path / "alone").rglob("cache"))

    steps[0] = 0
    view = run(path)
    assert without_source(view) == without_source(alone)
    first: dict[str | None, int] = {}
    for record in view.records:
        holder = first.setdefault(record.digest, record.number)
        assert record.reused == (None if holder == record.number else f"trial {holder}")
    assert len(first) < 8
    assert steps[0] == len(first) * 2 * STEPS
    assert [record.number for record in view.front] == [record.number for record in alone.front]
    for record, other in zip(view.records, alone.records, strict=True):
        assert same_weights(
            trained_weights(view, record, device="cpu"),
            trained_weights(alone, other, device="cpu", home=tmp_path / "alone"),
        )

    reused = 8 - len(first)
    told = summary(view)
    assert told["trials"]["reused"] == reused
    assert told["epochs"] == {"trained": 2 * len(first), "reused": 2 * reused}
    assert main(["status", "tiny", "--storage", "sqlite:///studies.db"]) == 0
    assert f"{2 * reused} epochs saved" in capsys.readouterr().out
    shown = next(record for record in view.records if record.reused)
    assert trial_tags(shown.to_dict())["prunenas.reused"] == shown.reused
    assert f"training of {shown.reused}" in trial_note(shown.to_dict())
    assert "prunenas.reused" not in trial_tags(view.records[0].to_dict())


def test_a_second_study_over_the_same_dense_network_trains_none(
    tmp_path: Path, run: Run, steps: list[int]
) -> None:
    events: list[Event] = []
    first = run(write_study(tmp_path, methods=SLIMMING, trials=3))
    steps[0] = 0
    path = write_study(tmp_path, methods=SLIMMING, trials=3, sampler="random")
    path.write_text(path.read_text().replace("name: tiny", "name: second", 1))
    second = run(path, watch=events.append)
    assert not any(isinstance(event, DenseEpoch) for event in events)
    assert second.dense_accuracy == first.dense_accuracy
    known = {record.digest: f"tiny/{record.number}" for record in reversed(first.records)}
    new = {record.digest for record in second.records} - known.keys()
    assert steps[0] == len(new) * 2 * STEPS
    # The same study in another storage: every training is there, every curve is still told.
    steps[0] = 0
    again = run(
        write_study(tmp_path, methods=SLIMMING, trials=3),
        storage="sqlite:///other.db",
        watch=events.append,
    )
    assert steps[0] == 0
    assert [record.reused for record in again.records] == [
        known[record.digest] for record in again.records
    ]
    assert without_source(again) == without_source(first)
    assert sum(isinstance(event, TrialEpoch) for event in events) == (3 + 3) * 2


def test_a_study_without_shared_trainings_trains_its_dense_network_once(
    tmp_path: Path, run: Run
) -> None:
    run(write_study(tmp_path, methods=SLIMMING, trials=2))
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / ".prunenas/cache").rglob("*.*")}
    events: list[Event] = []
    run(
        write_study(tmp_path, methods=SLIMMING, trials=2),
        storage="sqlite:///off.db",
        cache="off",
        watch=events.append,
    )
    assert [e.epoch for e in events if isinstance(e, DenseEpoch)] == [1, 2]
    assert stored == {
        path: path.stat().st_mtime_ns for path in (tmp_path / ".prunenas/cache").rglob("*.*")
    }
    assert not list((tmp_path / ".prunenas" / "private").iterdir())


def test_a_damaged_dense_network_and_training_are_told_and_done_again(
    tmp_path: Path, run: Run
) -> None:
    first = run(write_study(tmp_path, methods=SLIMMING, trials=1))
    damaged = list((tmp_path / ".prunenas" / "cache").rglob("*.safetensors"))
    assert len(damaged) == 2
    for path in damaged:
        content = bytearray(path.read_bytes())
        content[-3] ^= 8
        path.write_bytes(content)
    warnings: list[str] = []
    again = run(
        write_study(tmp_path, methods=SLIMMING, trials=1),
        storage="sqlite:///again.db",
        warn=warnings.append,
    )
    assert len([text for text in warnings if "is damaged and is computed again" in text]) == 2
    assert figures(again) == figures(first)


def test_a_precision_that_the_device_lacks_ends_trials_not_the_study(
    tmp_path: Path, run: Run
) -> None:
    path = write_study(tmp_path, trials=2)
    path.write_text(
        path.read_text().replace("augment: false", "augment: false, precision: float16")
    )
    view = run(path)
    assert view.counts == {"failed": 2}
    assert {record.reason for record in view.records} == {"unusable precision"}


# --- processes ------------------------------------------------------------------------------------


def process(folder: Path, path: Path, storage: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "prunenas", "run", str(path)]
    return subprocess.Popen(
        [*command, "--storage", storage, "--device", "cpu"],
        cwd=folder,
        env={**os.environ, "CI": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_processes_that_need_the_same_trainings_do_each_once(tmp_path: Path) -> None:
    path = write_study(tmp_path, methods=COARSE, sampler="random", trials=4)
    runs = [process(tmp_path, path, f"sqlite:///{name}.db") for name in "ab"]
    output = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], output
    views = [open_study(f"sqlite:///{tmp_path}/{name}.db", "tiny") for name in "ab"]
    assert without_source(views[0]) == without_source(views[1])
    records = [record for view in views for record in view.records]
    different = {record.digest for record in records}
    assert sum(record.reused is None for record in records) == len(different)
    assert len(Cache(tmp_path / ".prunenas" / "cache").keys("scratch")) == len(different)


@pytest.mark.slow
def test_who_waits_takes_up_what_a_killed_process_has_begun(
    tmp_path: Path, run: Run, steps: list[int]
) -> None:
    path = write_study(tmp_path, methods=COARSE, sampler="random", trials=1, epochs=200)
    whole = run(path, storage="sqlite:///whole.db", home=tmp_path / "whole")
    assert steps[0] == 200 * STEPS
    with process(tmp_path, path, "sqlite:///killed.db") as killed:
        assert killed.stdout is not None
        list(itertools.takewhile(lambda line: "epoch 5/" not in line, killed.stdout))
        killed.send_signal(signal.SIGSTOP)  # it holds the lock and does not go on
        waiting = process(tmp_path, path, "sqlite:///waiting.db")
        try:
            assert waiting.stdout is not None
            begun = itertools.takewhile(lambda line: "trial 0: l1_norm" not in line, waiting.stdout)
            list(begun)
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(timeout=2)
            killed.kill()
            output = waiting.communicate(timeout=300)[0]
        finally:
            waiting.kill()
    assert waiting.returncode == 0, output
    view = open_study(f"sqlite:///{tmp_path}/waiting.db", "tiny")
    assert without_source(view) == without_source(whole)
    # What was interrupted finds its training done.
    steps[0] = 0
    resumed = run(path, storage="sqlite:///killed.db")
    assert steps[0] == 0
    assert resumed.records[0].reused == "tiny/0"
    assert without_source(resumed) == without_source(whole)


# --- records --------------------------------------------------------------------------------------


def test_records_from_before_trainings_were_shared_can_be_read(tmp_path: Path, run: Run) -> None:
    record = run(write_study(tmp_path, trials=1, epochs=1)).records[0]
    plain = record.to_dict()
    del plain["reused"]
    assert Record.from_dict(plain) == record
    with pytest.raises(StudyError, match="must have seeds"):
        Record.from_dict({key: value for key, value in plain.items() if key != "seeds"})


def test_trainings_can_be_shared_in_a_folder_of_ones_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_study(tmp_path, methods=COARSE, trials=1, epochs=1)
    prunenas.run(path, storage="sqlite:///a.db", device="cpu", cache=tmp_path / "mine")
    monkeypatch.setenv("PRUNENAS_CACHE", str(tmp_path / "mine"))
    assert main(["run", str(path), "--storage", "sqlite:///b.db", "--device", "cpu"]) == 0
    assert open_study("sqlite:///b.db", "tiny").records[0].reused == "tiny/0"
    assert not (tmp_path / ".prunenas" / "cache").exists()
