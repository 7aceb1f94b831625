"""Tracking trouble: found out in seconds, told once, written later, never the end of a study."""

import socket
import time
from pathlib import Path

import pytest
import synthetic
import tracked
from server import free_port, mlflow_server

from prunenas.errors import TrackingError
from prunenas.tracking import SafeTracker, check_reachable, read_config
from prunenas.tracking.late import Late


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_nobody_listening_is_found_out_at_once() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    begin = time.monotonic()
    with pytest.raises(TrackingError, match=f"no tracking server answers at {uri}: .*refused"):
        check_reachable(uri)
    assert time.monotonic() - begin < 8


def test_a_server_that_accepts_and_stays_silent_is_found_out_in_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(TrackingError, match=f"no tracking server answers at {uri}"):
            check_reachable(uri)
        assert time.monotonic() - begin < 10


def test_a_database_needs_no_answer() -> None:
    check_reachable("sqlite:////nowhere/mlflow.db")


def test_a_server_works_like_the_embedded_store_and_may_come_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(tracked.fresh_database())
    records = synthetic.study()
    port, clock = free_port(), Clock()
    uri = f"http://127.0.0.1:{port}"
    told: list[str] = []
    tracking = SafeTracker(tracked.tracker(uri), told.append, clock=clock)

    begin = time.monotonic()
    tracked.run_study(tracking, records)
    assert time.monotonic() - begin < 15
    assert len(told) == 1
    assert told[0].startswith(f"tracking: no tracking server answers at {uri}: ")
    assert "`prunenas track quickstart`" in told[0]
    assert "\n" not in told[0]
    # open, five trials, the newest front, close
    assert tracking.late == 8

    config = read_config(f"sqlite:///{tmp_path}/mlflow.db")
    with mlflow_server(config, tmp_path / "server.log", port=port):
        clock.now += 3600
        tracking.close_study("finished")
        assert tracking.late == 0
        assert len(told) == 1
        parent, children = tracked.study_runs(uri)
        assert parent.info.status == "FINISHED"
        assert parent.data.metrics["trials"] == 5
        assert len(children) == 5
        assert children[0].data.metrics["validation/accuracy"] == 0.962
        with tracked.reading(uri) as client:
            names = [each.path for each in client.list_artifacts(children[0].info.run_id)]
            assert sorted(names) == ["architecture.json", "record.json", "widths.png"]
            fetched = client.download_artifacts(parent.info.run_id, "study.yaml", str(tmp_path))
            assert Path(fetched).read_text() == tracked.TEXT
        before = tracked.everything(tmp_path)
        assert tracked.sync(tracked.tracker(uri), records) == 0
        assert tracked.everything(tmp_path) == before
        working = tracked.tracker(uri)
        tracked.open_study(working)
    assert not (tmp_path / "mlruns").exists()

    begin = time.monotonic()
    with pytest.raises(TrackingError, match="trial 5 can't be tracked: Connection refused"):
        working.log_trial(synthetic.record(5, 0.9, 0.4), synthetic.DENSE_WIDTHS)
    assert time.monotonic() - begin < 10


def test_a_store_that_is_away_for_a_while_is_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = tmp_path / "mlflow.db"
    base.write_bytes(tracked.fresh_database())
    records = synthetic.study()
    clock = Clock()
    told: list[str] = []
    tracking = SafeTracker(tracked.tracker(), told.append, clock=clock)
    tracked.open_study(tracking)
    tracking.log_trial(records[0], synthetic.DENSE_WIDTHS)
    assert (tracking.late, told) == (0, [])

    # The database is gone: SQLite makes an empty one, in which MLflow misses its tables.
    base.rename(tmp_path / "away.db")
    tracking.log_trial(records[1], synthetic.DENSE_WIDTHS)
    assert tracking.late == 1
    assert len(told) == 1
    assert "trial 1 can't be tracked" in told[0]

    base.unlink(missing_ok=True)
    (tmp_path / "away.db").rename(base)
    clock.now += 10  # within the pause: not even tried
    tracking.log_trial(records[2], synthetic.DENSE_WIDTHS)
    assert tracking.late == 2
    clock.now += 60
    tracking.log_trial(records[3], synthetic.DENSE_WIDTHS)
    assert (tracking.late, len(told)) == (0, 1)
    _, children = tracked.study_runs(f"sqlite:///{base}")
    assert [run.data.tags["prunenas.trial"] for run in children] == ["0", "1", "2", "3"]


def test_a_record_that_can_not_be_written_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(tracked.fresh_database())
    told: list[str] = []
    tracking = SafeTracker(tracked.tracker(), told.append, clock=Clock())
    tracked.open_study(tracking)
    broken = synthetic.record(0, 0.9, 0.5) | {"started": "yesterday"}
    tracking.log_trial(broken, synthetic.DENSE_WIDTHS)
    tracking.log_trial(synthetic.record(1, 0.9, 0.5), synthetic.DENSE_WIDTHS)
    tracking.close_study("finished")
    assert len(told) == 1
    assert "ValueError" in told[0]
    assert tracking.late == 1
    parent, children = tracked.study_runs(f"sqlite:///{tmp_path}/mlflow.db")
    assert [run.data.tags["prunenas.trial"] for run in children] == ["1"]
    assert parent.info.status == "FINISHED"


def test_a_password_in_the_address_is_not_told() -> None:
    with pytest.raises(TrackingError) as caught:
        check_reachable("http://ada:secret@127.0.0.1:9")
    assert "http://ada:***@127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_ctrl_c_that_a_library_stumbles_over_is_still_ctrl_c() -> None:
    def interrupted_amid_an_import() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise UnboundLocalError("cannot access local variable 'MlflowException'")  # noqa: B904  # as MLflow's own handler does

    told: list[str] = []
    late = Late(tracked.tracker(), told.append)
    with pytest.raises(KeyboardInterrupt):
        late.do("epoch", interrupted_amid_an_import)
    assert told == []
    late.do("epoch", lambda: 1 / 0)  # any other trouble is told, and the training goes on
    assert told == ["ZeroDivisionError: division by zero"]
