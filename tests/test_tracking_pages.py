"""MLflow's own pages over a study's store, in a real browser."""

from pathlib import Path

import pytest
import synthetic
import tracked
from browser import browser, needs_browser
from mlflow_pages import walk
from server import mlflow_server

from prunenas.tracking import read_config


@needs_browser
def test_mlflows_pages_show_the_study_its_trials_curves_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(tracked.fresh_database())
    records = synthetic.study()
    tracking = tracked.tracker()
    tracked.run_study(tracking, records)
    (tmp_path / "browser").mkdir()
    with (
        mlflow_server(read_config(), tmp_path / "server.log") as address,
        browser(tmp_path / "browser") as page,
    ):
        walk(
            page,
            address,
            tmp_path,
            experiment=tracked.EXPERIMENT,
            study="quickstart",
            trials=[f"{record['number']:03d} {record['method']}" for record in records],
            trial="000 l1_norm",
            epochs=4,
        )
        page.open(address + tracking.page)
        page.wait_for_text("quickstart", "Child runs")
    assert len(list(tmp_path.glob("?-*.png"))) == 8
