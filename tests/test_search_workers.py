"""Studies with worker processes: the same trials as one process has, whatever is killed."""

import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from shell import environment, prunenas
from tiny_studies import L1, NOWHERE, SLIMMING, results, write_study

from prunenas.errors import StudyError
from prunenas.search import Labour, StudyView, open_study, run_study
from prunenas.search.benches import benches
from prunenas.search.events import DenseEpoch, Event, StudyStarted, TrialEpoch
from prunenas.search.workshop import Place
from prunenas.spec import load_study

Run = Callable[..., StudyView]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the study file in a folder of its own; keyword arguments go to ``run_study``."""
    monkeypatch.chdir(tmp_path)

    def start(path: Path, name: str = "one", **options: Any) -> StudyView:
        return run_study(
            load_study(path),
            **{
                "storage": f"sqlite:///{name}.db",
                "tracking": NOWHERE,
                "home": tmp_path / name,
                "device": "cpu",
                **options,
            },
        )

    return start


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_an_epoch_and_nothing_else(tmp_path: Path, run: Run) -> None:
    path = write_study(tmp_path, methods=f"{L1}\n{SLIMMING}", epochs=3, trials=6)
    alone = run(path, labour=Labour(deterministic=True))
    seen: list[Event] = []
    warnings: list[str] = []

    def watch(event: Event) -> None:
        seen.append(event)
        if isinstance(event, TrialEpoch) and (event.number, event.epoch) == (2, 2):
            for process in multiprocessing.active_children():
                process.kill()

    told = {"watch": watch, "warn": warnings.append}
    view = run(path, "two", tracking=None, labour=Labour(2, deterministic=True), **told)
    assert results(view) == results(alone)
    assert not multiprocessing.active_children()
    assert [event.workers for event in seen if isinstance(event, StudyStarted)] == [2]
    epochs = [(e.number, e.epoch) for e in seen if isinstance(e, TrialEpoch)]
    assert len(set(epochs)) == len(epochs)  # none is told twice
    trained = [e for e in seen if isinstance(e, DenseEpoch) and e.what == "dense network"]
    assert len({e.epoch for e in trained}) == len(trained)  # by one of the workers
    assert warnings
    assert all("was ended by SIGKILL" in text for text in warnings)
    assert "goes on from its last checkpoint" in warnings[0]
    with pytest.raises(StudyError, match="was begun with --deterministic, and goes on like that"):
        run(path, "two", labour=Labour(deterministic=False))


def test_interrupted_workers_write_down_the_epochs_they_have_finished(
    tmp_path: Path, run: Run
) -> None:
    """They end by a signal, and their trainings are too short for a checkpoint on the way."""
    path = write_study(tmp_path, epochs=200, trials=4)
    places: dict[int, int] = {}

    def watch(event: Event) -> None:
        if isinstance(event, TrialEpoch):
            places[event.number] = event.epoch
            if min(places.values()) >= 3 and len(places) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, labour=Labour(2), watch=watch)
    assert not multiprocessing.active_children()
    unfinished = list((tmp_path / "one" / "cache" / "unfinished").glob("scratch-*.pt"))
    assert len(unfinished) == 2
    for checkpoint in unfinished:  # behind a checksum
        content = io.BytesIO(checkpoint.read_bytes()[32:])
        assert len(torch.load(content, weights_only=True)["values"]["curve"]) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "more"),
    [
        ("gp", ""),
        ("budgeted", ""),
        ("nsga2", ", stopper: pareto"),
        ("tpe", ", fidelity: [1, 2, 4]"),
        ("qmc", ", fidelity: [1, 4]"),
        ("random", ", repeats: 2"),
    ],
)
def test_any_number_of_workers_gives_the_same_trials(
    tmp_path: Path, run: Run, sampler: str, more: str
) -> None:
    path = write_study(tmp_path, sampler=sampler, epochs=4, trials=14, more=more)
    alone = run(path, labour=Labour(deterministic=True))
    three = run(path, "three", labour=Labour(3, deterministic=True))
    assert results(three) == results(alone)
    assert [record.number for record in three.front] == [record.number for record in alone.front]
    assert [repeats.accuracies for repeats in three.repeats] == [
        repeats.accuracies for repeats in alone.repeats
    ]
    assert bool(alone.repeats) == ("repeats" in more)
    states = {record.state for record in alone.records}
    assert states <= {"complete", "stopped"}
    if "fidelity" in more:
        assert states == {"complete", "stopped"}
        assert {r.epochs for r in alone.records if r.state == "stopped"} <= {1, 2}


@pytest.mark.slow
def test_without_deterministic_workers_end_with_the_asked_trials(tmp_path: Path, run: Run) -> None:
    path = write_study(tmp_path, epochs=4, trials=10, more=", fidelity: [1, 2, 4]")
    view = run(path, labour=Labour(3))
    assert [record.number for record in view.records] == list(range(10))
    assert view.finished
    assert set(view.counts) == {"complete", "stopped"}
    assert sum(view.counts.values()) == 10


DEADLY = """
import multiprocessing, os, signal
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        worker = multiprocessing.parent_process() is not None
        if worker and len(x) == 50 and self.conv.out_channels == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))
