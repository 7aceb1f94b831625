"""Candidates trained again at a study's end: real digits, tiny networks."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import tracked
from tiny_studies import NOWHERE, write_study

from prunenas import Architecture, build
from prunenas.cli import main
from prunenas.cli.choice import choose
from prunenas.data import load
from prunenas.errors import TrainingError
from prunenas.export import read_config
from prunenas.search import StudyView, open_study, run_study, track_study
from prunenas.search.events import Event, RepeatEpoch, RepeatFinished, RepeatStarted, StudyFinished
from prunenas.search.repeats import seeds
from prunenas.spec import load_study
from prunenas.training import shared, train

Run = Callable[..., StudyView]
BUDGET = "{maximize: accuracy, flops_ratio: 0.5}"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def start(path: Path, **options: Any) -> StudyView:
        usual = {"storage": "sqlite:///studies.db", "device": "cpu", "tracking": NOWHERE}
        return run_study(load_study(path), **{**usual, **options})

    return start


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The training seeds of what was really trained, in order."""
    done: list[int] = []

    def counting(*arguments: Any, **named: Any) -> Any:
        done.append(named["seed"])
        return train(*arguments, **named)

    monkeypatch.setattr(shared, "train", counting)
    return done


def fresh(view: StudyView) -> dict[int, list[tuple[int, float | None]]]:
    return {
        each.record.number: [(training.seed, training.accuracy) for training in each.trainings]
        for each in view.repeats
    }


