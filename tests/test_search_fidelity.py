"""Short trainings screen, survivors go on from their checkpoints: on real digits."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_studies import NOWHERE, Stop, results, write_study

from prunenas.cli import main
from prunenas.search import StudyView, open_study, run_study
from prunenas.search.events import Event, TrialEpoch, TrialFinished, TrialPaused
from prunenas.spec import load_study

STEPS = 4  # of SGD in an epoch: 200 images in batches of 50
RUNGS = (1, 2, 4)

Run = Callable[..., StudyView]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path, epochs=4, trials=8, more=", fidelity: [1, 2, 4]")


@pytest.fixture
def run(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def start(**options: Any) -> StudyView:
        usual = {"storage": "sqlite:///studies.db", "device": "cpu", "tracking": NOWHERE}
        return run_study(load_study(study), **{**usual, **options})

    return start


@pytest.mark.parametrize("cache", ["shared", pytest.param("off", marks=pytest.mark.slow)])
def test_nothing_is_trained_twice_on_the_way_up(run: Run, steps: list[int], cache: str) -> None:
    events: list[Event] = []
    view = run(cache=cache, watch=events.append)
    assert view.finished
    assert sum(view.counts.values()) == 8
    assert set(view.counts) == {"complete", "stopped"}
    trained = {record.digest: record.epochs for record in view.records if not record.reused}
    assert steps[0] == STEPS * sum(trained.values())

    for record in view.records:
        assert record.epochs in RUNGS
        assert record.epochs == len(record.curve)
        assert (record.state == "complete") == (record.epochs == 4)
        if record.state == "stopped":
            assert record.reason == f"screened out after epoch {record.epochs} of 4"
            assert record not in view.front
    starts = [record for record in view.records if record.start]
    assert starts
    assert {record.state for record in starts} == {"complete"}
    # Its pauses are told, its epochs once each, and its end once.
    for record in view.records:
        own = [e for e in events if isinstance(e, TrialEpoch) and e.number == record.number]
        assert [e.epoch for e in own] == list(range(1, record.epochs + 1))
        pauses = [
            e.record.epochs
            for e in events
            if isinstance(e, TrialPaused) and e.record.number == record.number
        ]
        below = [rung for rung in RUNGS if rung <= record.epochs and rung < 4]
        assert pauses == ([] if record.start else below)
    ends = Counter(e.record.number for e in events if isinstance(e, TrialFinished))
    assert ends == Counter(range(8))


@pytest.mark.slow
def test_a_paused_and_resumed_curve_equals_one_of_a_piece(run: Run, study: Path) -> None:
    paused = run()
    study.write_text(study.read_text().replace(", fidelity: [1, 2, 4]", ""))
    whole = run(storage="sqlite:///whole.db", cache="off")
    same = {record.digest: record for record in whole.records}
    both = [record for record in paused.records if record.digest in same]
    assert len([record for record in both if not record.start]) > 0
    for record in both:
        assert record.curve == same[record.digest].curve[: record.epochs]


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["shared", "off"])
def test_interrupted_and_resumed_equals_undisturbed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: str
) -> None:
    undisturbed = run(storage="sqlite:///whole.db", home=tmp_path / "whole", cache=cache)
    by_epochs = {record.epochs: record for record in undisturbed.records if not record.start}
    one, two = by_epochs[min(by_epochs)], by_epochs[max(by_epochs)]
    moments = sorted({(one.number, 1), (two.number, 1), (two.number, two.epochs)})
    for trial, epoch in moments:
        with pytest.raises(KeyboardInterrupt):
            run(cache=cache, watch=Stop(trial, epoch))
    told = open_study("sqlite:///studies.db", "tiny")
    assert told.counts["running"] == 1
    assert told.counts.get("paused", 0) > 0
    assert main(["status", "tiny", "--storage", "sqlite:///studies.db", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["trials"]["by_state"]["paused"] == told.counts["paused"]
    assert not any(record.state == "paused" for record in told.records)
    assert results(run(cache=cache)) == results(undisturbed)
    assert not list((tmp_path / ".prunenas" / "checkpoints").rglob("*.pt"))
