"""What may befall a study: processes killed at random, a full disk, a lock, data that vanish."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import numpy as np
import pytest
from PIL import Image
from shell import environment, prunenas
from test_search_workers import alive, children
from tiny_studies import L1, NOWHERE, SLIMMING, results, write_study

from prunenas.errors import StudyError
from prunenas.search import Labour, open_study, run_study
from prunenas.search.events import Event, TrialEpoch, TrialFinished
from prunenas.spec import load_study
from prunenas.training import keeping

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "prunenas", "run", "tiny.yaml", "--device", "cpu")


def child_runs(folder: Path) -> list[int]:
    """Trial numbers of a study's runs in MLflow's own tables, one for each run."""
    with sqlite3.connect(folder / "mlflow.db") as tables:
        found = tables.execute(
            "SELECT number.value FROM runs JOIN tags AS number USING (run_uuid)"
            " JOIN tags AS parent USING (run_uuid) WHERE number.key = 'prunenas.trial'"
            " AND parent.key = 'mlflow.parentRunId' AND runs.lifecycle_stage = 'active'"
        ).fetchall()
    tables.close()
    return sorted(int(number) for (number,) in found)


def free(folder: Path) -> bool:
    """Whether nobody holds any lock file below a folder."""
    for path in folder.rglob("*.lock"):
        with filelock.FileLock(path).acquire(timeout=0):
            pass
    return True


def test_twenty_kills_at_random_moments_leave_no_trace(tmp_path: Path) -> None:
    """Workers, the process that runs the study, or all of them; then the study is as if nothing."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for folder in (whole, torn):
        folder.mkdir()
        write_study(folder, methods=f"{L1}\n{SLIMMING}", epochs=6, trials=16)
    done = prunenas(whole, "run", "tiny.yaml", "--device", "cpu", "--deterministic")
    assert done.returncode == 0, done.stderr

    chance = random.Random(20)
    kills = [*["worker"] * 14, *["parent"] * 3, *["all"] * 3]
    chance.shuffle(kills)
    while kills:
        with subprocess.Popen(
            [*COMMAND, "--workers", "2", "--deterministic"],
            cwd=torn,
            env=environment(CI="1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            workers: list[int] = []
            while process.poll() is None and kills:
                time.sleep(chance.uniform(0.2, 4))
                workers = [pid for pid in children(process.pid) if pid not in workers]
                if kills[-1] != "parent" and not workers:
                    continue
                whom = kills.pop()
                victims = {"worker": workers[-1:], "parent": [], "all": workers}[whom]
                if whom != "worker":
                    process.kill()
                for pid in victims:
                    if alive(pid):
                        subprocess.run(["kill", "-9", str(pid)], check=False)
                if whom != "worker":
                    break
            if process.poll() is None and not kills:
                process.kill()
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        if open_study(f"sqlite:///{torn / '.prunenas/studies.db'}", "tiny").finished:
            break
    assert not kills, "the study was done before all of them"
    last = prunenas(torn, "run", "tiny.yaml", "--workers", "2", "--device", "cpu")
    assert last.returncode == 0, last.stderr

    views = [
        open_study(f"sqlite:///{folder / '.prunenas/studies.db'}", "tiny")
        for folder in (whole, torn)
    ]
    assert results(views[1]) == results(views[0])
    assert [r.number for r in views[1].front] == [r.number for r in views[0].front]
    assert child_runs(torn) == list(range(16))
    assert free(torn)


def test_four_workers_and_two_hundred_trials_on_one_sqlite_file(tmp_path: Path) -> None:
    path = write_study(tmp_path, sampler="random", epochs=1, trials=200)
    path.write_text(path.read_text().replace("train_limit: 200", "train_limit: 100"))
    done = prunenas(tmp_path, "run", "tiny.yaml", "--device", "cpu", "--workers", "4", CI="1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.replace("export one: prunenas export tiny exports", "").strip() == ""
    view = open_study(f"sqlite:///{tmp_path / '.prunenas/studies.db'}", "tiny")
    assert view.counts == {"complete": 200}
    assert [record.number for record in view.records] == list(range(200))
    assert child_runs(tmp_path) == list(range(200))
    # Equal architectures were trained once, whichever worker came first.
    trained = [record.digest for record in view.records if record.reused is None]
    assert len(set(trained)) == len(trained) == len({record.digest for record in view.records})


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of a few megabytes, as root may make one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("kept", [True, False])
def test_a_full_disk_stops_a_study_that_would_lose_epochs_with_one_line_and_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Where no checkpoint is due nothing is lost, but what exports and others would read."""
    monkeypatch.chdir(tmp_path)
    if kept:
        monkeypatch.setattr(keeping, "SOONEST", 0.0)
        monkeypatch.setattr(keeping, "SHARE", float("inf"))
    study = load_study(write_study(tmp_path, epochs=6, trials=4))
    usual = {"device": "cpu", "labour": Labour(deterministic=True)}
    undisturbed = run_study(study, storage="sqlite:///whole.db", tracking=NOWHERE, **usual)
    told: list[str] = []
    with small_disk(tmp_path / "small", 16) as home:
        ballast = home / "ballast"

        def fill(event: Event) -> None:
            begun = isinstance(event, TrialEpoch) and (event.number, event.epoch) == (1, 1)
            if begun or ballast.exists():  # and again, whatever is removed meanwhile
                space = shutil.disk_usage(home).free
                with suppress(OSError), ballast.open("ab") as file:  # it may be full by now
                    file.write(bytes(max(0, space - 8192)))

        again = {**usual, "storage": "sqlite:///studies.db", "home": home, "warn": told.append}
        if kept:
            with pytest.raises(
                StudyError, match=r"trial \d can't go on: No space left on device: .*small"
            ):
                run_study(study, watch=fill, **again)
            assert not open_study("sqlite:///studies.db", "tiny").counts.get("failed")
            ballast.unlink()
            view = run_study(study, **again)
        else:
            view = run_study(study, watch=fill, **again)
            assert any("weights of trial 1 can't be kept" in line for line in told)
            assert all("No space left on device" in line for line in told)
    assert results(view) == results(undisturbed)


def test_a_database_that_is_locked_for_half_a_minute_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = load_study(write_study(tmp_path, trials=3))
    locked: list[float] = []

    def hold() -> None:
        with sqlite3.connect("studies.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            begun = time.monotonic()
            time.sleep(30)
            other.execute("COMMIT")
            locked.append(time.monotonic() - begun)
        other.close()

    holder = threading.Thread(target=hold)

    def watch(event: Event) -> None:
        if isinstance(event, TrialEpoch) and (event.number, event.epoch) == (1, 1):
            holder.start()
            time.sleep(0.5)

    usual = {"storage": "sqlite:///studies.db", "tracking": NOWHERE, "device": "cpu"}
    view = run_study(study, watch=watch, **usual)
    holder.join()
    assert locked
    assert locked[0] >= 30
    assert view.counts == {"complete": 3}


def write_images(root: Path) -> None:
    noise = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 12)):
        for label in ("cat", "dog"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.mark.parametrize("workers", [1, 2])
def test_data_that_vanish_stop_the_study_with_one_line_and_it_resumes(
    tmp_path: Path, workers: int
) -> None:
    write_images(tmp_path / "images")
    path = write_study(tmp_path, epochs=8, trials=4)
    text = path.read_text().replace(
        "{name: digits, train_limit: 200}",
        "{name: image_folder, root: images, image_size: 16, workers: 0}",
    )
    path.write_text(text.replace("batch_size: 50", "batch_size: 16"))
    command = [*COMMAND, "--workers", str(workers)]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(CI="1", PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "trial 1: epoch 2/" in line:
                break
        (tmp_path / "images").rename(tmp_path / "elsewhere")
        process.stdout.read()
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert "can't go on" in said
    assert "images" in said
    view = open_study(f"sqlite:///{tmp_path / '.prunenas/studies.db'}", "tiny")
    assert "failed" not in view.counts
    assert not view.finished

    (tmp_path / "elsewhere").rename(tmp_path / "images")
    done = prunenas(tmp_path, "run", "tiny.yaml", "--device", "cpu", "--workers", str(workers))
    assert done.returncode == 0, done.stderr
    view = open_study(f"sqlite:///{tmp_path / '.prunenas/studies.db'}", "tiny")
    assert view.counts == {"complete": 4}


def test_nan_in_one_trial_of_several_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unstable.py").write_text(
        "import torch\n"
        "from torch import nn\n\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes=10):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(1, 8, 3, padding=1)\n"
        "        self.head = nn.Linear(8, num_classes)\n\n"
        "    def forward(self, x):\n"
        "        x = torch.relu(self.conv(x)).mean((2, 3))\n"
        "        narrow = self.conv.out_channels == 4 and len(x) == 50\n"
        "        return self.head(x) * (float('nan') if narrow else 1.0)\n"
    )
    both = "  - {name: uniform, space: {method: {ratio: {choices: [0.5, 1.0]}}}}"
    path = write_study(tmp_path, methods=both, sampler="random", trials=6)
    path.write_text(path.read_text().replace("{name: vgg_mini}", "{name: 'unstable:Net'}"))
    events: list[Event] = []
    view = run_study(
        load_study(path),
        storage="sqlite:///studies.db",
        tracking=NOWHERE,
        device="cpu",
        labour=Labour(2),
        watch=events.append,
    )
    failed = {record.number for record in view.records if record.state == "failed"}
    assert failed
    assert {view.records[number].reason for number in failed} == {"non-finite loss"}
    assert {view.records[number].parameters["ratio"] for number in failed} == {0.5}
    assert len([event for event in events if isinstance(event, TrialFinished)]) == 6
    assert view.counts == {"failed": len(failed), "complete": 6 - len(failed)}


def test_a_process_that_hangs_up_takes_the_study_with_it(tmp_path: Path) -> None:
    """A closed terminal sends SIGHUP: no worker stays, the study goes on later."""
    write_study(tmp_path, epochs=10, trials=2)
    with subprocess.Popen(
        [*COMMAND, "--workers", "2"],
        cwd=tmp_path,
        env=environment(CI="1", PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "epoch 2/10" in line)
        workers = children(process.pid)
        process.send_signal(signal.SIGHUP)
        process.stdout.read()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    done = prunenas(tmp_path, "run", "tiny.yaml", "--workers", "2")
    assert done.returncode == 0, done.stderr