"""


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_fails_and_the_study_goes_on(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    half = "  - {name: uniform, space: {method: {ratio: {choices: [0.5, 1.0]}}}}"
    path = write_study(tmp_path, methods=half, sampler="random", trials=3)
    path.write_text(path.read_text().replace("{name: vgg_mini}", "{name: 'deadly:Net'}"))
    warnings: list[str] = []
    view = run(path, tracking=None, labour=Labour(2), warn=warnings.append)
    assert view.finished
    killed = [record for record in view.records if record.state == "failed"]
    assert killed
    assert {record.parameters["ratio"] for record in killed} == {0.5}
    assert {r.parameters["ratio"] for r in view.records if r.state == "complete"} == {1.0}
    for record in killed:
        assert record.reason is not None
        assert "its worker was ended by SIGKILL" in record.reason
        assert "3 times before an epoch of it ended" in record.reason
    assert len(warnings) == 2 * len(killed)


@pytest.mark.slow
def test_workers_that_can_not_start_end_the_study_and_fail_no_trial(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "shy.py").write_text(
        DEADLY + "\nif multiprocessing.parent_process() is not None:\n    os._exit(3)\n"
    )
    path = write_study(tmp_path)
    path.write_text(path.read_text().replace("{name: vgg_mini}", "{name: 'shy:Net'}"))
    with pytest.raises(StudyError, match=r"worker \d can't start: it ended with exit code 3, 3"):
        run(path, labour=Labour(2))
    assert not multiprocessing.active_children()
    assert not open_study("sqlite:///one.db", "tiny").records


@pytest.mark.parametrize(
    "error", [EOFError("unexpected EOF"), OSError(12, "Cannot allocate memory")]
)
def test_what_keeps_a_worker_from_starting_is_one_line(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The process that starts workers is gone, or the system has no room for one more."""

    def fails(process: multiprocessing.Process) -> None:
        raise error

    monkeypatch.setattr(ForkServerProcess, "start", fails)
    with pytest.raises(StudyError, match=re.escape(f"worker 0 can't start: {error}")):
        run(write_study(tmp_path), labour=Labour(2))


@pytest.mark.slow
def test_a_script_without_a_guard_starts_its_study_once(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(
        "import prunenas\n"
        "print('begun')\n"
        f"view = prunenas.run({str(path)!r}, workers=2, device='cpu')\n"
        "print(view.counts)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines() == ["begun", "{'complete': 4}"], done.stderr
    assert done.returncode == 0


def children(pid: int) -> list[int]:
    """Processes that a process has started, and those of these, as Linux tells them."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        found = [int(child) for child in listed.read_text().split()]
    except OSError:  # it has ended
        return []
    return found + [below for child in found for below in children(child)]


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_the_study_that_started_it(tmp_path: Path, how: signal.Signals) -> None:
    write_study(tmp_path, epochs=40, trials=4)
    command = [sys.executable, "-m", "prunenas", "run", "tiny.yaml", "--workers", "2"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "epoch 3/40" in line:
                break
        workers = children(process.pid)
        assert len(workers) >= 2
        if how == signal.SIGINT:  # as a terminal does it: to every process
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        tail = process.stdout.read()
    assert "Traceback" not in tail
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "--workers 2" in tail  # how to go on
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers)
    view = open_study("sqlite:///" + str(tmp_path / ".prunenas/studies.db"), "tiny")
    assert view.counts == {"running": 2}


def test_threads_are_divided_and_gpus_are_asked_for_only_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(write_study(tmp_path))
    place = Place(tmp_path, None, "identity")
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    for workers, threads in [(1, 7), (2, 3), (9, 1)]:
        shared = benches(study, "cpu", place, workers=workers)
        assert [bench.threads for bench in shared] == [threads] * workers
        assert {bench.device for bench in shared} == {"cpu"}
    with pytest.raises(StudyError, match="--per-gpu 2 is for GPUs, but the device is cpu"):
        benches(study, "cpu", place, workers=2, per_gpu=2)
    with pytest.raises(StudyError, match="`workers >= 1`"):
        benches(study, "cpu", place, workers=0)


def test_workers_go_round_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(write_study(tmp_path))
    place = Place(tmp_path, None, "identity")
    monkeypatch.setattr("prunenas.search.benches.device_named", torch.device)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    four = benches(study, "cuda", place, workers=4, per_gpu=2)
    assert [bench.device for bench in four] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    both = benches(study, "cuda:1", place, workers=2, per_gpu=2)
    assert [bench.device for bench in both] == ["cuda:1", "cuda:1"]
    with pytest.raises(StudyError, match="4 workers on 3 GPUs need --per-gpu 2 or more, but it is"):
        benches(study, "cuda", place, workers=4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_two_workers_share_a_gpu(tmp_path: Path, run: Run) -> None:
    path = write_study(tmp_path, trials=6)
    view = run(path, device="cuda:0", labour=Labour(2, per_gpu=2))
    assert view.counts == {"complete": 6}


def test_a_wrong_number_of_workers_is_the_users_mistake(tmp_path: Path) -> None:
    write_study(tmp_path)
    refused = prunenas(tmp_path, "run", "tiny.yaml", "--workers", "0")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
