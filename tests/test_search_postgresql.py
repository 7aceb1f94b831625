"""Studies in a real PostgreSQL, as several machines share them."""

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql import PASSWORD, PostgreSQL, needs_postgresql, postgresql
from shell import environment, prunenas
from tiny_studies import L1, NOWHERE, SLIMMING, Stop, figures, write_study

from prunenas.cli import main
from prunenas.errors import StudyError
from prunenas.search import open_study, run_study
from prunenas.search.events import Event, TrialEpoch, TrialFinished
from prunenas.spec import load_study

pytestmark = needs_postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running:
        yield running


@pytest.fixture
def storage(server: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty database; the current folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return server.database(tmp_path.name)


def test_a_study_that_is_interrupted_and_resumed_has_the_figures_it_has_in_sqlite(
    tmp_path: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, methods=f"{L1}\n{SLIMMING}", trials=4)
    study = load_study(path)
    nowhere = {"tracking": NOWHERE, "device": "cpu"}
    undisturbed = run_study(study, storage="sqlite:///whole.db", home=tmp_path / "whole", **nowhere)
    for trial, epoch in [(0, 1), (2, 1)]:
        with pytest.raises(KeyboardInterrupt):
            run_study(study, storage=storage, watch=Stop(trial, epoch), **nowhere)
        assert open_study(storage, "tiny").counts.get("running") == 1
    resumed = run_study(study, storage=storage, **nowhere)
    assert resumed.counts == undisturbed.counts
    assert figures(resumed) == figures(undisturbed)
    assert figures(open_study(storage, "tiny")) == figures(undisturbed)

    told = []
    for arguments in (["status"], ["best", "tiny"]):
        assert main([*arguments, "--storage", storage, "--json"]) == 0
        printed = capsys.readouterr()
        assert PASSWORD not in printed.out + printed.err
        told.append(json.loads(printed.out))
    (listed,), best = told
    assert listed["trials"] == {"total": 4, "done": 4, "by_state": resumed.counts, "reused": 0}
    assert best["front"] == [record.to_dict() for record in resumed.front]
    assert best["storage"] == storage.replace(PASSWORD, "***")


@pytest.mark.slow
def test_the_command_line_says_no_password_whatever_happens(tmp_path: Path, storage: str) -> None:
    write_study(tmp_path, trials=3, epochs=12)
    command = [sys.executable, "-m", "prunenas", "run", "tiny.yaml", "--device", "cpu"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(PRUNENAS_STORAGE=storage, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        head = list(itertools.takewhile(lambda x: "trial 1: epoch 2/" not in x, process.stdout))
        process.send_signal(signal.SIGINT)
        tail = process.stdout.read()
    said = "".join(head) + tail
    assert process.returncode == 130, said
    assert "interrupted: finished trials are kept" in tail
    assert open_study(storage, "tiny").counts == {"complete": 1, "running": 1}
    done = prunenas(tmp_path, *command[3:], PRUNENAS_STORAGE=storage)
    assert done.returncode == 0, done.stderr
    assert "tiny: finished, 3 complete" in done.stdout
    assert done.stderr.startswith("export one: ")
    write_study(tmp_path, trials=3, epochs=13)
    other = prunenas(tmp_path, *command[3:], PRUNENAS_STORAGE=storage)
    assert other.returncode == 2
    assert "begun with other settings: train.epochs was 12 and is 13" in other.stderr
    for text in (said, done.stdout, done.stderr, other.stderr):
        assert "Traceback" not in text
        assert PASSWORD not in text


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("password", "password authentication failed"),
        ("database", 'database "nowhere" does not exist'),
        ("port", "refused"),
        ("at", "an @ in a user's name or password is written %40"),
    ],
)
@pytest.mark.parametrize("command", [["run", "tiny.yaml"], ["status"], ["best", "tiny"]])
def test_a_database_that_refuses_is_one_line(
    server: PostgreSQL,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: str,
    told: str,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path)
    storage = {
        "password": server.url(password="hidden"),
        "database": server.url("nowhere", PASSWORD),
        "port": server.url(password="hidden").replace(f":{server.port}/", ":9/"),
        "at": server.url(password="hid@den"),
    }[wrong]
    assert main([*command, "--storage", storage]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: storage postgresql://ada:***@127.0.0.1:")
    assert told in line
    assert "hid" not in line
    assert PASSWORD not in line


def test_without_the_driver_what_to_install_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyError, match=r"pip install 'prunenas\[postgresql\]'"):
        open_study("postgresql://ada@127.0.0.1:9/studies", "tiny")


def test_a_server_that_restarts_between_trials_is_not_noticed(
    tmp_path: Path, server: PostgreSQL, storage: str
) -> None:
    def restart(event: Event) -> None:
        if isinstance(event, TrialEpoch) and (event.number, event.epoch) == (0, 1):
            server.stop()
            server.start()

    study = load_study(write_study(tmp_path, trials=2))
    view = run_study(study, storage=storage, tracking=NOWHERE, device="cpu", watch=restart)
    assert view.counts == {"complete": 2}


def test_a_server_that_goes_down_ends_the_run_in_a_line_and_the_next_one_goes_on(
    tmp_path: Path, server: PostgreSQL, storage: str
) -> None:
    study = load_study(write_study(tmp_path, trials=2))

    def pull_the_plug(event: Event) -> None:
        if isinstance(event, TrialEpoch) and (event.number, event.epoch) == (1, 2):
            server.stop()

    try:
        with pytest.raises(StudyError, match=r"can't be used any more: .* refused") as caught:
            run_study(study, storage=storage, tracking=NOWHERE, device="cpu", watch=pull_the_plug)
    finally:
        server.start()
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)
    seen: list[Event] = []
    view = run_study(study, storage=storage, tracking=NOWHERE, device="cpu", watch=seen.append)
    assert view.counts == {"complete": 2}
    assert [event.record.number for event in seen if isinstance(event, TrialFinished)] == [1]


@pytest.mark.slow
def test_a_study_is_run_by_one_process_whatever_folder_or_machine_it_is_on(
    tmp_path: Path, storage: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    study = load_study(write_study(tmp_path, trials=2))
    write_study(elsewhere, trials=2)
    refused: list[str] = []

    def second(event: Event) -> None:
        if isinstance(event, TrialEpoch) and (event.number, event.epoch) == (0, 1):
            done = prunenas(elsewhere, "run", "tiny.yaml", PRUNENAS_STORAGE=storage)
            assert done.returncode == 2
            refused.append(done.stderr)

    assert run_study(study, storage=storage, tracking=NOWHERE, device="cpu", watch=second).finished
    assert len(refused) == 1
    assert "study 'tiny' is being run by another process" in refused[0]
    # The first has let go of it, and so would one that was killed: its connection is gone.
    assert prunenas(elsewhere, "run", "tiny.yaml", PRUNENAS_STORAGE=storage).returncode == 0