def runs(folder: Path) -> dict[str, tuple[dict[str, float], dict[str, str]]]:
    """Metrics and tags of MLflow's runs by name."""
    with tracked.reading(f"sqlite:///{folder}/mlflow.db") as client:
        (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
        return {
            run.info.run_name: (run.data.metrics, run.data.tags)
            for run in client.search_runs([experiment.experiment_id])
        }


def test_candidates_are_trained_with_fresh_seeds_once_and_ranked(
    tmp_path: Path, run: Run, trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[Event] = []
    view = run(write_study(tmp_path, sampler="random", trials=5, repeats=2), watch=events.append)
    wanted = seeds(3, 2)
    assert [each.record.number for each in view.repeats] == sorted(r.number for r in view.front)
    for each in view.repeats:
        assert tuple(training.seed for training in each.trainings) == wanted
        assert each.record.seeds["training"] == 3
    first = view.repeats[0]
    architecture = Architecture.from_dict(first.record.architecture or {})
    study = load_study(tmp_path / "tiny.yaml")
    alone = train(
        build(architecture, seed=wanted[1]),
        load(**study.data.model_dump(), device="cpu"),
        study.train,
        epochs=2,
        seed=wanted[1],
        device="cpu",
    )
    assert first.trainings[1].accuracy == alone.validation.accuracy
    assert first.trainings[1].epochs == 2
    # The first seed of all comes before the second of any.
    assert trained[-2 * len(view.repeats) :] == sorted(wanted * len(view.repeats), key=wanted.index)
    started = [event for event in events if isinstance(event, RepeatStarted)]
    ended = [event for event in events if isinstance(event, RepeatFinished)]
    total = 2 * len(view.repeats)
    assert [event.done for event in started] == list(range(total))
    assert [(event.done, event.total) for event in ended] == [(n + 1, total) for n in range(total)]
    assert sum(isinstance(event, RepeatEpoch) for event in events) == 2 * total
    assert isinstance(events[-1], StudyFinished)
    assert view.finished

    means = {number: fmean(a for _, a in rows if a) for number, rows in fresh(view).items()}
    order = [each.record.number for each in view.ranking]
    assert [means[number] for number in order] == sorted(means.values(), reverse=True)
    assert choose(view, (), None, False)[0][1].number == order[0]
    capsys.readouterr()
    assert main(["best", "tiny", "--storage", "sqlite:///studies.db", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["trial"] for row in told["repeats"]["candidates"]] == order
    assert told["repeats"]["candidates"][0]["mean"] == means[order[0]]
    gaps = [each.record.accuracy - means[each.record.number] for each in view.repeats]
    assert told["repeats"]["winners_curse"]["mean"] == pytest.approx(fmean(gaps))
    assert {row["number"] for row in told["front"]} == {
        row["trial"] for row in told["repeats"]["candidates"] if row["on_front"]
    }
    assert main(["best", "tiny", "--storage", "sqlite:///studies.db"]) == 0
    shown = capsys.readouterr().out
    assert f"{means[order[0]]:.4f} ±" in shown
    assert told["repeats"]["winners_curse"]["sentence"] in shown
    assert main(["status", "tiny", "--storage", "sqlite:///studies.db"]) == 0
    assert f"repeats: {total} of {total} trainings" in capsys.readouterr().out

    # More seeds are only added; nothing is trained that is there.
    trained.clear()
    more = run(write_study(tmp_path, sampler="random", trials=5, repeats=3))
    assert trained == [seeds(3, 3)[2]] * len(view.repeats)
    assert {number: rows[:2] for number, rows in fresh(more).items()} == fresh(view)
    trained.clear()
    assert fresh(run(write_study(tmp_path, sampler="random", trials=5))) == fresh(more)
    assert trained == []


class Stop:
    """Interrupts as Ctrl-C does, in the second training with a fresh seed."""

    def __init__(self) -> None:
        self.begun = 0

    def __call__(self, event: Event) -> None:
        self.begun += isinstance(event, RepeatStarted)
        if isinstance(event, RepeatEpoch) and self.begun == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "cache", [pytest.param("off", id="off"), pytest.param(None, marks=pytest.mark.slow, id="on")]
)
def test_an_interrupted_repeat_goes_on(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, cache: str | None
) -> None:
    path = write_study(tmp_path, sampler="random", trials=2, repeats=2, objective=BUDGET)
    options = {"cache": cache}
    whole = run(path, storage="sqlite:///whole.db", home=tmp_path / "whole", **options)
    assert len(whole.directions) == 1
    with pytest.raises(KeyboardInterrupt):
        run(path, watch=Stop(), **options)
    left = open_study("sqlite:///studies.db", "tiny")
    assert not left.finished
    assert left.ranking == ()
    assert left.repeats_done == (1, 2 * len(left.repeats))
    assert left.final_front == left.front
    assert len(list((tmp_path / ".prunenas").rglob("*.pt"))) == 1
    steps = [0]
    step = torch.optim.SGD.step

    def counting(self: torch.optim.SGD, *arguments: Any, **named: Any) -> Any:
        steps[0] += 1
        return step(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.SGD, "step", counting)
    resumed = run(path, **options)
    assert fresh(resumed) == fresh(whole)
    # Two epochs of four steps each, but for the first one and half of the second.
    assert steps[0] == (2 * len(left.repeats) - 1.5) * 2 * 4
    assert not list((tmp_path / ".prunenas").rglob("*.pt"))


def test_a_training_that_fails_is_recorded_and_the_study_goes_on(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = seeds(3, 3)[0]

    def failing(*arguments: Any, **named: Any) -> Any:
        if named["seed"] == bad:
            raise TrainingError("non-finite loss", "the loss is nan")
        if named["seed"] == seeds(3, 3)[1]:
            raise ValueError("something\nstrange")
        return train(*arguments, **named)

    monkeypatch.setattr(shared, "train", failing)
    view = run(write_study(tmp_path, sampler="random", trials=2, repeats=3, epochs=1))
    for each in view.repeats:
        assert [training.reason for training in each.trainings] == [
            "non-finite loss",
            "ValueError: something strange",
            None,
        ]
        assert each.n == 1
    assert view.finished
    assert view.final_front == view.front  # nobody has two seeds
    assert main(["best", "tiny", "--storage", "sqlite:///studies.db"]) == 0
    assert f"seed {bad}: non-finite loss" in capsys.readouterr().out


@pytest.mark.slow
def test_mlflow_has_means_and_the_winners_curse_and_can_be_rebuilt(
    tmp_path: Path, run: Run
) -> None:
    def place(name: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mlflow.db").write_bytes(tracked.fresh_database())
        return f"sqlite:///{tmp_path}/{name}/mlflow.db"

    one, other = place("one"), place("other")
    path = write_study(tmp_path, sampler="random", trials=5, repeats=2)
    view = run(path, tracking=one)
    best = view.ranking[0]
    written = runs(tmp_path / "one")
    child, tags = next(v for k, v in written.items() if k.startswith(f"{best.record.number:03d}"))
    assert child["repeats/accuracy_mean"] == best.mean
    assert child["repeats/accuracy_standard_error"] == best.standard_error
    assert child["repeats/n"] == 2
    assert "rank 1" in tags["prunenas.repeats"]
    parent, tags = written["tiny"]
    gaps = [each.record.accuracy - each.mean for each in view.repeats]
    assert parent["winners_curse/mean"] == pytest.approx(fmean(gaps))
    assert tags["prunenas.best"].startswith(f"trial {best.record.number},")
    assert "repeats.png" in tags["mlflow.note.content"]
    pictures = list((tmp_path / "one").rglob("repeats.png"))
    assert len(pictures) == 1

    track_study("sqlite:///studies.db", "tiny", tracking=other)
    again = runs(tmp_path / "other")
    assert {name: metrics for name, (metrics, _) in again.items()} == {
        name: metrics for name, (metrics, _) in written.items()
    }
    assert again["tiny"][1]["prunenas.winners_curse"] == tags["prunenas.winners_curse"]
    (rebuilt,) = (tmp_path / "other").rglob("repeats.png")
    assert rebuilt.read_bytes() == pictures[0].read_bytes()

    before = tracked.everything(tmp_path / "one")
    run(path, tracking=one)
    track_study("sqlite:///studies.db", "tiny", tracking=one)
    assert tracked.everything(tmp_path / "one").keys() == before.keys()
    run(write_study(tmp_path, sampler="random", trials=5, repeats=3), tracking=one)
    assert runs(tmp_path / "one")["tiny"][0]["repeats/trainings"] == 3 * len(view.repeats)


@pytest.mark.slow
def test_more_trials_bring_more_candidates_and_an_export_says_both_scores(
    tmp_path: Path, run: Run
) -> None:
    first = run(write_study(tmp_path, sampler="random", trials=3, repeats=2))
    path = write_study(tmp_path, sampler="random", trials=8, repeats=2)
    view = run(path)
    assert {r.number for r in view.front} <= set(fresh(view))
    assert fresh(first).items() <= fresh(view).items()
    storage = ["--storage", "sqlite:///studies.db"]
    assert main(["export", "tiny", "exports", *storage, "--device", "cpu"]) == 0
    best = view.ranking[0]
    config = read_config("exports/best")
    assert config.provenance["trial"] == best.record.number
    assert config.provenance["repeats"]["mean"] == best.mean
    card = Path("exports/best/README.md").read_text()
    assert f"{best.mean:.2%}".replace("%", " %") in card
    assert main(["export", "tiny", "all", *storage, "--all", "--device", "cpu"]) == 0
    names = {f"trial_{record.number}" for record in view.final_front}
    assert {folder.name for folder in Path("all").iterdir()} == names
    assert asdict(best.trainings[0])["seed"] == seeds(3, 1)[0]
